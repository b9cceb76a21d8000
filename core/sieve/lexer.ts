// Lexical grammar of Sieve, RFC 5228 §8.1. Knows characters, not commands. Errors are reported and skipped, so that the
// parser always sees a stream that ends in `eof`. Line ends may be CRLF or LF; inside strings they become CRLF.
import type { Comment, Span } from './ast.ts';
import { quote } from './diagnostic.ts';
import type { CompileLimits } from './limits.ts';

export type TokenKind =
  | 'identifier'
  | 'tag'
  | 'number'
  | 'string'
  | '('
  | ')'
  | '['
  | ']'
  | '{'
  | '}'
  | ','
  | ';'
  | 'garbage'
  | 'eof';

export interface Token {
  readonly kind: TokenKind;
  /** Identifier and tag in lower case, string value, garbage as written. */
  readonly text: string;
  readonly value: number;
  readonly multiline: boolean;
  readonly span: Span;
  /** Index into `Lexed.comments` of the first comment after this token's predecessor. */
  readonly firstComment: number;
}

export interface Lexed {
  readonly tokens: readonly Token[];
  readonly comments: readonly Comment[];
}

type Report = (span: Span, message: string) => void;

const quantifiers: Readonly<Record<string, number>> = { k: 1024, m: 1_048_576, g: 1_073_741_824 };
const identifierPattern = /[A-Za-z_][A-Za-z0-9_]*/y;
const numberPattern = /([0-9]+)([A-Za-z_]?[A-Za-z0-9_]*)/y;
const hashPattern = /[^\n]*/y;
const spacePattern = /[ \t\r\n]+/y;
const multilineStart = /text:[ \t]*(#[^\n]*?)?\r?\n/iy;
const punctuation = new Set(['(', ')', '[', ']', '{', '}', ',', ';']);

export function lex(source: string, limits: CompileLimits, report: Report): Lexed {
  return new Lexer(source, limits, report).run();
}

class Lexer {
  readonly #source: string;
  readonly #limits: CompileLimits;
  readonly #report: Report;
  readonly #tokens: Token[] = [];
  readonly #comments: Comment[] = [];
  #at = 0;
  #firstComment = 0;
  // Position of the last offset asked for: offsets only grow, so counting lines costs one pass in all.
  #line = 1;
  #lineStart = 0;
  #counted = 0;

  constructor(source: string, limits: CompileLimits, report: Report) {
    this.#source = source;
    this.#limits = limits;
    this.#report = report;
  }

  run(): Lexed {
    while (this.#at < this.#source.length) this.#next();
    this.#push('eof', this.#at, '');
    return { tokens: this.#tokens, comments: this.#comments };
  }

  #span(start: number, end: number): Span {
    for (let nl = this.#source.indexOf('\n', this.#counted); nl !== -1 && nl < start; ) {
      this.#line += 1;
      this.#lineStart = nl + 1;
      this.#counted = nl + 1;
      nl = this.#source.indexOf('\n', this.#counted);
    }
    return { start, end, line: this.#line, column: start - this.#lineStart + 1 };
  }

  #push(kind: TokenKind, start: number, text: string, value = 0, multiline = false): void {
    const span = this.#span(start, this.#at);
    this.#tokens.push({ kind, text, value, multiline, span, firstComment: this.#firstComment });
    this.#firstComment = this.#comments.length;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#source);
    if (found) this.#at = pattern.lastIndex;
    return found;
  }

  #next(): void {
    const start = this.#at;
    const char = this.#source[start] as string;
    if (this.#match(spacePattern)) return;
    if (char === '#') this.#hashComment(start);
    else if (char === '/' && this.#source[start + 1] === '*') this.#bracketComment(start);
    else if (char === '"') this.#quoted(start);
    else if (char === ':') this.#tag(start);
    else if (punctuation.has(char)) {
      this.#at += 1;
      this.#push(char as TokenKind, start, char);
    } else if ((char === 't' || char === 'T') && this.#match(multilineStart)) this.#multiline(start);
    else this.#word(start);
  }

  #word(start: number): void {
    const word = this.#match(identifierPattern);
    const number = word ? null : this.#match(numberPattern);
    if (word) this.#push('identifier', start, word[0].toLowerCase());
    else if (number) this.#number(start, number[1] as string, number[2] as string);
    else this.#garbage(start);
  }

  #hashComment(start: number): void {
    const text = (this.#match(hashPattern)?.[0] ?? '').replace(/\r$/, '');
    this.#comments.push({ kind: 'hash', text: text.slice(1), span: this.#span(start, start + text.length) });
  }

  #bracketComment(start: number): void {
    const close = this.#source.indexOf('*/', start + 2);
    const end = close === -1 ? this.#source.length : close + 2;
    this.#at = end;
    const span = this.#span(start, end);
    if (close === -1) this.#report(span, "Comment beginning with '/*' is never closed with '*/'");
    this.#comments.push({ kind: 'bracket', text: this.#source.slice(start + 2, close === -1 ? end : close), span });
  }

  #tag(start: number): void {
    this.#at += 1;
    const word = this.#match(identifierPattern);
    if (word) this.#push('tag', start, word[0].toLowerCase());
    else {
      this.#report(this.#span(start, start + 1), "Expected the name of a tag right after ':'");
      this.#push('garbage', start, ':');
    }
  }

  #number(start: number, digits: string, suffix: string): void {
    const factor = suffix === '' ? 1 : quantifiers[suffix.toLowerCase()];
    const span = this.#span(start, this.#at);
    if (factor === undefined) this.#report(span, `Unknown quantifier ${quote(suffix)} of a number, use K, M or G`);
    const value = Number(digits) * (factor ?? 1);
    if (value > this.#limits.number)
      this.#report(span, `Number ${quote(digits + suffix)} is too large, the limit is ${this.#limits.number}`);
    this.#push('number', start, digits, Math.min(value, this.#limits.number));
  }

  // RFC 5228 §2.4.2: only `\"` and `\\` are defined escapes; a backslash before anything else is dropped.
  #quoted(start: number): void {
    const source = this.#source;
    let at = start + 1;
    let text = '';
    let from = at;
    for (; at < source.length && source[at] !== '"'; at += 1) {
      if (source[at] !== '\\') continue;
      text += source.slice(from, at);
      at += 1;
      from = at;
    }
    text += source.slice(from, Math.min(at, source.length));
    this.#at = Math.min(at + 1, source.length);
    if (at >= source.length) this.#report(this.#span(start, start + 1), "String is never closed with '\"'");
    this.#string(start, text, false);
  }

  #multiline(start: number): void {
    const source = this.#source;
    const lines: string[] = [];
    for (;;) {
      const nl = source.indexOf('\n', this.#at);
      const line = source.slice(this.#at, nl === -1 ? source.length : nl).replace(/\r$/, '');
      this.#at = nl === -1 ? source.length : nl + 1;
      if (line === '.') break;
      if (nl === -1) {
        this.#report(this.#span(start, start + 5), "Text is never closed with a line holding only '.'");
        if (line !== '') lines.push(line);
        break;
      }
      lines.push(line.startsWith('..') ? line.slice(1) : line);
    }
    this.#string(start, lines.map(line => `${line}\n`).join(''), true);
  }

  #string(start: number, text: string, multiline: boolean): void {
    const span = this.#span(start, this.#at);
    const normal = text.replace(/\r?\n/g, '\r\n');
    // RFC 5228 §8.1: no NUL anywhere, CR only before LF.
    if (text.includes('\0')) this.#report(span, 'String holds a NUL character');
    if (/\r(?!\n)/.test(normal)) this.#report(span, 'String holds a carriage return without a line feed');
    if (normal.length * 3 > this.#limits.stringBytes && Buffer.byteLength(normal) > this.#limits.stringBytes)
      this.#report(span, `String is longer than the limit of ${this.#limits.stringBytes} bytes`);
    this.#push('string', start, normal, 0, multiline);
  }

  #garbage(start: number): void {
    const bad = /[^\sA-Za-z0-9_"#:()[\]{},;]+/y;
    bad.lastIndex = start;
    const text = bad.exec(this.#source)?.[0] ?? (this.#source[start] as string);
    this.#at = start + text.length;
    this.#report(this.#span(start, this.#at), `Unexpected ${quote(text)}`);
    this.#push('garbage', start, text);
  }
}
