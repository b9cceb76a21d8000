// RCPT TO: RFC 5321 §4.1.1.3 with NOTIFY and ORCPT of RFC 3461. A recipient is taken only when somebody in the chain
// settled it; nobody relays by default (invariant I2).
import type { Recipient } from '../mail/envelope.ts';
import { decodeUtf8Address } from '../mail/xtext.ts';
import { hasControls, type Parameters, xtextValue } from './command-line.ts';
import { readPath } from './path-argument.ts';
import { replyText, type SmtpSession } from './session.ts';

type Notify = NonNullable<Recipient['notify']>[number];
type DsnParameters = Pick<Recipient, 'notify' | 'orcpt'>;
type Read = { readonly dsn: DsnParameters } | { readonly code: number; readonly why: string };

export async function rcpt(session: SmtpSession, args: string): Promise<void> {
  const { transaction } = session;
  if (!transaction) return session.error(503, '5.5.1', 'Need MAIL first');
  if (transaction.incoming) return session.error(503, '5.5.1', 'Message data has begun');
  const to = /^TO:\s*/i.exec(args);
  if (!to) return session.error(501, '5.5.4', 'Syntax: RCPT TO:<address>');
  const path = readPath(args, to[0].length);
  if (path.kind === 'bad') return session.error(501, path.enhanced === '' ? '5.1.3' : path.enhanced, path.why);
  if (path.address === null) return session.error(501, '5.1.3', 'Recipient address is empty');
  if (path.nonAscii && !transaction.envelope.smtputf8) return session.error(553, '5.6.7', 'Address needs SMTPUTF8');
  // RFC 5321 §4.1.1.3: <postmaster> has no domain and must be taken; LMTP may name a local user.
  const bare = path.address.domain === '' && session.context.listener.role !== 'lmtp';
  if (bare && path.address.local.toLowerCase() !== 'postmaster')
    return session.error(501, '5.1.3', 'Recipient address must contain a domain');
  const read = readParameters(path.parameters);
  if ('why' in read) return session.error(read.code, '5.5.4', read.why);
  // RFC 5321 §4.5.3.1.10: 452, so that the client sends the rest in another transaction.
  if (transaction.envelope.recipients.length >= session.context.limits.recipients)
    return session.error(452, '4.5.3', 'Too many recipients');
  const recipient: Recipient = { address: path.address, ...read.dsn };
  const outcome = await session.chain.rcpt(transaction.envelope, recipient);
  if (session.isOver) return;
  if (outcome.kind === 'ok' && outcome.settled) {
    if (needsOwnMessage(session, recipient)) {
      transaction.refuse(recipient, replyText(ownMessage));
      return session.reply(ownMessage.code, ownMessage.enhanced, ownMessage.text);
    }
    transaction.accept(recipient);
    session.reply(250, '2.1.5', 'Ok');
    return;
  }
  const reply = outcome.kind === 'ok' ? relayingDenied : outcome.reply;
  transaction.refuse(recipient, replyText(reply));
  session.refuse(reply);
}

/** RFC 5321 §4.5.3.1.10: the client keeps it and sends it again in another transaction. */
const ownMessage = {
  code: 452,
  enhanced: '4.5.3',
  text: 'Recipient needs a message of its own, send it again',
} as const;

/** One reply cannot tell two recipients different things, so those that may fare differently do not share a message. */
function needsOwnMessage({ context, transaction, identity }: SmtpSession, { address }: Recipient): boolean {
  const { recipientsTogether, role } = context.listener;
  const [first] = transaction?.envelope.recipients ?? [];
  if (!first || role !== 'smtp' || recipientsTogether === 'all' || transaction?.prdr || identity) return false;
  return recipientsTogether === 'one' || first.address.domain !== address.domain;
}

const relayingDenied = { code: 550, enhanced: '5.7.1', text: 'Relaying denied' } as const;

function readParameters(given: Parameters): Read {
  if (given.kind === 'bad') return { code: 501, why: `Syntax error: ${given.why}` };
  const dsn: { -readonly [K in keyof DsnParameters]: DsnParameters[K] } = {};
  for (const [keyword, value = ''] of given.values) {
    if (keyword === 'NOTIFY') {
      const notify = readNotify(value);
      if (!notify) return { code: 501, why: 'Parameter NOTIFY malformed' };
      dsn.notify = notify;
    } else if (keyword === 'ORCPT') {
      const orcpt = readOrcpt(value);
      if (!orcpt) return { code: 501, why: 'Parameter ORCPT malformed' };
      dsn.orcpt = orcpt;
    } else return { code: 555, why: 'Parameter not recognized' };
  }
  return { dsn };
}

/** RFC 3461 §4.1 */
function readNotify(value: string): readonly Notify[] | undefined {
  const words = value.toLowerCase().split(',');
  const known: readonly string[] = ['never', 'success', 'failure', 'delay'];
  if (words.some(word => !known.includes(word))) return undefined;
  if (words.length > 1 && words.includes('never')) return undefined;
  return [...new Set(words)] as Notify[];
}

/** RFC 3461 §4.2: addr-type ";" xtext, 500 characters at most; RFC 6533 §3 adds utf-8 addresses as they are. */
function readOrcpt(value: string): Recipient['orcpt'] | undefined {
  const match = /^([A-Za-z0-9-]+);(.+)$/.exec(value);
  if (!match || value.length > 500) return undefined;
  const [, type = '', text = ''] = match;
  const address = type.toLowerCase() === 'utf-8' ? decodeUtf8Address(text) : xtextValue(text);
  return address === undefined || hasControls(address) ? undefined : { type: type.toLowerCase(), address };
}
