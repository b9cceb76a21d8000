// AUTH (RFC 4954): the exchange, its replies, the delay after a failure and the cap on failures. Mechanisms are the shared
// machines of `accounts/sasl`; who may come in is decided by the chain. Passwords, tokens and proofs go nowhere but there
// (invariant I8).

import type { SaslExchange, SaslStep } from '../accounts/sasl/mechanism.ts';
import type { Reply } from '../mail/reply.ts';
import type { Done } from './input.ts';
import { type ChainLogin, loginByChain, mechanismsOf } from './sasl-by-chain.ts';
import { maxAuthLine, type SmtpSession } from './session.ts';

interface Login extends ChainLogin {
  readonly exchange: SaslExchange;
}

export function auth(session: SmtpSession, args: string): Done {
  const mechanisms = mechanismsOf(session);
  if (mechanisms.length === 0) return session.error(502, '5.5.1', 'Command not implemented');
  // RFC 4954 §4
  if (session.identity) return session.error(503, '5.5.1', 'Already authenticated');
  if (session.transaction) return session.error(503, '5.5.1', 'Mail transaction in progress');
  const [name = '', initial, ...more] = args.split(/\s+/);
  if (name === '' || more.length > 0) return session.error(501, '5.5.4', 'Syntax: AUTH mechanism [initial response]');
  const mechanism = mechanisms.find(one => one.name === name.toUpperCase());
  if (!mechanism) return session.error(504, '5.5.4', 'Mechanism not supported');
  // RFC 4954 §4: `=` is an empty initial response.
  const response = initial === undefined ? undefined : decoded(initial === '=' ? '' : initial);
  if (response === 'malformed') return session.error(501, '5.5.2', 'Response is not base64');
  const login = loginByChain(session, mechanism.name);
  return proceed(session, { ...login, exchange: mechanism.start(login.context) }, response);
}

async function proceed(session: SmtpSession, login: Login, response: Buffer | undefined): Promise<void> {
  const step = await login.exchange.step(response);
  if (session.isOver) return;
  if (step.kind === 'challenge') ask(session, login, step.data);
  else await conclude(session, login.outcome(), step);
}

/** Sends a challenge; the next line is the answer, `*` gives up (RFC 4954 §4). */
function ask(session: SmtpSession, login: Login, challenge: Buffer): void {
  session.write(`334 ${challenge.toString('base64')}\r\n`);
  session.input.maxLine = maxAuthLine;
  session.continuation = given => {
    session.continuation = undefined;
    session.input.maxLine = session.maxLine;
    const line = given.trim();
    if (line === '*') return session.error(501, '5.7.0', 'Authentication cancelled');
    const response = decoded(line);
    if (response === 'malformed') return session.error(501, '5.5.2', 'Response is not base64');
    return proceed(session, login, response);
  };
}

function decoded(base64: string): Buffer | 'malformed' {
  const holds = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(base64);
  return holds ? Buffer.from(base64, 'base64') : 'malformed';
}

/** RFC 4954 §6 */
const unavailable: Reply<4> = { code: 454, enhanced: '4.7.0', text: 'Temporary authentication failure' };
const invalid = '5.7.8 Authentication credentials invalid';

async function conclude(
  session: SmtpSession,
  outcome: ReturnType<ChainLogin['outcome']>,
  step: Exclude<SaslStep, { readonly kind: 'challenge' }>,
): Promise<void> {
  if (step.kind === 'malformed') return session.error(501, '5.5.2', 'Response malformed');
  if (step.kind === 'ok') {
    if (outcome?.kind !== 'ok') throw new Error('Mechanism succeeded without the chain');
    session.changeFacts({}, outcome.identity);
    session.reply(235, '2.7.0', 'Authentication successful');
    return;
  }
  session.log.info(
    { event: 'smtp-auth-failed', session: session.id, client: session.facts.remote.address, why: step.why },
    'AUTH refused',
  );
  const reply = outcome?.kind === 'refused' ? outcome.reply : undefined;
  // A backend that is down is not the client's fault (invariant I4).
  if (step.kind === 'unavailable') session.refuse(reply ?? unavailable);
  else await failed(session, reply ? `${reply.enhanced} ${reply.text}` : invalid);
}

async function failed(session: SmtpSession, text: string): Promise<void> {
  const { authFailureDelayMs, authFailures } = session.context.limits;
  session.authFailures += 1;
  if (authFailureDelayMs > 0) await session.pause(authFailureDelayMs * session.authFailures);
  if (session.isOver) return;
  if (session.authFailures >= authFailures) {
    session.write(`535 ${text}\r\n`);
    session.drop('4.7.0', 'Too many failed authentications');
  } else {
    const [enhanced = '5.7.8', ...words] = text.split(' ');
    session.error(535, enhanced, words.join(' '));
  }
}
