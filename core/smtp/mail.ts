// MAIL FROM: RFC 5321 §4.1.1.2 with the parameters of RFC 1870, 3030, 3461, 4954, 6152, 6531, 8689 and PRDR.
import type { Envelope } from '../mail/envelope.ts';
import { type Parameters, xtextValue } from './command-line.ts';
import { readPath } from './path-argument.ts';
import type { SmtpSession } from './session.ts';
import { Transaction } from './transaction.ts';

type Refusal = readonly [code: number, enhanced: string, text: string];
type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type MailParameters = { readonly fields: Omit<Envelope, 'sender' | 'recipients'>; readonly prdr: boolean };

export async function mail(session: SmtpSession, args: string): Promise<void> {
  const { context, chain } = session;
  if (session.transaction) return session.error(503, '5.5.1', 'Sender already given');
  // RFC 9422 §4.1: MAILMAX
  if (session.transactionCount >= context.limits.messagesPerSession)
    return session.drop('4.7.0', 'Too many messages in this session');
  const from = /^FROM:\s*/i.exec(args);
  if (!from) return session.error(501, '5.5.4', 'Syntax: MAIL FROM:<address>');
  const path = readPath(args, from[0].length);
  if (path.kind === 'bad') return session.error(501, path.enhanced === '' ? '5.1.7' : path.enhanced, path.why);
  const read = readParameters(session, path.parameters);
  if ('refusal' in read) return session.error(...read.refusal);
  if (path.nonAscii && !read.fields.smtputf8)
    // RFC 6531 §3.4
    return session.error(553, '5.6.7', 'Address needs SMTPUTF8');
  if (path.address && path.address.domain === '')
    return session.error(501, '5.1.7', 'Sender address must contain a domain');
  const transaction = new Transaction(context.ids.message(), context.clock, {
    sender: path.address,
    recipients: [],
    ...read.fields,
  });
  transaction.prdr = read.prdr;
  session.begin(transaction);
  const outcome = await chain.mail(transaction.id, transaction.envelope);
  if (session.isOver) return;
  if (outcome.kind === 'ok') return session.reply(250, '2.1.0', 'Ok');
  session.endRefused(outcome.reply);
}

function readParameters(session: SmtpSession, given: Parameters): MailParameters | { readonly refusal: Refusal } {
  if (given.kind === 'bad') return { refusal: [501, '5.5.4', `Syntax error: ${given.why}`] };
  const fields: Mutable<MailParameters['fields']> = { smtputf8: false, requireTls: false };
  let prdr = false;
  for (const [keyword, value] of given.values) {
    if (keyword === 'PRDR' && value === undefined && session.context.listener.prdr) {
      prdr = true;
      continue;
    }
    const read = parameters[keyword];
    const refusal: Refusal | undefined = read
      ? read(value, fields, session)
      : // RFC 5321 §4.1.1.11
        [555, '5.5.4', 'Parameter not recognized'];
    if (refusal) return { refusal };
  }
  return { fields, prdr };
}

const malformed = (what: string): Refusal => [501, '5.5.4', `Parameter ${what} malformed`];
const unknown: Refusal = [555, '5.5.4', 'Parameter not recognized'];

type Reader = (
  value: string | undefined,
  into: Mutable<MailParameters['fields']>,
  session: SmtpSession,
) => Refusal | undefined;

const parameters: Readonly<Record<string, Reader>> = {
  // RFC 1870 §6.1
  SIZE(value, into, { context }) {
    if (value === undefined || !/^\d{1,20}$/.test(value)) return malformed('SIZE');
    into.declaredSize = Number(value);
    return into.declaredSize > context.listener.maxSize ? [552, '5.3.4', 'Message too large'] : undefined;
  },
  // RFC 6152 §3, RFC 3030 §3
  BODY(value, into, { context }) {
    const body = value?.toUpperCase();
    if (body === 'BINARYMIME' && !context.listener.binaryMime) return [504, '5.5.4', 'BINARYMIME not offered'];
    if (body !== '7BIT' && body !== '8BITMIME' && body !== 'BINARYMIME') return malformed('BODY');
    into.body = body;
    return undefined;
  },
  // RFC 6531 §3.4
  SMTPUTF8(value, into) {
    into.smtputf8 = true;
    return value === undefined ? undefined : malformed('SMTPUTF8');
  },
  // RFC 8689 §2: known only inside TLS
  REQUIRETLS(value, into, { facts }) {
    if (!facts.tls) return unknown;
    into.requireTls = true;
    return value === undefined ? undefined : malformed('REQUIRETLS');
  },
  // RFC 3461 §4.3
  RET(value, into) {
    const ret = value?.toUpperCase();
    if (ret !== 'FULL' && ret !== 'HDRS') return malformed('RET');
    into.ret = ret;
    return undefined;
  },
  // RFC 3461 §4.4
  ENVID(value, into) {
    const envid = value === undefined || value.length > 100 ? undefined : xtextValue(value);
    if (envid === undefined) return malformed('ENVID');
    into.envid = envid;
    return undefined;
  },
  // RFC 4954 §5: part of AUTH, so known where AUTH is offered
  AUTH(value, into, { context }) {
    if (context.listener.role !== 'submission') return unknown;
    const mailbox = value === '<>' ? value : value === undefined ? undefined : xtextValue(value);
    if (mailbox === undefined) return malformed('AUTH');
    into.auth = mailbox;
    return undefined;
  },
};
