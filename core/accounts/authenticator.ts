// What "log in" means, whatever holds the accounts: limits, verified-password cache, the same time for an unknown account
// as for a wrong password, a new hash where the old one is weak. `users.ts` and `passwd-file.ts` bring the accounts.
//
// Refusals are answered at `refusalAfterMs` at the earliest: hashes of migrated accounts may be quicker or slower than
// those of unknown ones, and that would tell them apart.

import { createHash, createHmac, randomBytes } from 'node:crypto';
import type { Clock } from '../lib/clock.ts';
import { keepNewest } from '../lib/keep-newest.ts';
import type { AuthLimits } from './auth-limits.ts';
import type {
  Account,
  AuthOrigin,
  AuthResult,
  Directory,
  Lookup,
  ScramHash,
  ScramStart,
  ScramVerifier,
} from './directory.ts';
import type { Passwords } from './passwords.ts';
import { digestBytes, makeScramVerifier, parseScram } from './schemes/scram-verifier.ts';
import { splitScheme } from './schemes/verify.ts';

/** An account with its secrets. */
export interface StoredAccount extends Account {
  /** `{SCHEME}data`; absent where nobody can log in with a password. */
  readonly password?: string;
  /** As `formatScram` makes it. */
  readonly scramSha256?: string;
  readonly scramSha1?: string;
}

export interface AccountSource {
  lookup(name: string): Promise<Lookup<StoredAccount>>;
  /** After a login with this right password: may store a better hash or a missing SCRAM verifier. Absent: read-only. */
  upgrade?(account: StoredAccount, password: string): Promise<void>;
}

export interface AuthenticatorOptions {
  readonly source: AccountSource;
  readonly passwords: Passwords;
  readonly limits: AuthLimits;
  readonly clock: Clock;
  /** Default 500. */
  readonly refusalAfterMs?: number;
  /** How long a right password is believed without hashing it again. Default 10 minutes; 0 = never. */
  readonly cacheMs?: number;
  warn(message: string, details: Readonly<Record<string, unknown>>): void;
}

const maxPasswordBytes = 1024;
const maxCached = 10_000;

/** Keyed with a secret of this process: the cache holds nothing that a password could be guessed from. */
function verifiedCache(clock: Clock, ttlMs: number) {
  const secret = randomBytes(32);
  const until = new Map<string, number>();
  const key = (stored: StoredAccount, password: string): string =>
    createHmac('sha256', secret)
      .update(JSON.stringify([stored.name, stored.password, password]))
      .digest('base64');
  return {
    has: (stored: StoredAccount, password: string): boolean =>
      (until.get(key(stored, password)) ?? 0) > clock.monotonic(),
    add(stored: StoredAccount, password: string): void {
      if (ttlMs <= 0) return;
      keepNewest(until, key(stored, password), clock.monotonic() + ttlMs, maxCached);
    },
  };
}

const describe = (error: unknown): string => (error instanceof Error ? error.message : String(error));
export const toAccount = ({ name, quotaBytes, disabled }: StoredAccount): Account => ({
  name,
  disabled,
  ...(quotaBytes !== undefined && { quotaBytes }),
});

