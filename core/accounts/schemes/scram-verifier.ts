// What a SCRAM server stores for a password (RFC 5802 §3). Synchronous and slow: for a worker thread.
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import type { ScramHash, ScramVerifier } from '../directory.ts';

export const digestName = (hash: ScramHash): 'sha1' | 'sha256' => (hash === 'SHA-1' ? 'sha1' : 'sha256');
export const digestBytes = (hash: ScramHash): number => (hash === 'SHA-1' ? 20 : 32);

/** RFC 4013 §2 as far as passwords need it: other spaces become spaces, soft hyphens and the like go, then NFKC. */
export const saslPrep = (text: string): string =>
  text
    .replace(/[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g, ' ')
    .replace(/\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/g, '')
    .normalize('NFKC');

export function makeScramVerifier(
  password: string,
  hash: ScramHash,
  salt: Uint8Array,
  iterations: number,
): ScramVerifier {
  const digest = digestName(hash);
  const salted = pbkdf2Sync(saslPrep(password), salt, iterations, digestBytes(hash), digest);
  const clientKey = createHmac(digest, salted).update('Client Key').digest();
  return {
    salt: Buffer.from(salt),
    iterations,
    storedKey: createHash(digest).update(clientKey).digest(),
    serverKey: createHmac(digest, salted).update('Server Key').digest(),
  };
}

/** `iterations,salt,storedKey,serverKey` in base64, as Dovecot's `{SCRAM-SHA-256}` has it. */
export const formatScram = ({ iterations, salt, storedKey, serverKey }: ScramVerifier): string =>
  [String(iterations), ...[salt, storedKey, serverKey].map(part => part.toString('base64'))].join(',');

export function parseScram(text: string, hash: ScramHash): ScramVerifier | undefined {
  const [iterations, salt, storedKey, serverKey] = text.split(',');
  if (salt === undefined || storedKey === undefined || serverKey === undefined) return undefined;
  const verifier = {
    iterations: Number(iterations),
    salt: Buffer.from(salt, 'base64'),
    storedKey: Buffer.from(storedKey, 'base64'),
    serverKey: Buffer.from(serverKey, 'base64'),
  };
  const size = digestBytes(hash);
  const sane = Number.isInteger(verifier.iterations) && verifier.iterations > 0 && verifier.iterations <= 10_000_000;
  return sane && verifier.storedKey.length === size && verifier.serverKey.length === size ? verifier : undefined;
}
