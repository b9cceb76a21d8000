// Which mechanisms a session offers. Order is preference: the strongest first.
import { oauthBearer, xoauth2 } from './bearer.ts';
import type { SaslContext, SaslMechanism } from './mechanism.ts';
import { login, plain } from './plain.ts';
import { scram } from './scram.ts';

export interface SaslOffer {
  /** `plaintext` mechanisms are offered: the connection is encrypted, or the listener allows it without. */
  readonly plaintextAllowed: boolean;
  /** RFC 7677 §4 keeps it for clients that know no better; default false. */
  readonly scramSha1?: boolean;
}

export function offeredMechanisms(
  context: Pick<SaslContext, 'directory' | 'verifyToken'>,
  offer: SaslOffer,
): readonly SaslMechanism[] {
  const hasScram = context.directory.startScram !== undefined;
  return [
    ...(hasScram ? [scram('SHA-256')] : []),
    ...(hasScram && offer.scramSha1 === true ? [scram('SHA-1')] : []),
    ...(context.verifyToken === undefined ? [] : [oauthBearer, xoauth2]),
    plain,
    login,
  ].filter(mechanism => offer.plaintextAllowed || !mechanism.plaintext);
}
