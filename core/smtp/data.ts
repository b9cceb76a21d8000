// DATA (RFC 5321 §4.1.1.4) and what becomes of a message once its last byte is in, for DATA and BDAT alike: the message
// hooks, then delivery or queue, then the reply: one, or one per recipient (LMTP: RFC 2033 §4.2; PRDR: draft-hall-prdr).

import type { Deliverable } from '../mail/deliverable.ts';
import type { Envelope } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { Reply } from '../mail/reply.ts';
import type { MessageOutcome } from '../pipeline/chain.ts';
import type { ClientFacts } from '../queue/transport.ts';
import type { Defect } from './data-decoder.ts';
import { Incoming, spoolFile } from './incoming.ts';
import type { Done } from './input.ts';
import type { Settlement } from './ports.ts';
import { receivedMessage } from './received-message.ts';
import { replyText, type SmtpSession } from './session.ts';
import type { Transaction, TransactionEnd } from './transaction.ts';

export function data(session: SmtpSession, args: string): Done {
  const { transaction } = session;
  if (args !== '') return session.error(501, '5.5.4', 'DATA takes no parameter');
  if (!transaction) return session.error(503, '5.5.1', 'Need MAIL first');
  // RFC 3030 §2: the two are not mixed; §3: BINARYMIME needs BDAT.
  if (transaction.incoming || transaction.chunksFailed) return session.error(503, '5.5.1', 'BDAT has begun');
  if (transaction.envelope.body === 'BINARYMIME') return session.error(503, '5.5.1', 'BINARYMIME needs BDAT');
  if (transaction.envelope.recipients.length === 0) return noRecipients(session, transaction);
  const incoming = newIncoming(session, transaction, true);
  session.bodyStarts();
  session.input.startBody(incoming.dataSink(() => session.guarded(receive(session, transaction, incoming))));
  session.write('354 End data with <CR><LF>.<CR><LF>\r\n');
}

/** RFC 5321 §3.3: 503, or 554 where recipients were named and none was taken. */
export function noRecipients(session: SmtpSession, transaction: Transaction | undefined): void {
  if (transaction?.anyRefused) session.error(554, '5.5.1', 'No valid recipients');
  else session.error(503, '5.5.1', 'Need RCPT first');
}

export function newIncoming(session: SmtpSession, transaction: Transaction, dots: boolean): Incoming {
  const { listener, limits, spoolDir } = session.context;
  const incoming = new Incoming({
    dots,
    lineEnds: transaction.envelope.body === 'BINARYMIME' ? 'binary' : listener.lineEnds,
    nul: listener.nul,
    maxSize: listener.maxSize,
    maxLine: limits.lineLength,
    maxHeader: listener.headerSize,
    file: spoolFile(spoolDir, transaction.id),
    spoolAbove: listener.spoolAbove,
    memory: session.context.spoolMemory,
    onError: error => session.failed(error, 'spool'),
    onFlood() {
      session.reply(552, '5.3.4', 'Message too large');
      session.close('flood');
    },
  });
  transaction.incoming = incoming;
  return incoming;
}

const defectReplies: Readonly<Record<Defect, Reply<5>>> = {
  // RFC 5321 §2.3.8 and §4.1.1.4
  'bare-line-end': { code: 550, enhanced: '5.6.11', text: 'Bare CR or LF in message' },
  'line-too-long': { code: 550, enhanced: '5.6.0', text: 'Line too long in message' },
  'header-too-large': { code: 552, enhanced: '5.3.4', text: 'Header section too large' },
  nul: { code: 550, enhanced: '5.6.0', text: 'NUL in message' },
  'too-big': { code: 552, enhanced: '5.3.4', text: 'Message too large' },
};
/** RFC 5321 §4.2.3: out of storage, try again. */
const diskFull: Reply<4> = { code: 452, enhanced: '4.3.1', text: 'Insufficient system storage' };
const localError: Reply<4> = { code: 451, enhanced: '4.3.0', text: 'Local error, try again later' };

export const defectReply = (incoming: Incoming): Reply | undefined =>
  incoming.decoder.defect ? defectReplies[incoming.decoder.defect] : incoming.diskFailed ? diskFull : undefined;

