// HELO, EHLO (RFC 5321 §4.1.1.1) and LHLO (RFC 2033 §4.1), and what is offered in the answer.

import { authOffered, mechanismsOf } from './sasl-by-chain.ts';
import { maxAuthLine, maxCommandLine, type SmtpSession } from './session.ts';
import type { SessionContext } from './session-context.ts';

export async function hello(session: SmtpSession, verb: 'HELO' | 'EHLO' | 'LHLO', name: string): Promise<void> {
  // RFC 5321 §2.3.5 would refuse much more; real clients send addresses and machine names, which plugins may judge.
  if (name === '') return session.error(501, '5.5.4', `${verb} needs a host name`);
  if (/\s/.test(name) || name.length > 255 || /[^\x21-\x7e]/.test(name))
    return session.error(501, '5.5.4', 'Host name malformed');
  // RFC 5321 §4.1.4: a new greeting resets like RSET.
  session.abortTransaction();
  const outcome = await session.chain.helo(name);
  if (session.isOver) return;
  if (outcome.kind === 'refused') {
    session.helo = name;
    session.recordRefusedSession('helo', outcome);
    session.helo = '';
    session.greetedBy = undefined;
    return session.refuse(outcome.reply);
  }
  session.helo = name;
  session.greetedBy = verb;
  // A token as initial response is longer than any other command, and many clients send it so whatever its length.
  const mayLogIn = authOffered(session.context, session.facts.tls !== undefined) && !session.identity;
  session.maxLine = mayLogIn ? maxAuthLine : maxCommandLine;
  session.input.maxLine = session.maxLine;
  // RFC 2034 §4: no enhanced status code in these.
  if (verb === 'HELO') session.write(`250 ${session.context.hostname}\r\n`);
  else session.write(`250-${session.context.hostname}\r\n${keywordLines(session)}`);
}

const cache = new WeakMap<SessionContext, Map<string, string>>();

function keywordLines(session: SmtpSession): string {
  const { context, facts, identity } = session;
  const mechanisms = identity ? [] : mechanismsOf(session).map(({ name }) => name);
  const trusted = context.xclientFrom.has(session.peerAddress);
  const key = `${facts.tls !== undefined} ${mechanisms} ${trusted}`;
  let lines = cache.get(context);
  if (!lines) {
    lines = new Map();
    cache.set(context, lines);
  }
  const known = lines.get(key);
  if (known !== undefined) return known;
  const words = keywords(context, facts.tls !== undefined, mechanisms, trusted);
  const text = words.map((word, index) => `250${index < words.length - 1 ? '-' : ' '}${word}\r\n`).join('');
  lines.set(key, text);
  return text;
}

function keywords(
  context: SessionContext,
  secure: boolean,
  mechanisms: readonly string[],
  trusted: boolean,
): readonly string[] {
  const { listener, limits } = context;
  const words = ['PIPELINING', `SIZE ${listener.maxSize}`, '8BITMIME', 'SMTPUTF8', 'DSN', 'ENHANCEDSTATUSCODES'];
  if (listener.chunking) words.push('CHUNKING');
  if (listener.chunking && listener.binaryMime) words.push('BINARYMIME');
  if (context.startTlsOffered && !secure) words.push('STARTTLS');
  // RFC 8689 §2: only inside TLS.
  if (secure) words.push('REQUIRETLS');
  if (mechanisms.length > 0) words.push(`AUTH ${mechanisms.join(' ')}`);
  // RFC 9422 §4
  words.push(`LIMITS MAILMAX=${limits.messagesPerSession} RCPTMAX=${limits.recipients}`);
  if (listener.prdr && listener.role !== 'lmtp') words.push('PRDR');
  if (context.flushQueue) words.push('ETRN');
  if (trusted) words.push('XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT');
  words.push('HELP');
  return words;
}
