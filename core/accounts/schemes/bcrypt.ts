// BCRYPT ($2a$, $2b$, $2y$): Provos and Mazières, "A Future-Adaptable Password Scheme" (USENIX 1999). Blowfish's tables
// are the digits of π, so they are computed once and not listed. Synchronous and slow: for a worker thread.

const alphabet = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const words = 18 + 4 * 256;
/** 2^cost key expansions; 14 takes several seconds here. */
const maxCost = 14;

/** Words of the fraction of π, by Machin's formula in fixed point. */
function fractionOfPi(count: number): Uint32Array {
  const guard = 64n;
  const bits = BigInt(count * 32) + guard;
  const arctanInverse = (x: bigint): bigint => {
    let term = (1n << bits) / x;
    let sum = term;
    for (let n = 3n, sign = -1n; term > 0n; n += 2n, sign = -sign) {
      term /= x * x;
      sum += (sign * term) / n;
    }
    return sum;
  };
  const pi = 16n * arctanInverse(5n) - 4n * arctanInverse(239n);
  const hex = ((pi & ((1n << bits) - 1n)) >> guard).toString(16).padStart(count * 8, '0');
  return Uint32Array.from({ length: count }, (_, index) => Number.parseInt(hex.slice(index * 8, index * 8 + 8), 16));
}

interface Blowfish {
  readonly p: Int32Array;
  readonly s: Int32Array;
  /** The block under work. */
  readonly block: Int32Array;
}

function encipher({ p, s, block }: Blowfish): void {
  let left = block[0] as number;
  let right = block[1] as number;
  left ^= p[0] as number;
  for (let round = 1; round < 17; round += 2) {
    right ^=
      ((((s[left >>> 24] as number) + (s[0x100 | ((left >>> 16) & 255)] as number)) ^
        (s[0x200 | ((left >>> 8) & 255)] as number)) +
        (s[0x300 | (left & 255)] as number)) ^
      (p[round] as number);
    left ^=
      ((((s[right >>> 24] as number) + (s[0x100 | ((right >>> 16) & 255)] as number)) ^
        (s[0x200 | ((right >>> 8) & 255)] as number)) +
        (s[0x300 | (right & 255)] as number)) ^
      (p[round + 1] as number);
  }
  block[0] = right ^ (p[17] as number);
  block[1] = left;
}

/** Words of `bytes` read round and round. */
function cyclicWords(bytes: Buffer, count: number): Int32Array {
  let at = 0;
  return Int32Array.from({ length: count }, () => {
    let word = 0;
    for (let byte = 0; byte < 4; byte++) {
      word = (word << 8) | (bytes[at] as number);
      at = (at + 1) % bytes.length;
    }
    return word;
  });
}

function fill(cipher: Blowfish, table: Int32Array, salt: Int32Array | undefined, from: number): void {
  const { block } = cipher;
  for (let index = 0; index < table.length; index += 2) {
    if (salt !== undefined) {
      block[0] = (block[0] as number) ^ (salt[(from + index) & 3] as number);
      block[1] = (block[1] as number) ^ (salt[(from + index + 1) & 3] as number);
    }
    encipher(cipher);
    table[index] = block[0] as number;
    table[index + 1] = block[1] as number;
  }
}

function expandKey(cipher: Blowfish, key: Int32Array, salt?: Int32Array): void {
  const { p, s, block } = cipher;
  for (let index = 0; index < 18; index++) p[index] = (p[index] as number) ^ (key[index] as number);
  block.fill(0);
  fill(cipher, p, salt, 0);
  fill(cipher, s, salt, 18);
}

function rawDigest(key: Buffer, salt: Buffer, cost: number, pi: Uint32Array): Buffer {
  const tables = Int32Array.from(pi);
  const cipher: Blowfish = { p: tables.subarray(0, 18), s: tables.subarray(18), block: new Int32Array(2) };
  const keyWords = cyclicWords(key, 18);
  const saltWords = cyclicWords(salt, 18);
  expandKey(cipher, keyWords, saltWords.subarray(0, 4));
  for (let count = 2 ** cost; count > 0; count--) {
    expandKey(cipher, keyWords);
    expandKey(cipher, saltWords);
  }
  const text = Buffer.from('OrpheanBeholderScryDoubt');
  const out = Buffer.alloc(24);
  for (let at = 0; at < 24; at += 8) {
    cipher.block[0] = text.readInt32BE(at);
    cipher.block[1] = text.readInt32BE(at + 4);
    for (let count = 0; count < 64; count++) encipher(cipher);
    out.writeInt32BE(cipher.block[0] as number, at);
    out.writeInt32BE(cipher.block[1] as number, at + 4);
  }
  return out.subarray(0, 23);
}

function encode(bytes: Buffer): string {
  const base64 = bytes.toString('base64').replace(/=+$/, '');
  const usual = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  return base64.replace(/./g, char => alphabet[usual.indexOf(char)] ?? '');
}

function decode(text: string): Buffer {
  const usual = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  return Buffer.from(
    text.replace(/./g, char => usual[alphabet.indexOf(char)] ?? ''),
    'base64',
  );
}

/** `pi` makes the tables once per thread. The returned function gives the whole crypt text, or undefined where `stored` is none. */
export function makeBcrypt(): (password: string, stored: string) => string | undefined {
  let pi: Uint32Array | undefined;
  return (password, stored) => {
    const match = /^(\$2[aby]\$(\d\d)\$([./A-Za-z0-9]{22}))/.exec(stored);
    if (match === null) return undefined;
    const cost = Number(match[2]);
    if (cost < 4 || cost > maxCost) return undefined;
    pi ??= fractionOfPi(words);
    // The terminating NUL belongs to the key; 72 bytes are used at most.
    const key = Buffer.concat([Buffer.from(password), Buffer.from([0])]).subarray(0, 72);
    const salt = decode(match[3] ?? '').subarray(0, 16);
    return `${match[1]}${encode(rawDigest(key, salt, cost, pi))}`;
  };
}
