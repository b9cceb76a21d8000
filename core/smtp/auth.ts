// AUTH (RFC 4954) with PLAIN (RFC 4616) and LOGIN. Who may come in is decided by the chain; here are the exchange, the
// delay after a failure and the cap on failures. Passwords go nowhere but to the chain (invariant I8).

import type { Credentials } from '../plugin/contract.ts';
import { authOffered } from './hello.ts';
import type { Done } from './input.ts';
import { maxAuthLine, maxCommandLine, type SmtpSession } from './session.ts';

export function auth(session: SmtpSession, args: string): Done {
  const { context, facts } = session;
  if (!authOffered(context, facts.tls !== undefined)) return session.error(502, '5.5.1', 'Command not implemented');
  // RFC 4954 §4
  if (session.identity) return session.error(503, '5.5.1', 'Already authenticated');
  if (session.transaction) return session.error(503, '5.5.1', 'Mail transaction in progress');
  const [mechanism = '', initial, ...more] = args.split(/\s+/);
  if (mechanism === '' || more.length > 0)
    return session.error(501, '5.5.4', 'Syntax: AUTH mechanism [initial response]');
  switch (mechanism.toUpperCase()) {
    case 'PLAIN':
      return initial === undefined
        ? ask(session, '', text => plain(session, text))
        : decoded(session, initial, text => plain(session, text));
    case 'LOGIN':
      return initial === undefined
        ? ask(session, 'Username:', name => login(session, name))
        : decoded(session, initial, name => login(session, name));
    default:
      return session.error(504, '5.5.4', 'Mechanism not supported');
  }
}

/** RFC 4616 §2: authzid NUL authcid NUL passwd. Nobody acts for somebody else here. */
function plain(session: SmtpSession, text: string): Done {
  const [actsFor, username, password, ...more] = text.split('\0');
  if (!username || !password || more.length > 0) return session.error(501, '5.5.2', 'Response malformed');
  if (actsFor !== '' && actsFor !== username) return failed(session, '5.7.8 Authentication credentials invalid');
  return decide(session, { mechanism: 'PLAIN', username, password });
}

function login(session: SmtpSession, username: string): Done {
  return ask(session, 'Password:', password =>
    username === '' || password === ''
      ? session.error(501, '5.5.2', 'Response malformed')
      : decide(session, { mechanism: 'LOGIN', username, password }),
  );
}

/** Sends a challenge; the next line is the answer, `*` gives up (RFC 4954 §4). */
function ask(session: SmtpSession, challenge: string, answer: (text: string) => Done): void {
  session.write(`334 ${Buffer.from(challenge, 'latin1').toString('base64')}\r\n`);
  session.input.maxLine = maxAuthLine;
  session.continuation = line => {
    session.continuation = undefined;
    session.input.maxLine = maxCommandLine;
    if (line.trim() === '*') return session.error(501, '5.7.0', 'Authentication cancelled');
    return decoded(session, line.trim(), answer);
  };
}

function decoded(session: SmtpSession, base64: string, then: (text: string) => Done): Done {
  // RFC 4954 §4: `=` is an empty initial response.
  if (base64 === '=') return then('');
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(base64))
    return session.error(501, '5.5.2', 'Response is not base64');
  return then(Buffer.from(base64, 'base64').toString('utf8'));
}

async function decide(session: SmtpSession, offered: Credentials): Promise<void> {
  const outcome = await session.chain.auth(offered);
  if (session.isOver) return;
  if (outcome.kind === 'ok') {
    session.identity = outcome.identity;
    session.reply(235, '2.7.0', 'Authentication successful');
    return;
  }
  const { code, enhanced, text } = outcome.reply;
  session.log.info(
    { event: 'smtp-auth-failed', session: session.id, client: session.facts.remote.address, why: outcome.why },
    'AUTH refused',
  );
  // A backend that is down is not the client's fault (invariant I4).
  if (code < 500) session.refuse(outcome.reply);
  else await failed(session, `${enhanced} ${text}`);
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
