// The message as the chain sees it: what the client sent, below our own trace field, and on submission with the fields
// that RFC 6409 §8 lets us add.

import type { Message } from '../mail/message.ts';
import type { Piece } from '../mail/rope.ts';
import type { SmtpSession } from './session.ts';
import type { Transaction } from './transaction.ts';
import { messageOf, receivedField } from './values-until-landed.ts';

export async function receivedMessage(
  session: SmtpSession,
  transaction: Transaction,
  pieces: readonly Piece[],
): Promise<Message> {
  const { context, facts } = session;
  const header = transaction.incoming?.header ?? Buffer.alloc(0);
  const prefix =
    receivedField(session, transaction) +
    (context.listener.role === 'submission' ? missing(header, transaction, context.hostname) : '');
  void facts;
  const all = [Buffer.from(prefix, 'utf8'), ...pieces];
  const whole = all.every(piece => Buffer.isBuffer(piece)) ? [Buffer.concat(all as Buffer[])] : all;
  return messageOf(
    {
      size: whole.reduce((sum, piece) => sum + (Buffer.isBuffer(piece) ? piece.length : piece.end - piece.start), 0),
      pieces: whole,
    },
    Buffer.concat([Buffer.from(prefix), header]),
  );
}

function missing(header: Buffer, transaction: Transaction, hostname: string): string {
  const text = header.toString('latin1');
  const date = /^date:/im.test(text)
    ? ''
    : `Date: ${new Date(transaction.receivedAt).toUTCString().replace('GMT', '+0000')}\r\n`;
  return /^message-id:/im.test(text) ? date : `${date}Message-ID: <${transaction.id}@${hostname}>\r\n`;
}
