// RFC 5228 §2.4.2.4: `${hex: 24 24}` and `${unicode: 40}` in strings. What has not this form stays as it is.

import type { Complain } from '../contract.ts';
import { defineExtension } from '../extension.ts';

const form = /\$\{(hex|unicode):([ \t\r\n]*[0-9a-f]+(?:[ \t\r\n]+[0-9a-f]+)*[ \t\r\n]*)\}/gi;

function decode(text: string, complain: Complain): string {
  if (!text.includes('${')) return text;
  // Runs of octets may be parts of one character: joined before they are read as UTF-8.
  const parts: (string | Buffer)[] = [];
  let from = 0;
  for (const found of text.matchAll(form)) {
    const numbers = (found[2] as string).trim().split(/[ \t\r\n]+/);
    const piece = (found[1] as string).toLowerCase() === 'hex' ? octets(numbers) : characters(numbers, complain);
    if (piece === undefined) continue;
    parts.push(text.slice(from, found.index), piece);
    from = found.index + found[0].length;
  }
  parts.push(text.slice(from));
  const bytes = Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part) : part)));
  const out = bytes.toString('utf8');
  if (out.includes('\ufffd') && !text.includes('\ufffd')) complain('Encoded octets are not valid UTF-8');
  if (out.includes('\0')) complain('Encoded character NUL is not allowed');
  return out;
}

const octets = (numbers: readonly string[]): Buffer | undefined =>
  numbers.every(number => number.length <= 2)
    ? Buffer.from(numbers.map(number => Number.parseInt(number, 16)))
    : undefined;

function characters(numbers: readonly string[], complain: Complain): string | undefined {
  let out = '';
  for (const number of numbers) {
    const digits = number.replace(/^0+/, '');
    const code = digits.length > 6 ? Number.POSITIVE_INFINITY : Number.parseInt(digits === '' ? '0' : digits, 16);
    // RFC 5228 §2.4.2.4: outside 0–D7FF and E000–10FFFF is an error.
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
      complain(`Encoded character '${number}' is outside of Unicode`);
      return undefined;
    }
    out += String.fromCodePoint(code);
  }
  return out;
}

export const encodedCharacter = defineExtension({
  name: 'encoded-character',
  strings: { order: 10, compile: (text, _, complain) => decode(text, complain) },
});
