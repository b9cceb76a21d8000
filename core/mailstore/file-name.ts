// Names of message files: `sec.M<usec>P<pid>Q<n>.host,S=<bytes>,W=<bytes with CRLF>:2,<flags>`. The base, up to the colon,
// stays with a message for life; what follows tells flags and keywords and changes by rename.
// https://cr.yp.to/proto/maildir.html; `,S=` and `,W=` and keyword letters as Dovecot writes them.
import { flagBits } from './mailbox.ts';

export interface FileName {
  /** Up to the colon, sizes included: what `dovecot-uidlist` holds. */
  readonly base: string;
  /** The colon and all after it; empty in `new/`. */
  readonly tail: string;
}

export function splitName(name: string): FileName {
  const colon = name.indexOf(':');
  return colon < 0 ? { base: name, tail: '' } : { base: name.slice(0, colon), tail: name.slice(colon) };
}

const letterBits: readonly (readonly [string, number])[] = [
  ['D', flagBits['\\Draft']],
  ['F', flagBits['\\Flagged']],
  ['R', flagBits['\\Answered']],
  ['S', flagBits['\\Seen']],
  ['T', flagBits['\\Deleted']],
];
const bitOf: ReadonlyMap<string, number> = new Map(letterBits);
const isKeyword = (letter: string): boolean => letter >= 'a' && letter <= 'z';

/** Flags as bits of `flagBits`, keywords as a bit mask: bit 0 is the letter `a`. */
export interface TailFlags {
  readonly flags: number;
  readonly keywords: number;
}

export function readTail(tail: string): TailFlags {
  let flags = 0;
  let keywords = 0;
  if (tail.startsWith(':2,')) {
    for (const letter of lettersOf(tail)) {
      if (isKeyword(letter)) keywords |= 1 << (letter.charCodeAt(0) - 97);
      else flags |= bitOf.get(letter) ?? 0;
    }
  }
  return { flags, keywords };
}

function lettersOf(tail: string): string {
  const end = tail.indexOf(',', 3);
  return tail.slice(3, end < 0 ? undefined : end);
}

/** The tail for new flags; letters that are not ours (`P`, other programs') stay as they were. */
export function writeTail(old: string, { flags, keywords }: TailFlags): string {
  const known = old.startsWith(':2,');
  const letters = known ? [...lettersOf(old)].filter(letter => !isKeyword(letter) && !bitOf.has(letter)) : [];
  for (const [letter, bit] of letterBits) if (flags & bit) letters.push(letter);
  for (let bit = 0; bit < 26; bit++) if (keywords & (1 << bit)) letters.push(String.fromCharCode(97 + bit));
  const rest = known ? old.slice(3 + lettersOf(old).length) : '';
  return `:2,${letters.sort().join('')}${rest}`;
}

function sizeField(base: string, field: string): number | undefined {
  const at = base.indexOf(field);
  if (at < 0) return undefined;
  const digits = /^\d{1,15}(?=,|$)/.exec(base.slice(at + field.length));
  return digits ? Number(digits[0]) : undefined;
}

/** Bytes of the file, from `,S=`. */
export const physicalSize = (base: string): number | undefined => sizeField(base, ',S=');
/** Bytes with CRLF line ends, from `,W=`. */
export const wireSize = (base: string): number | undefined => sizeField(base, ',W=');

interface NameTime {
  readonly base: string;
  readonly second: number;
  readonly micros: number;
  readonly count: number;
}

function readTime(base: string): NameTime {
  const [, second, unique = ''] = /^(\d{1,15})(?:\.([^.,]*))?/.exec(base) ?? [];
  const field = (letter: RegExp): number => Number(letter.exec(unique)?.[1] ?? 0);
  return {
    base,
    second: Number(second ?? Number.MAX_SAFE_INTEGER),
    micros: field(/M(\d{1,15})/),
    count: field(/Q(\d{1,15})/),
  };
}

/**
 * Base names in the order in which their messages get UIDs: by the time in the name, which counts micro-seconds without leading
 * zeroes, then by the number of the delivery in its process, then by the name.
 */
export function inOrderOfDelivery(bases: readonly string[]): string[] {
  const order = (a: NameTime, b: NameTime): number =>
    a.second - b.second || a.micros - b.micros || a.count - b.count || (a.base < b.base ? -1 : a.base > b.base ? 1 : 0);
  return bases
    .map(readTime)
    .sort(order)
    .map(({ base }) => base);
}

/** Makes names that no other process, machine or store uses. The host is escaped as Maildir asks. */
export function createNamer(host: string, pid: number, start: number, nowMs: () => number): () => string {
  const place = host.replaceAll('/', '\\057').replaceAll(':', '\\072').replaceAll(',', '\\054') || 'localhost';
  let count = start;
  return () => {
    const now = nowMs();
    const second = Math.floor(now / 1000);
    const micros = Math.floor((now - second * 1000) * 1000);
    return `${second}.M${micros}P${pid}Q${count++}.${place}`;
  };
}
