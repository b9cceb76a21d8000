// The header section of a message: RFC 5322 §2.2, read without loss, so that what is not edited is not changed.
// Only the boundaries of the fields are found at once; names and values are made when asked for. A line that is no
// field (no colon, or a name RFC 5322 §3.6.8 forbids) is kept as a field with an empty name and reported as a defect:
// the section ends at the first empty line and nowhere else, so that every reader of the message agrees where.

import { decodeText } from './charset.ts';

export interface HeaderField {
  /** As written, without the colon and white space before it (RFC 5322 §4.5); `''` for a line that is no field. */
  readonly name: string;
  /** The whole field as it stands in the message, name to final line end. */
  readonly raw: Buffer;
  /** The body of the field, unfolded (RFC 5322 §2.2.3), white space trimmed at both ends; UTF-8, invalid bytes as U+FFFD. Encoded words are not decoded. */
  readonly value: string;
}

/** What a strict reader would complain about. The last two say that fields are missing from the list, not from `raw`. */
export type HeaderDefect = 'malformed-field' | 'header-too-large' | 'too-many-fields';

export interface HeaderList extends Iterable<HeaderField> {
  /** Number of fields. */
  readonly count: number;
  /** Bytes of the section without the empty line that ends it. */
  readonly size: number;
  /** The section's bytes as far as they were read: `size` of them unless `header-too-large`. */
  readonly raw: Buffer;
  readonly defects: readonly HeaderDefect[];
  /** First field of that name, top to bottom, case-insensitive. */
  get(name: string): HeaderField | undefined;
  /** All fields of that name, top to bottom. */
  all(name: string): readonly HeaderField[];
  has(name: string): boolean;
}

export interface HeaderLimits {
  /** Fields beyond this many bytes of the section are not listed. */
  readonly maxHeaderBytes?: number;
  readonly maxHeaderFields?: number;
}
export const defaultHeaderLimits = { maxHeaderBytes: 256 * 1024, maxHeaderFields: 4096 } as const;

const LF = 0x0a;
const CR = 0x0d;
const SP = 0x20;
const TAB = 0x09;
const COLON = 0x3a;

/**
 * Where the header section ends: `end` is behind the line end of the last field, `bodyStart` behind the empty line.
 * Undefined when `bytes` holds no empty line. Line ends may be CRLF or LF.
 */
export function findHeaderEnd(bytes: Buffer): { readonly end: number; readonly bodyStart: number } | undefined {
  for (let line = 0; line < bytes.length; ) {
    if (bytes[line] === LF) return { end: line, bodyStart: line + 1 };
    if (bytes[line] === CR && bytes[line + 1] === LF) return { end: line, bodyStart: line + 2 };
    const lineEnd = bytes.indexOf(LF, line);
    if (lineEnd < 0) return undefined;
    line = lineEnd + 1;
  }
  return undefined;
}

class LazyField implements HeaderField {
  readonly #section: Buffer;
  readonly #start: number;
  /** All relative to `#start`; the name is empty and the colon before the start where the line is no field. */
  readonly #nameLength: number;
  readonly #colon: number;
  readonly #length: number;
  #value: string | undefined;

  constructor(section: Buffer, start: number, end: number, nameLength: number, colon: number) {
    this.#section = section;
    this.#start = start;
    this.#length = end - start;
    this.#nameLength = nameLength;
    this.#colon = colon;
  }

  get raw(): Buffer {
    return this.#section.subarray(this.#start, this.#start + this.#length);
  }

  get name(): string {
    return this.#section.toString('latin1', this.#start, this.#start + this.#nameLength);
  }

  get value(): string {
    const start = this.#start + this.#colon + 1;
    this.#value ??= unfold(this.#section.toString('utf8', start, this.#start + this.#length));
    return this.#value;
  }
}

/** RFC 5322 §2.2.3: a line end before white space is removed; what other line ends there are become a space. */
const unfold = (text: string): string =>
  text.includes('\n')
    ? text
        .replace(/\r?\n(?=[ \t])/g, '')
        .replace(/\r?\n/g, ' ')
        .trim()
    : text.trim();

