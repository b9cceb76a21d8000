// Flags on the wire and in the store: system flags are bits, all else is a keyword (RFC 3501 §2.3.2).
import { flagBits, type MessageRecord } from '../mailstore/mailbox.ts';
import type { Lexer } from './wire/lexer.ts';
import { WireError } from './wire/wire-error.ts';

export interface FlagSet {
  readonly flags: number;
  readonly keywords: readonly string[];
}

const order = ['\\Answered', '\\Flagged', '\\Deleted', '\\Seen', '\\Draft'] as const;
const bitOf = new Map<string, number>(order.map(name => [name.toLowerCase(), flagBits[name]]));

/** What all mailboxes offer: FLAGS and, with `\*`, PERMANENTFLAGS. */
export const systemFlags: readonly string[] = order;

const texts = new Map<number, string>();
for (let bits = 0; bits < 32; bits += 1) texts.set(bits, order.filter(name => (bits & flagBits[name]) !== 0).join(' '));

/** `(\Seen \Recent $Label)`. */
export function encodeFlags(record: FlagSet, recent: boolean): string {
  const words = texts.get(record.flags & 31) ?? '';
  if (!recent && record.keywords.length === 0) return `(${words})`;
  return `(${[words, recent ? '\\Recent' : '', ...record.keywords].filter(word => word !== '').join(' ')})`;
}

export const flagNames = (record: FlagSet): readonly string[] => [
  ...order.filter(name => (record.flags & flagBits[name]) !== 0),
  ...record.keywords,
];

/** Turns flags as written into a set. \Recent is not the client's to set (RFC 3501 §2.3.2) and is left out. */
export function flagSet(words: readonly string[]): FlagSet {
  let flags = 0;
  const keywords = new Map<string, string>();
  for (const word of words) {
    const bit = bitOf.get(word.toLowerCase());
    if (bit !== undefined) flags |= bit;
    else if (word.startsWith('\\')) {
      if (word.toLowerCase() !== '\\recent') throw new WireError('Unknown system flag');
    } else keywords.set(word.toLowerCase(), word);
  }
  return { flags, keywords: [...keywords.values()] };
}

/** `(\Seen \Deleted)`, possibly empty. */
export const parseFlagList = (lexer: Lexer): FlagSet => flagSet(lexer.list(() => lexer.flag()));

/** What `record` has after the change. */
export function applyChange(record: MessageRecord, mode: 'add' | 'remove' | 'replace', change: FlagSet): FlagSet {
  if (mode === 'replace') return change;
  const lower = new Set(change.keywords.map(keyword => keyword.toLowerCase()));
  const kept = record.keywords.filter(keyword => !lower.has(keyword.toLowerCase()));
  return mode === 'add'
    ? { flags: record.flags | change.flags, keywords: [...kept, ...change.keywords] }
    : { flags: record.flags & ~change.flags, keywords: kept };
}
