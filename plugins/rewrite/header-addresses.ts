// Addresses inside a header field, changed in their place: names, comments, groups and white space stay as they are.
import { type Address, parseMailbox } from '../../core/plugin/index.ts';

const atom = /[\w!#$%&'*+/=?^`{|}~.\u0080-\u{10ffff}-]+@(?:[\w.\u0080-\u{10ffff}-]+|\[[^\]\s]*\])/uy;
const quotedAddress = /"(?:[^"\\]|\\.)*"@(?:[\w.\u0080-\u{10ffff}-]+|\[[^\]\s]*\])/uy;
/** Consumed at once, so that a long word costs its length and not the square of it. */
const word = /[\w!#$%&'*+/=?^`{|}~.\u0080-\u{10ffff}-]+/uy;
const quoted = /"(?:[^"\\]|\\.)*"?/y;
const encodedWord = /=\?[^?\s]*\?[bq]\?[^?\s]*\?=/iy;

function commentEnd(value: string, open: number): number {
  let depth = 0;
  for (let at = open; at < value.length; at++) {
    if (value[at] === '\\') at++;
    else if (value[at] === '(') depth++;
    else if (value[at] === ')' && --depth === 0) return at + 1;
  }
  return value.length;
}

function matchAt(pattern: RegExp, value: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(value)?.[0];
}

/** The value with every address replaced for which `change` gives another one; the same string where none is. */
export function changeAddresses(value: string, change: (address: Address) => Address): string {
  let out = '';
  for (let at = 0; at < value.length; ) {
    if (value[at] === '(') {
      const end = commentEnd(value, at);
      out += value.slice(at, end);
      at = end;
      continue;
    }
    const found =
      matchAt(quotedAddress, value, at) ?? (value[at] === '"' ? undefined : matchAt(encodedWord, value, at));
    const text = found?.startsWith('=?') ? undefined : (found ?? matchAt(atom, value, at));
    const piece = text ?? found ?? matchAt(quoted, value, at) ?? matchAt(word, value, at) ?? value[at] ?? '';
    out += text === undefined ? piece : changed(text, change);
    at += piece.length;
  }
  return out;
}

function changed(text: string, change: (address: Address) => Address): string {
  const parsed = parseMailbox(text, { smtputf8: true });
  if (parsed.kind !== 'address') return text;
  const after = change(parsed.address);
  return after.text === parsed.address.text ? text : after.text;
}
