// Bearer tokens of one issuer, as OAUTHBEARER and XOAUTH2 bring them: the issuer says whether a token holds (RFC 7662), the
// accounts say whose it is. A token is asked about at every login, so one that is revoked ends with the next.
import type { Clock } from '../lib/clock.ts';
import type { AuthLimits } from './auth-limits.ts';
import type { AuthResult, Directory } from './directory.ts';
import type { VerifyToken } from './sasl/mechanism.ts';

/** RFC 7662 §2.2: the issuer's answer, a JSON object. `unavailable`: it could not be asked, or answered anything else. */
export type Introspect = (
  token: string,
) => Promise<
  | { readonly kind: 'answer'; readonly claims: Readonly<Record<string, unknown>> }
  | { readonly kind: 'unavailable'; readonly why: string }
>;

export interface TokenVerifierOptions {
  readonly introspect: Introspect;
  readonly directory: Pick<Directory, 'find'>;
  readonly limits: AuthLimits;
  readonly clock: Clock;
  /** Claim that names the account: a full address, or a local part where that is unambiguous. */
  readonly account: string;
  /** What `iss` must be, what `aud` must hold, what `scope` must list; absent = anything. */
  readonly issuer?: string | undefined;
  readonly audience?: string | undefined;
  readonly scope?: string | undefined;
}

type Claims = Readonly<Record<string, unknown>>;
type Expected = Pick<TokenVerifierOptions, 'issuer' | 'audience' | 'scope' | 'clock'>;

/** Why the token does not hold; undefined where it does. */
function fault(claims: Claims, { issuer, audience, scope, clock }: Expected): string | undefined {
  // RFC 7662 §2.2: the only member that is always there, and no reason is given with `false`.
  if (claims['active'] !== true) return 'token is not active';
  const { exp, nbf, iss, aud } = claims;
  const now = clock.now() / 1000;
  if (typeof exp === 'number' && exp <= now) return 'token has expired';
  if (typeof nbf === 'number' && nbf > now) return 'token does not hold yet';
  if (issuer !== undefined && iss !== issuer) return 'token is of another issuer';
  // RFC 7519 §4.1.3: one string, or several.
  if (audience !== undefined && ![aud].flat().includes(audience)) return 'token is for another audience';
  const scopes = typeof claims['scope'] === 'string' ? claims['scope'].split(' ') : [];
  if (scope !== undefined && !scopes.includes(scope)) return `token lacks scope '${scope}'`;
  return undefined;
}

export function createTokenVerifier(options: TokenVerifierOptions): VerifyToken {
  const { directory, limits } = options;

  async function judge(token: string, username: string): Promise<AuthResult> {
    const asked = await options.introspect(token);
    if (asked.kind === 'unavailable') return asked;
    const why = fault(asked.claims, options);
    if (why !== undefined) return { kind: 'refused', why };
    const name = asked.claims[options.account];
    if (typeof name !== 'string' || name === '')
      return { kind: 'refused', why: `token has no claim '${options.account}'` };
    const found = await directory.find(name);
    if (found.kind === 'unavailable') return found;
    if (found.kind === 'none') return { kind: 'refused', why: 'no such account' };
    if (found.value.disabled) return { kind: 'refused', why: 'account is disabled' };
    // RFC 7628 §3.1: whom the client wants to be is not taken from the token, and may be only its owner here.
    const claimed = username === '' ? found : await directory.find(username);
    if (claimed.kind === 'unavailable') return claimed;
    if (claimed.kind === 'none' || claimed.value.name !== found.value.name)
      return { kind: 'refused', why: 'token belongs to another account' };
    return { kind: 'ok', account: found.value };
  }

  return async (token, username, from) => {
    // Where no account is named the address alone is counted.
    const account = username === '' ? `token from ${from.address}` : username.toLowerCase().slice(0, 320);
    const attempt = { address: from.address, account, password: token };
    try {
      return await limits.within(attempt, () => judge(token, username));
    } catch (error) {
      return { kind: 'unavailable', why: error instanceof Error ? error.message : String(error) };
    }
  };
}
