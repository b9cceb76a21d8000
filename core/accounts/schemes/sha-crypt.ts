// SHA256-CRYPT ($5$) and SHA512-CRYPT ($6$) of glibc, after Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512".
// Step numbers are those of that text. Synchronous and slow by intention: for a worker thread.
import { createHash } from 'node:crypto';

const alphabet = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
/** The text's bounds are 1000 and 999,999,999; above this a stored hash would hold a thread for seconds. */
const maxRounds = 1_000_000;

interface Variant {
  readonly hash: 'sha256' | 'sha512';
  readonly size: number;
  /** Byte positions in groups of three, first = most significant. Step 22. */
  readonly order: readonly (readonly number[])[];
}

/** Each group of three moves on by one place within thirds of the digest; the remainder ends the text. */
function digestOrder(size: number, next: (group: readonly number[]) => readonly number[]): readonly number[][] {
  const groups: number[][] = [];
  let group: readonly number[] = [0, Math.floor(size / 3), 2 * Math.floor(size / 3)];
  while (groups.length < Math.floor(size / 3)) {
    groups.push([...group]);
    group = next(group).map(position => position + 1);
  }
  groups.push(size === 32 ? [31, 30] : [63]);
  return groups;
}

const sha256: Variant = {
  hash: 'sha256',
  size: 32,
  order: digestOrder(32, ([a = 0, b = 0, c = 0]) => [c, a, b]),
};
const sha512: Variant = {
  hash: 'sha512',
  size: 64,
  order: digestOrder(64, ([a = 0, b = 0, c = 0]) => [b, c, a]),
};

const repeatTo = (source: Buffer, length: number): Buffer => Buffer.alloc(length, source);

function encode(digest: Buffer, order: Variant['order']): string {
  let text = '';
  for (const group of order) {
    let value = group.reduce((sum, position) => sum * 256 + (digest[position] ?? 0), 0);
    for (let count = group.length + 1; count > 0; count--) {
      text += alphabet[value & 63];
      value >>>= 6;
    }
  }
  return text;
}

function initialDigest(key: Buffer, salt: Buffer, { hash, size }: Variant): Buffer {
  const b = createHash(hash).update(key).update(salt).update(key).digest();
  const a = createHash(hash).update(key).update(salt); // steps 1 to 3
  a.update(Buffer.alloc(key.length, key.length > 0 ? b.subarray(0, Math.min(size, key.length)) : b)); // 9, 10
  for (let bits = key.length; bits > 0; bits >>= 1) a.update((bits & 1) === 1 ? b : key); // 11
  return a.digest();
}

function digest(key: Buffer, salt: Buffer, rounds: number, variant: Variant): Buffer {
  const { hash } = variant;
  let current = initialDigest(key, salt, variant);
  const dp = createHash(hash);
  for (let count = 0; count < key.length; count++) dp.update(key); // 13
  const p = repeatTo(dp.digest(), key.length); // 16
  const ds = createHash(hash);
  for (let count = 16 + (current[0] ?? 0); count > 0; count--) ds.update(salt); // 18
  const s = repeatTo(ds.digest(), salt.length); // 20
  for (let round = 0; round < rounds; round++) {
    // 21
    const odd = (round & 1) === 1;
    const parts = [odd ? p : current, round % 3 === 0 ? '' : s, round % 7 === 0 ? '' : p, odd ? current : p];
    current = createHash(hash)
      .update(Buffer.concat(parts.filter(part => part !== '') as Buffer[]))
      .digest();
  }
  return current;
}

/** The whole crypt text for `password` with the parameters of `stored`; undefined where `stored` is no such text. */
export function shaCrypt(password: string, stored: string): string | undefined {
  const match = /^\$([56])\$(?:rounds=(\d{1,9})\$)?([^$\n]*)(?:\$|$)/.exec(stored);
  if (match === null) return undefined;
  const variant = match[1] === '5' ? sha256 : sha512;
  const rounds = match[2] === undefined ? 5000 : Math.max(1000, Number(match[2]));
  if (rounds > maxRounds) return undefined;
  const salt = Buffer.from(match[3] ?? '').subarray(0, 16);
  const text = encode(digest(Buffer.from(password), salt, rounds, variant), variant.order);
  const prefix = match[2] === undefined ? '' : `rounds=${rounds}$`;
  return `$${match[1]}$${prefix}${salt.toString()}$${text}`;
}
