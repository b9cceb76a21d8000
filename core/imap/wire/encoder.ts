// How values are written: the other half of the lexer. Everything is a "byte string", one character per octet (latin1),
// which is what a header that may hold anything can be kept in without loss; `Output` turns it into bytes.
import { monthNames } from './lexer.ts';
import type { Partial, Section } from './types.ts';

const atomOnly = /^[!#$&'+,\-./0-9:;<=>?@A-Z[\]^_`a-z|}~]+$/;
const quotable = /^[\x01-\x09\x0b\x0c\x0e-\x7f]*$/;
const maxQuoted = 1000;

/** quoted where it may be, else literal. `text`: one character per octet. */
export function encodeString(text: string): string {
  if (text.length > maxQuoted || !quotable.test(text)) {
    // RFC 3501 §9: no NUL in a literal; 0x80 keeps the length and cannot be mistaken for anything.
    const clean = text.includes('\0') ? text.replace(/\0/g, '\x80') : text;
    return `{${clean.length}}\r\n${clean}`;
  }
  return /["\\]/.test(text) ? `"${text.replace(/["\\]/g, '\\$&')}"` : `"${text}"`;
}

export const encodeNstring = (text: string | undefined): string => (text === undefined ? 'NIL' : encodeString(text));

export function encodeAstring(text: string): string {
  // "NIL" as an atom would be read as nil where nstring is expected.
  return atomOnly.test(text) && text.toUpperCase() !== 'NIL' ? text : encodeString(text);
}

/** date-time of RFC 3501 §9, in UTC: the store keeps no zone. */
export function encodeDateTime(ms: number): string {
  const date = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = String(date.getUTCDate()).padStart(2, ' ');
  const year = String(Math.min(9999, Math.max(0, date.getUTCFullYear()))).padStart(4, '0');
  const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
  return `"${day}-${monthNames[date.getUTCMonth()]}-${year} ${time} +0000"`;
}

/** Ascending numbers as the shortest set: `1:3,7`. */
export function encodeNumberSet(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; ) {
    const first = numbers[i] ?? 0;
    let j = i;
    while (numbers[j + 1] === (numbers[j] ?? 0) + 1) j += 1;
    parts.push(i === j ? `${first}` : `${first}:${numbers[j]}`);
    i = j + 1;
  }
  return parts.join(',');
}

/** `[…]` and the origin, as they stand in the answer to FETCH (RFC 3501 §7.4.2). */
export function encodeSection(section: Section, partial?: Partial): string {
  const words: string[] = [];
  if (section.part.length > 0) words.push(section.part.join('.'));
  if (section.of !== 'all') words.push(section.of.toUpperCase());
  const fields = section.fields.length > 0 ? ` (${section.fields.map(encodeAstring).join(' ')})` : '';
  return `[${words.join('.')}${fields}]${partial ? `<${partial.offset}>` : ''}`;
}
