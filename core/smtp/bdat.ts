// BDAT (RFC 3030 §2): the message in chunks of stated length, no dots, no terminator. A chunk's bytes follow its command
// whatever becomes of it, so they are always taken off the wire before the reply.
import { defectReply, newIncoming, noRecipients, receive } from './data.ts';
import type { BodySink, Done } from './input.ts';
import type { SmtpSession } from './session.ts';

export function bdat(session: SmtpSession, args: string): Done {
  const match = /^(\d{1,15})(?:\s+(LAST))?$/i.exec(args);
  if (!match || !session.context.listener.chunking) {
    // How many bytes follow is unknown: reading on would take a message for commands.
    session.reply(501, '5.5.4', 'Syntax: BDAT size [LAST]');
    session.close('BDAT malformed');
    return;
  }
  const length = Number(match[1]);
  const last = match[2] !== undefined;
  const { transaction } = session;
  session.bodyStarts();
  if (length > session.context.listener.maxSize * 2 + 1_000_000) {
    // Nobody is going to read that much only to throw it away.
    session.reply(552, '5.3.4', 'Message too large');
    session.close('BDAT too large');
    return;
  }
  if (!transaction || transaction.envelope.recipients.length === 0 || transaction.chunksFailed) {
    const finished = (): void => {
      if (transaction?.chunksFailed) session.error(503, '5.5.1', 'An earlier chunk failed');
      else noRecipients(session, transaction);
    };
    return session.input.startBody(dropSink(length, finished));
  }
  const incoming = transaction.incoming ?? newIncoming(session, transaction, false);
  const finished = (): Done => {
    if (last) return session.guarded(receive(session, transaction, incoming));
    const defect = defectReply(incoming);
    if (!defect) return session.reply(250, '2.0.0', `${length} octets received`);
    transaction.chunksFailed = true;
    session.refuse(defect);
  };
  session.input.startBody(incoming.chunkSink(length, finished));
}

function dropSink(length: number, finished: () => void): BodySink {
  let left = length;
  return {
    take(chunk) {
      const used = Math.min(left, chunk.length);
      left -= used;
      return { used, done: left === 0 };
    },
    finished,
  };
}