/**
 * The value of a field as text that may be written back: bytes that are no UTF-8 are read as windows-1252 instead of being
 * lost, and what no field may hold (NUL, stray CR) is a space. Encoded words are not decoded.
 */
export function fieldText({ raw }: HeaderField): string {
  const text = decodeText(raw.subarray(raw.indexOf(COLON) + 1));
  return unfold(text.replace(/\r(?!\n)|\0/g, ' '));
}

/**
 * Where the field's name ends and its colon stands, relative to `start`; undefined where RFC 5322 §3.6.8 sees no name.
 * The obsolete white space before the colon (§4.5) is allowed.
 */
function findName(section: Buffer, start: number, end: number): readonly [length: number, colon: number] | undefined {
  let at = start;
  let byte = section[at] as number;
  while (at < end && byte > SP && byte < 0x7f && byte !== COLON) byte = section[++at] as number;
  const length = at - start;
  while (at < end && (byte === SP || byte === TAB)) byte = section[++at] as number;
  return length > 0 && at < end && byte === COLON ? [length, at - start] : undefined;
}

/** RFC 5322 §2.2.3: lines that begin with white space continue the field. */
function fieldEnd(section: Buffer, start: number): number {
  for (let line = start; ; ) {
    line = section.indexOf(LF, line) + 1;
    if (line === 0) return section.length;
    if (section[line] !== SP && section[line] !== TAB) return line;
  }
}

class LazyHeaderList implements HeaderList {
  readonly raw: Buffer;
  readonly size: number;
  readonly defects: readonly HeaderDefect[];
  readonly #fields: readonly HeaderField[];
  #byName: Map<string, HeaderField[]> | undefined;

  constructor(raw: Buffer, size: number, fields: readonly HeaderField[], defects: readonly HeaderDefect[]) {
    this.raw = raw;
    this.size = size;
    this.#fields = fields;
    this.defects = defects;
  }

  get count(): number {
    return this.#fields.length;
  }

  [Symbol.iterator](): Iterator<HeaderField> {
    return this.#fields[Symbol.iterator]();
  }

  get(name: string): HeaderField | undefined {
    return this.#index().get(name.toLowerCase())?.[0];
  }

  all(name: string): readonly HeaderField[] {
    return this.#index().get(name.toLowerCase()) ?? [];
  }

  has(name: string): boolean {
    return this.#index().has(name.toLowerCase());
  }

  #index(): Map<string, HeaderField[]> {
    if (this.#byName) return this.#byName;
    const index = new Map<string, HeaderField[]>();
    for (const field of this.#fields) {
      const key = field.name.toLowerCase();
      const same = index.get(key);
      if (same) same.push(field);
      else index.set(key, [field]);
    }
    this.#byName = index;
    return index;
  }
}

const notAName = [0, -1] as const;

/**
 * Reads a header section: `section` holds its bytes up to, not including, the empty line. Where only the beginning of a
 * larger section is at hand, `size` tells the section's true size and the list gets the defect `header-too-large`.
 */
export function parseHeaders(section: Buffer, limits: HeaderLimits = {}, size: number = section.length): HeaderList {
  const maxBytes = limits.maxHeaderBytes ?? defaultHeaderLimits.maxHeaderBytes;
  const maxFields = limits.maxHeaderFields ?? defaultHeaderLimits.maxHeaderFields;
  const fields: HeaderField[] = [];
  const defects = new Set<HeaderDefect>();
  for (let start = 0, end = 0; start < section.length; start = end) {
    end = fieldEnd(section, start);
    if (end > maxBytes || (end === section.length && size > end)) {
      defects.add('header-too-large');
      break;
    }
    if (fields.length === maxFields) {
      defects.add('too-many-fields');
      break;
    }
    const name = findName(section, start, end);
    if (!name) defects.add('malformed-field');
    fields.push(new LazyField(section, start, end, ...(name ?? notAName)));
  }
  if (size > section.length) defects.add('header-too-large');
  return new LazyHeaderList(section, size, fields, [...defects]);
}
