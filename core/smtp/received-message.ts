// The message as the chain sees it: what the client sent, below our own trace field (RFC 5321 §4.4), and on submission
// with the fields that RFC 6409 §8 lets us add.

import { formatDate } from '../mail/date.ts';
import { type Message, makeMessage, readMessage } from '../mail/message.ts';
import { formatMessageId } from '../mail/message-id.ts';
import { receivedField } from '../mail/received.ts';
import { bufferRope, concatRopes, type Piece, type Rope } from '../mail/rope.ts';
import { allowance, type Incoming } from './incoming.ts';
import type { SmtpSession } from './session.ts';
import type { Transaction } from './transaction.ts';

export async function receivedMessage(
  session: SmtpSession,
  transaction: Transaction,
  incoming: Incoming,
  pieces: readonly Piece[],
): Promise<Message> {
  const prefix = traceField(session, transaction);
  const message = await under(prefix, incoming, pieces);
  if (session.context.listener.role !== 'submission') return message;
  const missing = missingFields(message, transaction, session.context.hostname);
  return missing === '' ? message : under(Buffer.concat([prefix, Buffer.from(missing, 'latin1')]), incoming, pieces);
}

function traceField(session: SmtpSession, transaction: Transaction): Buffer {
  const { facts, context, helo, greetedBy, identity } = session;
  const { recipients, smtputf8 } = transaction.envelope;
  const [only] = recipients;
  return receivedField({
    helo,
    remote: facts.remote,
    hostname: context.hostname,
    protocol: {
      lmtp: greetedBy === 'LHLO',
      extended: greetedBy !== 'HELO',
      tls: facts.tls !== undefined,
      authenticated: identity !== undefined,
      smtputf8,
    },
    ...(facts.tls && { tls: facts.tls }),
    id: transaction.id,
    // RFC 5321 §7.2: with several, each would learn of the others.
    ...(only && recipients.length === 1 && { recipient: only.address.text }),
    at: transaction.receivedAt,
  });
}

/** The bytes below a prefix of whole header fields. Small ones become one buffer; the header is not searched again. */
function under(prefix: Buffer, { decoder, header }: Incoming, pieces: readonly Piece[]): Message | Promise<Message> {
  const small = decoder.size <= allowance && pieces.every(piece => Buffer.isBuffer(piece));
  const rope = small ? bufferRope(Buffer.concat([prefix, ...pieces])) : concatRopes(bufferRope(prefix), ropeOf(pieces));
  if (decoder.headerEnd < 0) return readMessage(rope);
  const end = prefix.length + decoder.headerEnd;
  const [first] = rope.pieces;
  const bytes =
    small && Buffer.isBuffer(first) ? first.subarray(0, end) : Buffer.concat([prefix, header]).subarray(0, end);
  return makeMessage(rope, { section: { bytes, end, bodyStart: end + 2 } });
}

const ropeOf = (pieces: readonly Piece[]): Rope => ({
  size: pieces.reduce((sum, piece) => sum + (Buffer.isBuffer(piece) ? piece.length : piece.end - piece.start), 0),
  pieces,
});

/** RFC 6409 §8.2 and §8.3 */
function missingFields({ headers }: Message, transaction: Transaction, hostname: string): string {
  const date = headers.has('date') ? '' : `Date: ${formatDate(transaction.receivedAt)}\r\n`;
  const id = headers.has('message-id') ? '' : `Message-ID: ${formatMessageId(transaction.id, hostname)}\r\n`;
  return date + id;
}
