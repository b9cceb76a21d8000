// The words of RFC 3501 §9, read from one framed command. A cursor with one method per production; a method either
// takes what it names and moves on, or throws a `WireError` and nothing else. Every loop is bounded by the bytes of the
// command, which the framer bounded; lists nest at most `maxDepth` deep.
//
// Lenience, each because a client in use needs it: 8-bit bytes in quoted strings (Outlook, old Eudora), more than one
// space nowhere, white space at the end of a command (Nokia, telnet).
import type { Rope } from '../../mail/rope.ts';
import { type Partial, type Section, type Segment, type SequenceSet, type SetRange, star } from './types.ts';
import { WireError } from './wire-error.ts';

const maxDepth = 50;
const maxRanges = 20_000;

// ATOM-CHAR: any CHAR but ( ) { SP CTL % * " \ ]  — RFC 3501 §9.
const atomPattern = /[!#$&'+,\-./0-9:;<=>?@A-Z[^_`a-z|}~]+/y;
// ASTRING-CHAR adds "]"; 8-bit bytes are let through, since clients send raw UTF-8 mailbox names (RFC 6855 §3 later).
const astringPattern = /[!#$&'+,\-./0-9:;<=>?@A-Z[\]^_`a-z|}~\x80-\xff]+/y;
const tagPattern = /[!#$&',\-./0-9:;<=>?@A-Z[\]^_`a-z|}~]+/y;
const listMailboxPattern = /[!#$%&'*+,\-./0-9:;<=>?@A-Z[\]^_`a-z|}~\x80-\xff]+/y;
const quotedPattern = /"((?:[^"\\\r\n\0]|\\["\\])*)"/y;
const numberPattern = /[0-9]{1,16}/y;
const flagPattern = /\\?[!#$&'+,\-./0-9:;<=>?@A-Z[^_`a-z|}~]+/y;
const setPattern = /[0-9*:,]+/y;
const headerNamePattern = /[!-9;-~]+/y;
const base64Pattern = /[A-Za-z0-9+/]*={0,2}/y;

const max32 = 4_294_967_295;

export class Lexer {
  private readonly segments: readonly Segment[];
  private index = 0;
  private text = '';
  private at = 0;
  private depth = 0;

  constructor(segments: readonly Segment[]) {
    this.segments = segments;
    const first = segments[0];
    if (first?.kind === 'text') this.text = first.bytes.toString('latin1');
  }

  /** Whether all is read, but for spaces at the end. */
  atEnd(): boolean {
    if (this.index + 1 < this.segments.length) return false;
    for (let at = this.at; at < this.text.length; at += 1) if (this.text[at] !== ' ') return false;
    return true;
  }

  end(): void {
    if (!this.atEnd()) throw new WireError('Unexpected extra arguments');
  }

  /** The next character within the current line, or '' at its end or before a literal. */
  peek(): string {
    return this.text[this.at] ?? '';
  }

  sp(): void {
    if (this.text[this.at] !== ' ') throw new WireError('Missing argument');
    this.at += 1;
  }

  /** Takes a space where there is one and more follows it. */
  trySp(): boolean {
    if (this.text[this.at] !== ' ' || this.atEnd()) return false;
    this.at += 1;
    return true;
  }

  tryChar(char: string): boolean {
    if (this.text[this.at] !== char) return false;
    this.at += 1;
    return true;
  }

  char(char: string): void {
    if (!this.tryChar(char)) throw new WireError(`Expected '${char}'`);
  }

  tag(): string {
    return this.match(tagPattern, 'Missing or invalid tag');
  }

  atom(): string {
    return this.match(atomPattern, 'Expected an atom');
  }

  /** An atom in upper case: command, attribute and key names are case-insensitive. */
  keyword(): string {
    return this.atom().toUpperCase();
  }

  /** The keyword that comes next, without taking it; '' where no atom begins. */
  peekKeyword(): string {
    atomPattern.lastIndex = this.at;
    return atomPattern.exec(this.text)?.[0].toUpperCase() ?? '';
  }

  /** Takes the keyword if it is the next whole atom. */
  tryKeyword(word: string): boolean {
    if (this.peekKeyword() !== word) return false;
    this.at += word.length;
    return true;
  }

  /** Takes letters, digits, `.` and nothing else: attribute names that may be followed by `[`. */
  attributeName(): string {
    attributePattern.lastIndex = this.at;
    const found = attributePattern.exec(this.text)?.[0];
    if (!found) throw new WireError('Expected a data item name');
    this.at += found.length;
    return found.toUpperCase();
  }

  number(): number {
    const value = Number(this.match(numberPattern, 'Expected a number'));
    if (value > max32) throw new WireError('Number out of range');
    return value;
  }

  nzNumber(): number {
    const value = this.number();
    if (value === 0) throw new WireError('Zero is not allowed here');
    return value;
  }

  /** mod-sequence-valzer, 63 bits in the RFC (7162 §7); ours end at 2^53. */
  modseq(): number {
    const value = Number(this.match(numberPattern, 'Expected a mod-sequence'));
    if (!Number.isSafeInteger(value)) throw new WireError('Number out of range');
    return value;
  }

  /** quoted or literal. */
  string(): Buffer {
    const char = this.text[this.at];
    if (char === '"') return this.quoted();
    const literal = this.tryLiteral();
    if (!literal) throw new WireError('Expected a string');
    return literal;
  }

  astring(): Buffer {
    const char = this.text[this.at];
    if (char === '"') return this.quoted();
    if (char === undefined) {
      const literal = this.tryLiteral();
      if (literal) return literal;
    }
    return Buffer.from(this.match(astringPattern, 'Expected a string'), 'latin1');
  }

  /** list-mailbox: like astring, with the wildcards. */
  listMailbox(): Buffer {
    const char = this.text[this.at];
    if (char === '"') return this.quoted();
    if (char === undefined) {
      const literal = this.tryLiteral();
      if (literal) return literal;
    }
    return Buffer.from(this.match(listMailboxPattern, 'Expected a mailbox pattern'), 'latin1');
  }

  nstring(): Buffer | undefined {
    return this.tryKeyword('NIL') ? undefined : this.string();
  }

  /** A literal as such: message data of APPEND. In memory or spooled. */
  message(): { readonly source: Rope; readonly binary: boolean } {
    const next = this.segments[this.index + 1];
    if (this.at < this.text.length || !next || next.kind === 'text') throw new WireError('Expected a literal');
    this.advance();
    return next.kind === 'spooled'
      ? { source: next.rope, binary: next.binary }
      : { source: { size: next.bytes.length, pieces: [next.bytes] }, binary: next.binary };
  }

  /** `(` item *(SP item) `)`, possibly empty. */
  list<T>(item: () => T): readonly T[] {
    this.char('(');
    if (this.depth >= maxDepth) throw new WireError('Nested too deep');
    this.depth += 1;
    const items: T[] = [];
    if (!this.tryChar(')')) {
      do items.push(item());
      while (this.tryChar(' '));
      this.char(')');
    }
    this.depth -= 1;
    return items;
  }

  /** Guards a production that calls itself. */
  nested<T>(production: () => T): T {
    if (this.depth >= maxDepth) throw new WireError('Nested too deep');
    this.depth += 1;
    const result = production();
    this.depth -= 1;
    return result;
  }

  /** `\Seen`, `$Forwarded`, … as written. */
  flag(): string {
    return this.match(flagPattern, 'Expected a flag');
  }

  sequenceSet(): SequenceSet {
    const ranges: SetRange[] = [];
    for (const part of this.match(setPattern, 'Expected a message set').split(',')) {
      if (ranges.length >= maxRanges) throw new WireError('Message set too long');
      const colon = part.indexOf(':');
      const first = setNumber(colon < 0 ? part : part.slice(0, colon));
      ranges.push({ first, last: colon < 0 ? first : setNumber(part.slice(colon + 1)) });
    }
    return ranges;
  }

  /** date-text, with or without quotes: ms of its midnight in UTC, the day without a zone. */
  date(): number {
    const quoted = this.tryChar('"');
    datePattern.lastIndex = this.at;
    const match = datePattern.exec(this.text);
    if (!match) throw new WireError('Invalid date');
    this.at += match[0].length;
    if (quoted) this.char('"');
    return dayOf(Number(match[1]), match[2] ?? '', Number(match[3]));
  }

  /** date-time of APPEND: ms since the epoch. */
  dateTime(): number {
    dateTimePattern.lastIndex = this.at;
    const match = dateTimePattern.exec(this.text);
    if (!match) throw new WireError('Invalid date-time');
    this.at += match[0].length;
    const [, day, month = '', year, hour, minute, second, sign, zoneHour, zoneMinute] = match;
    if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60 || Number(zoneMinute) > 59)
      throw new WireError('Invalid date-time');
    const zone = (Number(zoneHour) * 60 + Number(zoneMinute)) * (sign === '-' ? -1 : 1);
    const minutes = Number(hour) * 60 + Number(minute) - zone;
    return dayOf(Number(day), month, Number(year)) + minutes * 60_000 + Number(second) * 1000;
  }

  /** `[…]` of BODY[…] (RFC 3501 §6.4.5). */
  section(): Section {
    this.char('[');
    const part: number[] = [];
    while (/[0-9]/.test(this.peek())) {
      part.push(this.nzNumber());
      if (part.length > maxDepth) throw new WireError('Nested too deep');
      if (!this.tryChar('.')) {
        this.char(']');
        return { part, of: 'all', fields: [] };
      }
    }
    if (part.length === 0 && this.tryChar(']')) return { part, of: 'all', fields: [] };
    const of = this.sectionText(part.length > 0);
    const fields = of === 'header.fields' || of === 'header.fields.not' ? this.headerList() : [];
    this.char(']');
    return { part, of, fields };
  }

  /** `<n>` or `<n.m>` where one follows. */
  partial(): Partial | undefined {
    if (!this.tryChar('<')) return undefined;
    const offset = this.number();
    this.char('.');
    const count = this.nzNumber();
    this.char('>');
    return { offset, count };
  }

  base64(): Buffer {
    const text = this.match(base64Pattern, 'Expected base64');
    if (text.length % 4 !== 0) throw new WireError('Invalid base64');
    return Buffer.from(text, 'base64');
  }

  private sectionText(inPart: boolean): Section['of'] {
    const name = this.attributeName();
    if (name === 'HEADER') return 'header';
    if (name === 'TEXT') return 'text';
    if (name === 'HEADER.FIELDS') return 'header.fields';
    if (name === 'HEADER.FIELDS.NOT') return 'header.fields.not';
    if (name === 'MIME' && inPart) return 'mime';
    throw new WireError('Unknown section');
  }

  private headerList(): readonly string[] {
    this.sp();
    const names = this.list(() => {
      const name = this.astring().toString('latin1');
      headerNamePattern.lastIndex = 0;
      if (headerNamePattern.exec(name)?.[0] !== name) throw new WireError('Invalid header field name');
      return name;
    });
    if (names.length === 0) throw new WireError('Empty header list');
    return names;
  }

  private quoted(): Buffer {
    const found = this.match(quotedPattern, 'Invalid quoted string').slice(1, -1);
    return Buffer.from(found.includes('\\') ? found.replace(/\\(["\\])/g, '$1') : found, 'latin1');
  }

  private tryLiteral(): Buffer | undefined {
    const next = this.segments[this.index + 1];
    if (this.at < this.text.length || next?.kind !== 'literal') return undefined;
    // RFC 3501 §9: CHAR8 excludes NUL; only literal8 may hold it.
    if (!next.binary && next.bytes.includes(0)) throw new WireError('NUL in a literal');
    this.advance();
    return next.bytes;
  }

  /** Over a literal, to the line behind it. */
  private advance(): void {
    this.index += 2;
    const next = this.segments[this.index];
    this.text = next?.kind === 'text' ? next.bytes.toString('latin1') : '';
    this.at = 0;
  }

  private match(pattern: RegExp, expected: string): string {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found === undefined) throw new WireError(expected);
    this.at += found.length;
    return found;
  }
}

const attributePattern = /[A-Za-z][A-Za-z0-9.]*/y;
const datePattern = /(\d{1,2})-([A-Za-z]{3})-(\d{4})/y;
const dateTimePattern = /"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"/y;
export const monthNames = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

function dayOf(day: number, month: string, year: number): number {
  const name = month.toLowerCase();
  const index = monthNames.findIndex(known => known.toLowerCase() === name);
  const date = new Date(0);
  date.setUTCFullYear(year, index, day);
  if (index < 0 || day < 1 || date.getUTCDate() !== day) throw new WireError('Invalid date');
  return date.getTime();
}

function setNumber(text: string): number {
  if (text === '*') return star;
  const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : 0;
  if (value === 0 || value > max32) throw new WireError('Invalid message set');
  return value;
}