/** The last byte is in. Never rejects for what a plugin or the disk does. */
export async function receive(session: SmtpSession, transaction: Transaction, incoming: Incoming): Promise<void> {
  transaction.deciding = true;
  try {
    const pieces = await incoming.pieces();
    const defect = defectReply(incoming);
    if (defect) return end(session, transaction, refusedBy(defect));
    const message = await receivedMessage(session, transaction, incoming, pieces);
    transaction.message = message;
    if (transaction.prdr && transaction.envelope.recipients.length > 1) {
      session.write('353 Content analysis has begun\r\n');
      await session.flush();
    }
    if (session.isOver) return session.endTransaction({ outcome: 'aborted', reply: '' });
    const outcome = await session.chain.message(transaction.envelope, message);
    // A client that is gone did not hear 250 and sends again: nothing of this try may stay.
    if (session.isOver) return session.endTransaction({ outcome: 'aborted', reply: '' });
    const ending = await settle(session, transaction, outcome);
    if (session.context.recorder?.wants()) await recordDecided(session, transaction, message, outcome, ending);
    end(session, transaction, ending);
  } catch (error) {
    // Work that was cut off because the client left is no fault.
    if (session.isOver) return session.endTransaction({ outcome: 'aborted', reply: '' });
    session.failed(error, 'message');
    end(session, transaction, refusedBy(localError));
  }
}

interface Ending extends TransactionEnd {
  readonly say: Reply;
  /** In the order of the client's recipients; absent = `say` for each. */
  readonly perRecipient?: readonly Reply[];
}

function refusedBy(reply: Reply): Ending {
  const outcome = reply.code < 300 ? 'accepted' : reply.code < 500 ? 'deferred' : 'rejected';
  return { say: reply, outcome, reply: replyText(reply) };
}

async function settle(session: SmtpSession, transaction: Transaction, outcome: MessageOutcome): Promise<Ending> {
  if (outcome.kind === 'refused') return refusedBy(outcome.reply);
  if (outcome.kind === 'discard') {
    const say = queued(transaction.id);
    return { say, outcome: 'discarded', reply: replyText(say) };
  }
  const settlement = await session.context.settle({
    id: transaction.id,
    receivedAt: transaction.receivedAt,
    envelope: transaction.envelope,
    deliverable: outcome,
    // An AbortController for each message would cost more than all of its hooks.
    signal: {
      get aborted() {
        return session.isOver;
      },
    },
    perRecipientReplies: repliesPerRecipient(session, transaction),
    client: clientFacts(session),
    trace: end => transaction.describe(session, end),
    session: session.facts,
    helo: session.helo,
    ...(session.identity && { identity: session.identity }),
  });
  return settled(settlement, outcome);
}

/** Before the reply: afterwards the spooled bytes are gone. */
async function recordDecided(
  session: SmtpSession,
  transaction: Transaction,
  message: Message,
  outcome: MessageOutcome,
  ending: Ending,
): Promise<void> {
  const { id, receivedAt, envelope } = transaction;
  await session.context.recorder?.record({
    id,
    receivedAt,
    envelope,
    refused: transaction.refusedRecipients,
    message,
    session: session.facts,
    helo: session.helo,
    ...(session.identity && { identity: session.identity }),
    outcome,
    trace: transaction.describe(session, ending),
  });
}

function repliesPerRecipient(session: SmtpSession, transaction: Transaction): boolean {
  const prdr = transaction.prdr && transaction.envelope.recipients.length > 1;
  return session.context.listener.role === 'lmtp' || prdr;
}

function clientFacts({ facts, helo, greetedBy, identity }: SmtpSession): ClientFacts {
  const { address, port, name } = facts.remote;
  return {
    address,
    port,
    helo,
    protocol: greetedBy === 'LHLO' ? 'LMTP' : greetedBy === 'EHLO' ? 'ESMTP' : 'SMTP',
    ...(name !== undefined && { name }),
    ...(identity && { identity: identity.name }),
  };
}

function settled(settlement: Settlement, deliverable: Deliverable): Ending {
  const { reply, perRecipient, recipients } = settlement;
  const accepted = reply.code < 300 || perRecipient.some(each => each.code < 300);
  return {
    say: reply,
    perRecipient,
    recipients,
    reply: replyText(reply),
    outcome: accepted
      ? deliverable.kind === 'quarantine'
        ? 'quarantined'
        : 'accepted'
      : reply.code < 500
        ? 'deferred'
        : 'rejected',
  };
}

export const queued = (id: string): Reply<2> => ({ code: 250, enhanced: '2.0.0', text: `Ok: queued as ${id}` });

function end(session: SmtpSession, transaction: Transaction, ending: Ending): void {
  const { envelope } = transaction;
  session.endTransaction(ending);
  if (session.isOver) return;
  const all = replies(session, transaction, envelope, ending);
  for (const reply of all) session.sayReply(reply);
  // One message, one error: with many recipients (LMTP) the later replies must still be heard.
  if (all.some(reply => reply.code >= 400)) session.countError();
}

function replies(session: SmtpSession, transaction: Transaction, envelope: Envelope, ending: Ending): readonly Reply[] {
  const lmtp = session.context.listener.role === 'lmtp';
  const prdr = transaction.prdr && envelope.recipients.length > 1 && transaction.message !== undefined;
  if (!lmtp && !prdr) return [ending.say];
  const each = envelope.recipients.map((_, index) => ending.perRecipient?.[index] ?? ending.say);
  return lmtp ? each : [...each, ending.say];
}
