// Writing header fields: folding (RFC 5322 §2.1.1, §2.2.3) and edits of a section that leave every field which is not
// edited as it was, byte for byte (invariant I5).
import { encodeWords } from './encoded-words.ts';
import type { HeaderField, HeaderList } from './headers.ts';

// RFC 5322 §2.1.1: lines should have at most 78 and must have at most 998 characters, line end not counted.
const softWidth = 78;
const hardWidth = 998;
const maxName = 76;
const maxWord = hardWidth - maxName - 2;
const LF = 0x0a;

/** Control characters cannot be carried by a field; a line end that is no fold would begin a field of its own. */
const sanitise = (value: string): string =>
  value.replace(/\r?\n(?=[ \t])/g, '\n').replace(/\r?\n(?![ \t])|\r|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g, ' ');

/** Lines of a value at its folds, none of them empty; the first without white space before it. */
function foldedLines(value: string): readonly string[] {
  const [first = '', ...rest] = sanitise(value)
    .split('\n')
    .map(line => line.trimEnd())
    .filter(line => line !== '');
  return [first.trimStart(), ...rest];
}

/** Pieces that fit a line beside the longest name; a longer word has no place to fold and is cut, or the line would be refused. */
function splitLong(word: string): readonly string[] {
  if (Buffer.byteLength(word) <= maxWord) return [word];
  const pieces: string[] = [];
  let piece = '';
  let length = 0;
  for (const character of word) {
    const size = Buffer.byteLength(character);
    if (length + size > maxWord) {
      pieces.push(piece);
      piece = ' ';
      length = 1;
    }
    piece += character;
    length += size;
  }
  return [...pieces, piece];
}

/** Folds at white space only, which unfolding restores exactly; folds that `line` already has are kept. */
function foldLine(line: string, firstColumn: number): string {
  let out = '';
  let column = firstColumn;
  for (const word of line.match(/[ \t]*[^ \t]+/g) ?? []) {
    for (const piece of splitLong(word)) {
      const length = Buffer.byteLength(piece);
      const canFold = piece.startsWith(' ') || piece.startsWith('\t');
      if (canFold && column > 0 && column + length > softWidth) {
        out += '\r\n';
        column = 0;
      }
      out += piece;
      column += length;
    }
  }
  return out;
}

export interface RenderOptions {
  /** Leave text beyond ASCII as UTF-8 (RFC 6532: the message needs SMTPUTF8) instead of encoding it (RFC 2047). */
  readonly utf8?: boolean;
}

/**
 * A header field with its line end, ready to be put into a message. Line breaks in `value` that are followed by white
 * space are taken as folds; any other line break and every control character becomes a space, so a value cannot
 * smuggle in a second field. Throws a TypeError for a name that RFC 5322 §3.6.8 forbids.
 */
export function renderField(name: string, value: string, options: RenderOptions = {}): Buffer {
  if (!/^[\x21-\x39\x3b-\x7e]+$/.test(name) || name.length > maxName)
    throw new TypeError(`Invalid header field name '${name}'`);
  const lines = foldedLines(value);
  const text = lines
    .map((line, at) => {
      const indent = /^[ \t]*/.exec(line)?.[0] ?? '';
      const encoded = options.utf8 ? line : indent + encodeWords(line.slice(indent.length));
      return foldLine(encoded, at === 0 ? name.length + 2 : 0);
    })
    .join('\r\n');
  return Buffer.from(`${name}: ${text}\r\n`, 'utf8');
}

/** The header edits of a plugin's answer. */
export type HeaderEdit =
  | {
      readonly kind: 'add-header';
      readonly name: string;
      /** Text; what a header cannot carry is encoded (RFC 2047). */
      readonly value: string;
      readonly at?: 'top' | 'bottom';
      /** The value is written as it is: encoded words in it are none of ours to encode again. */
      readonly encoded?: boolean;
    }
  /** `index` counts the fields of that name from the top, from 0; absent = all of them. */
  | { readonly kind: 'remove-header'; readonly name: string; readonly index?: number }
  | {
      readonly kind: 'replace-header';
      readonly name: string;
      readonly value: string;
      readonly index?: number;
      readonly encoded?: boolean;
    };

interface Slot {
  bytes: Buffer;
  field?: HeaderField;
}

const matching = (slots: readonly Slot[], name: string): Slot[] =>
  slots.filter(slot => slot.field?.name.toLowerCase() === name.toLowerCase());

/**
 * The section's bytes after the edits, without the empty line. `index` counts the fields as they were before any of
 * these edits, so the order of the edits does not matter to it, and fields added here are not touched by them.
 * Added fields go to the top (the last one added is topmost, as trace fields are) unless `at` is `bottom`. Replacing
 * without an index leaves one field: the first takes the new value, others go, and where there was none it is added at
 * the bottom. An index that does not exist changes nothing. Throws a TypeError for an impossible name.
 */
export function editHeaders(list: HeaderList, edits: readonly HeaderEdit[], options: RenderOptions = {}): Buffer {
  const slots: Slot[] = [...list].map(field => ({ bytes: field.raw, field }));
  const listed = slots.reduce((sum, slot) => sum + slot.bytes.length, 0);
  const top: Buffer[] = [];
  const bottom: Buffer[] = [];
  for (const edit of edits) {
    const same = matching(slots, edit.name);
    const chosen =
      edit.kind === 'add-header' || edit.index === undefined ? same : same.slice(edit.index, edit.index + 1);
    if (edit.kind === 'remove-header') {
      for (const slot of chosen) slot.bytes = Buffer.alloc(0);
      continue;
    }
    const bytes = renderField(edit.name, edit.value, edit.encoded ? { utf8: true } : options);
    if (edit.kind === 'replace-header') {
      chosen.forEach((slot, at) => {
        slot.bytes = at === 0 ? bytes : Buffer.alloc(0);
      });
      if (same.length === 0 && edit.index === undefined) bottom.push(bytes);
    } else if (edit.at === 'bottom') bottom.push(bytes);
    else top.unshift(bytes);
  }
  const kept = slots.map(slot => slot.bytes).filter(bytes => bytes.length > 0);
  // A section cut off without a line end would swallow what is added below it.
  if (bottom.length > 0 && kept.length > 0 && kept.at(-1)?.at(-1) !== LF) kept.push(Buffer.from('\r\n'));
  // Fields beyond the limits of the list were not looked at; they stay where they are, last.
  return Buffer.concat([...top, ...kept, ...bottom, list.raw.subarray(listed)]);
}