export function makeAuthenticator(
  options: AuthenticatorOptions,
): Required<Pick<Directory, 'authenticate' | 'startScram'>> {
  const { source, passwords, limits, clock } = options;
  const refusalAfterMs = options.refusalAfterMs ?? 500;
  const cache = verifiedCache(clock, options.cacheMs ?? 600_000);
  const secret = randomBytes(32);

  const wait = (ms: number): Promise<void> =>
    ms <= 0 ? Promise.resolve() : new Promise(resolve => void clock.after(ms, resolve));
  /** Limits count by the account where there is one, so that `alice` and `alice@example.org` are one. */
  const attemptBy = (name: string, from: AuthOrigin, found: Lookup<StoredAccount>, password?: string) => ({
    address: from.address,
    account: found.kind === 'found' ? found.value.name : name.toLowerCase().slice(0, 320),
    ...(password !== undefined && { password }),
  });

  async function judge(found: Lookup<StoredAccount>, password: string): Promise<AuthResult> {
    const refused = (why: string): AuthResult => ({ kind: 'refused', why });
    if (Buffer.byteLength(password) > maxPasswordBytes || password.includes('\0'))
      return refused('password is too long or holds NUL');
    const stored = found.kind === 'found' ? found.value : undefined;
    if (stored?.password === undefined) {
      await passwords.waste(password);
      return refused(stored === undefined ? 'no such account' : 'account without a password');
    }
    const match = cache.has(stored, password) ? 'match' : await passwords.verify(stored.password, password);
    if (match === 'match')
      return stored.disabled ? refused('account is disabled') : { kind: 'ok', account: toAccount(stored) };
    if (!passwords.isCurrent(stored.password)) await passwords.waste(password);
    if (match === 'mismatch') return refused('wrong password');
    const { scheme } = splitScheme(stored.password);
    options.warn('Password scheme cannot be verified', { account: stored.name, scheme });
    return refused(`password scheme "${scheme}" cannot be verified here`);
  }

  async function upgrade(account: StoredAccount, password: string): Promise<void> {
    try {
      await source.upgrade?.(account, password);
    } catch (error) {
      options.warn('Stored password could not be renewed', { account: account.name, error });
    }
  }

  async function authenticate(name: string, password: string, from: AuthOrigin): Promise<AuthResult> {
    const startedAt = clock.monotonic();
    try {
      const found = await source.lookup(name);
      if (found.kind === 'unavailable') return found;
      const result = await limits.within(attemptBy(name, from, found, password), () => judge(found, password));
      if (result.kind === 'refused') await wait(startedAt + refusalAfterMs - clock.monotonic());
      if (result.kind === 'ok' && found.kind === 'found' && !cache.has(found.value, password)) {
        cache.add(found.value, password);
        // Not awaited: the client need not wait for a hash that helps next time.
        void upgrade(found.value, password);
      }
      return result;
    } catch (error) {
      return { kind: 'unavailable', why: describe(error) };
    }
  }

  /** The same for every attempt at one name, as a real one is. */
  function madeUpVerifier(name: string, hash: ScramHash): ScramVerifier {
    const derive = (what: string): Buffer =>
      createHmac('sha256', secret).update(`${what}\0${hash}\0${name.toLowerCase()}`).digest();
    const size = digestBytes(hash);
    return {
      salt: derive('salt').subarray(0, 16),
      iterations: passwords.scramIterations,
      storedKey: derive('stored').subarray(0, size),
      serverKey: derive('server').subarray(0, size),
    };
  }

  function storedVerifier(account: StoredAccount, hash: ScramHash): ScramVerifier | undefined {
    const text = hash === 'SHA-1' ? account.scramSha1 : account.scramSha256;
    if (text !== undefined) return parseScram(text, hash);
    const { scheme, data } = splitScheme(account.password ?? '');
    if (scheme === `SCRAM-${hash}`) return parseScram(data, hash);
    if (scheme !== 'PLAIN' && scheme !== 'CLEAR' && scheme !== 'CLEARTEXT') return undefined;
    const salt = createHash('sha256').update(secret).update(account.name).digest().subarray(0, 16);
    return makeScramVerifier(data, hash, salt, 4096);
  }

  async function startScram(name: string, hash: ScramHash, from: AuthOrigin): Promise<ScramStart> {
    try {
      const found = await source.lookup(name);
      if (found.kind === 'unavailable') return found;
      const attempt = attemptBy(name, from, found);
      const limit = limits.blocked(attempt);
      if (limit !== undefined) return { kind: 'unavailable', why: limit };
      const account = found.kind === 'found' ? found.value : undefined;
      const verifier = account && storedVerifier(account, hash);
      const startedAt = clock.monotonic();
      return {
        kind: 'verifier',
        verifier: verifier ?? madeUpVerifier(name, hash),
        // Only here it is under way: a client may leave an exchange where it is, and others would wait for it.
        async finish(proofHolds) {
          const result = await limits.within(attempt, async () => {
            if (account === undefined) return { kind: 'refused', why: 'no such account' };
            if (verifier === undefined) return { kind: 'refused', why: `no SCRAM-${hash} verifier is stored yet` };
            if (!proofHolds) return { kind: 'refused', why: 'wrong password' };
            if (account.disabled) return { kind: 'refused', why: 'account is disabled' };
            return { kind: 'ok', account: toAccount(account) };
          });
          if (result.kind === 'refused') await wait(startedAt + refusalAfterMs - clock.monotonic());
          return result;
        },
      };
    } catch (error) {
      return { kind: 'unavailable', why: describe(error) };
    }
  }

  return { authenticate, startScram };
}
