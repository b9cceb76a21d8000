// The shared SASL machines, with the chain in the place of the accounts: whatever a mechanism asks ("is this the password",
// "does this proof hold") goes to the hooks `auth` and `sasl`, whose entries bring limits against guessing and accounts of
// their own. A proof is looked at only when an entry asks for it, so a network that is shut out learns nothing of it.
import type { AuthOrigin, AuthResult, Directory } from '../accounts/directory.ts';
import type { SaslContext, SaslMechanism } from '../accounts/sasl/mechanism.ts';
import { offeredMechanisms } from '../accounts/sasl/mechanisms.ts';
import type { AuthOutcome } from '../pipeline/chain.ts';
import type { SaslParts } from './ports.ts';
import type { SmtpSession } from './session.ts';
import type { SessionContext } from './session-context.ts';

export function authOffered(context: SessionContext, secure: boolean): boolean {
  return context.listener.role === 'submission' && (secure || context.listener.allowPlaintextAuth);
}

/** Strongest first; empty where AUTH is not offered. */
export function mechanismsOf({ context, facts, chain }: SmtpSession): readonly SaslMechanism[] {
  if (!authOffered(context, facts.tls !== undefined)) return [];
  const { sasl } = context;
  // RFC 4954 §4: without TLS AUTH is offered only where the listener allows passwords, too.
  return offeredMechanisms(sasl && chain.takesSasl ? sasl : { directory: {} }, { plaintextAllowed: true });
}

export interface ChainLogin {
  readonly context: SaslContext;
  /** What the chain decided; undefined where it was not asked (yet). */
  outcome(): AuthOutcome | undefined;
}

export function loginByChain(session: SmtpSession, mechanism: string): ChainLogin {
  const from: AuthOrigin = { address: session.facts.remote.address, service: 'smtp' };
  const { sasl } = session.context;
  let outcome: AuthOutcome | undefined;

  function settle(decided: AuthOutcome): AuthResult {
    outcome = decided;
    if (decided.kind === 'refused')
      return { kind: decided.reply.code < 500 ? 'unavailable' : 'refused', why: decided.why };
    // Nobody is logged in before the exchange has come to its end: it may still be cancelled.
    session.changeFacts({}, null);
    return { kind: 'ok', account: { name: decided.identity.name, disabled: false } };
  }

  async function prove(parts: SaslParts, username: string, judge: () => Promise<AuthResult>): Promise<AuthResult> {
    const pending = parts.exchanges.add(judge);
    try {
      const decided = await session.chain.sasl({ mechanism, username, exchange: pending.id });
      if (decided.kind === 'refused' || pending.result()?.kind === 'ok') return settle(decided);
      session.changeFacts({}, null);
      session.log.error(
        { event: 'smtp-auth-unproven', session: session.id, mechanism },
        'Plugin accepted without proof',
      );
      return { kind: 'unavailable', why: 'A plugin accepted a login that did not prove true' };
    } finally {
      pending.done();
    }
  }

  const directory: SaslContext['directory'] = {
    async authenticate(username, password) {
      // An empty password is nobody's; to some directories it is a successful bind (RFC 4513 §5.1.2).
      if (password === '') return { kind: 'refused', why: 'empty password' };
      return settle(await session.chain.auth({ mechanism, username, password }));
    },
    ...(sasl?.directory.startScram && { startScram: scramBy(sasl, sasl.directory.startScram, prove) }),
  };
  const verifyToken = sasl?.verifyToken;
  return {
    outcome: () => outcome,
    context: {
      directory,
      from,
      // RFC 4954 §4 has no place for data beside the 235.
      successData: false,
      ...(sasl &&
        verifyToken && {
          verifyToken: (token, username) => prove(sasl, username, () => verifyToken(token, username, from)),
        }),
    },
  };
}

type Prove = (parts: SaslParts, username: string, judge: () => Promise<AuthResult>) => Promise<AuthResult>;

/** The verifier comes from the accounts (a made-up one for unknown names); what a proof means is asked of the chain. */
function scramBy(
  parts: SaslParts,
  startScram: NonNullable<Directory['startScram']>,
  prove: Prove,
): NonNullable<Directory['startScram']> {
  return async (name, hash, from) => {
    const started = await startScram.call(parts.directory, name, hash, from);
    if (started.kind === 'unavailable') return started;
    return { ...started, finish: holds => prove(parts, name, () => started.finish(holds)) };
  };
}
