// Checks a password against a stored hash. Stored hashes are `{SCHEME}data` as Dovecot writes them; without a scheme the
// data is a crypt text. New hashes are scrypt (RFC 7914). Everything is synchronous and some of it slow by intention: for
// a worker thread. Comparisons take the same time wherever the difference lies.
import * as crypto from 'node:crypto';
import type { ScramHash } from '../directory.ts';
import { makeBcrypt } from './bcrypt.ts';
import { makeScramVerifier, parseScram } from './scram-verifier.ts';
import { shaCrypt } from './sha-crypt.ts';

/** `unsupported`: a scheme or parameters that this process cannot compute. */
export type Match = 'match' | 'mismatch' | 'unsupported';
type Check = (password: string, data: string) => Match;

/** N = 2^15, r = 8: 32 MiB and about 100 ms. */
const scryptDefaults = { ln: 15, r: 8, p: 1 };
const maxScryptMemory = 256 * 1024 * 1024;

const compare = (computed: Uint8Array, stored: Uint8Array): Match =>
  computed.length === stored.length && crypto.timingSafeEqual(computed, stored) ? 'match' : 'mismatch';
const compareText = (computed: string | undefined, stored: string): Match =>
  computed === undefined ? 'unsupported' : compare(Buffer.from(computed), Buffer.from(stored));

/** RFC 8265 §4.2: the same password typed on different systems has the same bytes. */
const opaque = (password: string): string => password.replace(/\p{Zs}/gu, ' ').normalize('NFC');

export function hashWithScrypt(password: string, ln: number = scryptDefaults.ln): string {
  const { r, p } = scryptDefaults;
  const salt = crypto.randomBytes(16);
  const key = crypto.scryptSync(opaque(password), salt, 32, { N: 2 ** ln, r, p, maxmem: maxScryptMemory });
  return `{SCRYPT}ln=${ln},r=${r},p=${p}$${salt.toString('base64')}$${key.toString('base64')}`;
}

/** True for a hash that `hashWithScrypt` would make as strong today. */
export const isCurrentHash = (stored: string, ln: number = scryptDefaults.ln): boolean =>
  Number(/^\{SCRYPT\}ln=(\d+),/.exec(stored)?.[1] ?? 0) >= ln;

const scrypt: Check = (password, data) => {
  const match = /^ln=(\d\d?),r=(\d\d?),p=(\d\d?)\$([^$]+)\$([^$]+)$/.exec(data);
  if (match === null) return 'unsupported';
  const [ln, r, p] = match.slice(1, 4).map(Number) as [number, number, number];
  const stored = Buffer.from(match[5] ?? '', 'base64');
  if (128 * 2 ** ln * r > maxScryptMemory / 2 || stored.length < 16) return 'unsupported';
  const options = { N: 2 ** ln, r, p, maxmem: maxScryptMemory };
  return compare(
    crypto.scryptSync(opaque(password), Buffer.from(match[4] ?? '', 'base64'), stored.length, options),
    stored,
  );
};

/** Digest, then the salt: `{SSHA512}` and its kin; without a salt `{SHA512}`. */
const salted =
  (hash: string, size: number, mustHaveSalt: boolean): Check =>
  (password, data) => {
    const isHex = !mustHaveSalt && data.length === 2 * size && /^[0-9a-fA-F]+$/.test(data);
    const bytes = Buffer.from(data, isHex ? 'hex' : 'base64');
    if (bytes.length < size) return 'unsupported';
    const digest = crypto.createHash(hash).update(password).update(bytes.subarray(size)).digest();
    return compare(digest, bytes.subarray(0, size));
  };

/** Dovecot's `$1$salt$rounds$hex`, HMAC-SHA-1. */
const pbkdf2: Check = (password, data) => {
  const match = /^\$1\$([^$]+)\$(\d{1,7})\$([0-9a-f]{40})$/i.exec(data);
  if (match === null) return 'unsupported';
  const computed = crypto.pbkdf2Sync(password, match[1] ?? '', Math.max(1, Number(match[2])), 20, 'sha1');
  return compare(computed, Buffer.from(match[3] ?? '', 'hex'));
};

