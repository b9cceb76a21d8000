// Which mechanisms a session offers. Order is preference: the strongest first.

import type { Directory } from '../directory.ts';
import { oauthBearer, xoauth2 } from './bearer.ts';
import type { SaslMechanism, VerifyToken } from './mechanism.ts';
import { login, plain } from './plain.ts';
import { scram } from './scram.ts';

export interface SaslOffer {
  /** `plaintext` mechanisms are offered: the connection is encrypted, or the listener allows it without. */
  readonly plaintextAllowed: boolean;
  /** RFC 7677 §4 keeps it for clients that know no better; default false. */
  readonly scramSha1?: boolean;
}

export function offeredMechanisms(
  context: {
    readonly directory: Partial<Pick<Directory, 'authenticate' | 'startScram'>>;
    readonly verifyToken?: VerifyToken;
  },
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