const scram =
  (hash: ScramHash): Check =>
  (password, data) => {
    const stored = parseScram(data, hash);
    if (stored === undefined) return 'unsupported';
    return compare(makeScramVerifier(password, hash, stored.salt, stored.iterations).storedKey, stored.storedKey);
  };

/** Present from Node 24.7 on. */
type Argon2 = (
  algorithm: string,
  options: {
    readonly message: Uint8Array;
    readonly nonce: Uint8Array;
    readonly parallelism: number;
    readonly tagLength: number;
    readonly memory: number;
    readonly passes: number;
  },
) => Buffer;

const argon2: Check = (password, data) => {
  const compute = (crypto as { readonly argon2Sync?: Argon2 }).argon2Sync;
  const match = /^\$(argon2(?:i|id|d))\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$([^$]+)\$([^$]+)$/.exec(data);
  if (compute === undefined || match === null || Number(match[2]) * 1024 > maxScryptMemory) return 'unsupported';
  const stored = Buffer.from(match[6] ?? '', 'base64');
  const computed = compute(match[1] ?? '', {
    message: Buffer.from(password),
    nonce: Buffer.from(match[5] ?? '', 'base64'),
    parallelism: Number(match[4]),
    tagLength: stored.length,
    memory: Number(match[2]),
    passes: Number(match[3]),
  });
  return compare(computed, stored);
};

const plain: Check = (password, data) => {
  // Digests of the same length, so that the comparison tells nothing about the stored length.
  const digest = (text: string): Buffer => crypto.createHash('sha256').update(text).digest();
  return compare(digest(password), digest(data));
};

function schemes(): ReadonlyMap<string, Check> {
  const bcryptOf = makeBcrypt();
  const bcrypt: Check = (password, data) => compareText(bcryptOf(password, data), data);
  const sha: Check = (password, data) => compareText(shaCrypt(password, data), data);
  const crypt: Check = (password, data) => (data.startsWith('$2') ? bcrypt : sha)(password, data);
  return new Map<string, Check>([
    ['SCRYPT', scrypt],
    ['CRYPT', crypt],
    ['SHA512-CRYPT', sha],
    ['SHA256-CRYPT', sha],
    ['BLF-CRYPT', bcrypt],
    ['BCRYPT', bcrypt],
    ['SSHA', salted('sha1', 20, true)],
    ['SSHA256', salted('sha256', 32, true)],
    ['SSHA512', salted('sha512', 64, true)],
    ['SMD5', salted('md5', 16, true)],
    ['SHA', salted('sha1', 20, false)],
    ['SHA1', salted('sha1', 20, false)],
    ['SHA256', salted('sha256', 32, false)],
    ['SHA512', salted('sha512', 64, false)],
    ['PLAIN-MD5', salted('md5', 16, false)],
    ['LDAP-MD5', salted('md5', 16, false)],
    ['PBKDF2', pbkdf2],
    ['SCRAM-SHA-1', scram('SHA-1')],
    ['SCRAM-SHA-256', scram('SHA-256')],
    ['ARGON2I', argon2],
    ['ARGON2ID', argon2],
    ['PLAIN', plain],
    ['CLEAR', plain],
    ['CLEARTEXT', plain],
  ]);
}

/** Scheme in capitals without `.HEX` or `.B64`, and the data behind it. */
export function splitScheme(stored: string): { readonly scheme: string; readonly data: string } {
  const match = /^\{([A-Za-z0-9-]+)(\.(?:HEX|B64|BASE64))?\}(.*)$/is.exec(stored);
  if (match === null) return { scheme: 'CRYPT', data: stored };
  const scheme = (match[1] ?? '').toUpperCase();
  const data = match[3] ?? '';
  const isHex = match[2]?.toUpperCase() === '.HEX';
  return { scheme, data: isHex ? Buffer.from(data, 'hex').toString('base64') : data };
}

export function makeVerify(): (stored: string, password: string) => Match {
  const known = schemes();
  return (stored, password) => {
    const { scheme, data } = splitScheme(stored);
    return known.get(scheme)?.(password, data) ?? 'unsupported';
  };
}
