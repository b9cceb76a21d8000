// Grammar of Sieve, RFC 5228 §8.2. Reports every syntax error it can tell from the consequences of an earlier one: after
// an error it skips to the end of the command and goes on. A node with an error in it is left out of the tree, so that the
// validator never complains about what the parser complained about.
import type { ArgumentNode, BlockNode, CommandNode, Comment, Script, Span, StringNode, TestNode } from './ast.ts';
import type { Diagnostic } from './diagnostic.ts';
import { quote } from './diagnostic.ts';
import type { Lexed, Token, TokenKind } from './lexer.ts';
import { lex } from './lexer.ts';
import type { CompileLimits } from './limits.ts';
import { defaultCompileLimits } from './limits.ts';

/** Never throws: what is wrong stands in `diagnostics`, in the order of the source. */
export function parse(source: string | Uint8Array, limits: CompileLimits = defaultCompileLimits): Script {
  const diagnostics: Diagnostic[] = [];
  const report = (span: Span, message: string): void => {
    diagnostics.push({ severity: 'error', line: span.line, column: span.column, message });
  };
  const text = decode(source, limits, report);
  if (text === undefined) return { source: '', commands: [], comments: [], trailing: [], diagnostics };
  const parser = new Parser(lex(text, limits, report), limits, report);
  const commands = parser.script();
  diagnostics.sort((a, b) => a.line - b.line || a.column - b.column);
  return { source: text, commands, comments: parser.comments, trailing: parser.trailing, diagnostics };
}

function decode(
  source: string | Uint8Array,
  limits: CompileLimits,
  report: (span: Span, message: string) => void,
): string | undefined {
  const start: Span = { start: 0, end: 0, line: 1, column: 1 };
  const bytes = typeof source === 'string' ? Buffer.byteLength(source) : source.length;
  if (bytes > limits.scriptBytes) {
    report(start, `Script has ${bytes} bytes, the limit is ${limits.scriptBytes}`);
    return undefined;
  }
  if (typeof source === 'string') return source.replace(/^\ufeff/, '');
  // RFC 5228 §2.1: scripts are UTF-8.
  const text = Buffer.from(source.buffer, source.byteOffset, source.length).toString('utf8');
  const bad = text.indexOf('\ufffd');
  if (bad !== -1 && !Buffer.from(text).equals(Buffer.from(source))) {
    const before = text.slice(0, bad);
    const line = before.split('\n').length;
    report(
      { start: bad, end: bad + 1, line, column: bad - before.lastIndexOf('\n') },
      'Script is not valid UTF-8 here',
    );
  }
  return text.replace(/^\ufeff/, '');
}

/** Thrown and caught within this file: ends the command in which the error stands. */
class SyntaxStop extends Error {}

interface Words {
  readonly arguments: readonly ArgumentNode[];
  readonly tests: readonly TestNode[];
  readonly testList: boolean;
}

const names: Readonly<Partial<Record<TokenKind, string>>> = {
  eof: 'the end of the script',
  string: 'a string',
  number: 'a number',
};

function show(token: Token): string {
  const name = names[token.kind];
  if (name !== undefined) return name;
  return token.kind === 'tag' ? quote(`:${token.text}`) : quote(token.text);
}

class Parser {
  readonly comments: readonly Comment[];
  trailing: readonly Comment[] = [];
  readonly #tokens: readonly Token[];
  readonly #limits: CompileLimits;
  readonly #report: (span: Span, message: string) => void;
  #at = 0;
  #words = 0;

  constructor(lexed: Lexed, limits: CompileLimits, report: (span: Span, message: string) => void) {
    this.#tokens = lexed.tokens;
    this.comments = lexed.comments;
    this.#limits = limits;
    this.#report = report;
  }

  script(): readonly CommandNode[] {
    const commands: CommandNode[] = [];
    for (;;) {
      this.#commands(commands, 0);
      if (this.#token.kind === 'eof') break;
      this.#report(this.#token.span, "Unexpected '}', no block is open here");
      this.#at += 1;
    }
    this.trailing = this.#commentsBefore(this.#token);
    return commands;
  }

  get #token(): Token {
    return this.#tokens[this.#at] as Token;
  }

  #is(kind: TokenKind): boolean {
    return this.#token.kind === kind;
  }

  #commentsBefore(token: Token): readonly Comment[] {
    return this.comments
      .slice(token.firstComment, token.firstComment + 1000)
      .filter(comment => comment.span.start < token.span.start);
  }

  #fail(token: Token, expected: string): never {
    // The lexer has spoken about garbage already.
    if (token.kind !== 'garbage') this.#report(token.span, `Expected ${expected}, found ${show(token)}`);
    throw new SyntaxStop();
  }

  #range(from: Token): Span {
    const last = this.#tokens[Math.max(this.#at - 1, 0)] as Token;
    return { ...from.span, end: Math.max(last.span.end, from.span.end) };
  }

  #commands(into: CommandNode[], depth: number): void {
    while (this.#token.kind !== 'eof' && this.#token.kind !== '}') {
      const from = this.#at;
      try {
        into.push(this.#command(depth));
      } catch (error) {
        if (!(error instanceof SyntaxStop)) throw error;
        this.#recover(into, depth);
        if (this.#at === from) this.#at += 1;
      }
    }
  }

  #command(depth: number): CommandNode {
    const name = this.#token;
    if (name.kind !== 'identifier') this.#fail(name, 'the name of a command');
    this.#count(name);
    this.#at += 1;
    const words = this.#arguments(0);
    const block = this.#end(name, depth);
    const leading = this.#commentsBefore(name);
    const node = { kind: 'command', name: name.text, ...words, span: this.#range(name), nameSpan: name.span } as const;
    return block ? { ...node, block, leading } : { ...node, leading };
  }

  /** `;` or a block. */
  #end(name: Token, depth: number): BlockNode | undefined {
    const token = this.#token;
    if (token.kind === '{') return this.#block(depth);
    if (token.kind !== ';') this.#fail(token, `';' or '{' at the end of command ${quote(name.text)}`);
    this.#at += 1;
    return undefined;
  }

  #block(depth: number): BlockNode {
    const open = this.#token;
    if (depth >= this.#limits.nesting) {
      this.#report(open.span, `Blocks are nested deeper than the limit of ${this.#limits.nesting}`);
      this.#skipBlock();
      return { commands: [], span: this.#range(open), trailing: [] };
    }
    this.#at += 1;
    const commands: CommandNode[] = [];
    this.#commands(commands, depth + 1);
    const trailing = this.#commentsBefore(this.#token);
    if (this.#token.kind === '}') this.#at += 1;
    else this.#report(this.#token.span, `Expected '}' to close the block opened in line ${open.span.line}`);
    return { commands, span: this.#range(open), trailing };
  }

  #arguments(depth: number): Words {
    const list: ArgumentNode[] = [];
    for (;;) {
      const token = this.#token;
      if (token.kind === 'string') list.push(this.#string());
      else if (token.kind === '[') list.push(this.#stringList());
      else if (token.kind === 'number' || token.kind === 'tag') {
        this.#at += 1;
        if (token.kind === 'number') list.push({ kind: 'number', value: token.value, span: token.span });
        else list.push({ kind: 'tag', name: token.text, span: token.span });
      } else break;
    }
    if (this.#token.kind === '(') return { arguments: list, tests: this.#testList(depth), testList: true };
    if (this.#token.kind === 'identifier') return { arguments: list, tests: [this.#test(depth)], testList: false };
    return { arguments: list, tests: [], testList: false };
  }

  #string(): StringNode {
    const token = this.#token;
    this.#at += 1;
    return { kind: 'string', value: token.text, multiline: token.multiline, span: token.span };
  }

  #stringList(): ArgumentNode {
    const open = this.#token;
    const items: StringNode[] = [];
    this.#at += 1;
    for (;;) {
      if (!this.#is('string')) this.#fail(this.#token, 'a string in the list');
      items.push(this.#string());
      if (items.length === this.#limits.listItems + 1)
        this.#report(open.span, `List holds more than the limit of ${this.#limits.listItems} strings`);
      if (this.#is(']')) break;
      if (!this.#is(',')) this.#fail(this.#token, "',' or ']' in the list");
      this.#at += 1;
    }
    this.#at += 1;
    return { kind: 'string-list', items, span: this.#range(open) };
  }

  #testList(depth: number): readonly TestNode[] {
    const tests: TestNode[] = [];
    this.#at += 1;
    for (;;) {
      tests.push(this.#test(depth));
      if (this.#token.kind === ')') break;
      if (this.#token.kind !== ',') this.#fail(this.#token, "',' or ')' after a test");
      this.#at += 1;
    }
    this.#at += 1;
    return tests;
  }

  #test(depth: number): TestNode {
    const name = this.#token;
    if (name.kind !== 'identifier') this.#fail(name, 'the name of a test');
    if (depth >= this.#limits.nesting) {
      this.#report(name.span, `Tests are nested deeper than the limit of ${this.#limits.nesting}`);
      throw new SyntaxStop();
    }
    this.#count(name);
    this.#at += 1;
    const words = this.#arguments(depth + 1);
    return { kind: 'test', name: name.text, ...words, span: this.#range(name), nameSpan: name.span };
  }

  #count(token: Token): void {
    this.#words += 1;
    if (this.#words === this.#limits.words + 1)
      this.#report(token.span, `Script has more than the limit of ${this.#limits.words} commands and tests`);
  }

  // Skips to behind the `;` that ends the command. A block on the way is read, so that errors inside it are told as well;
  // a word at the beginning of a line that looks like a command is taken for the next one whose `;` was forgotten.
  #recover(into: CommandNode[], depth: number): void {
    let from = this.#at;
    for (;;) {
      const token = this.#token;
      if (token.kind === 'eof' || token.kind === '}') return;
      if (token.kind === ';') {
        this.#at += 1;
        return;
      }
      if (token.kind === '{') {
        into.push(...this.#block(depth).commands.slice(0, 0));
        return;
      }
      if (token.kind === 'identifier' && this.#at > 0 && this.#looksLikeCommand(from)) return;
      this.#at += 1;
      from = -1;
    }
  }

  #looksLikeCommand(from: number): boolean {
    const token = this.#token;
    const before = this.#tokens[this.#at - 1] as Token;
    const ended =
      before.kind === 'string' ||
      before.kind === 'identifier' ||
      before.kind === ']' ||
      before.kind === 'number' ||
      before.kind === ')';
    return ended && token.span.line > before.span.line && (from === this.#at || from === -1);
  }

  #skipBlock(): void {
    let open = 0;
    do {
      const kind = this.#token.kind;
      if (kind === 'eof') return;
      if (kind === '{') open += 1;
      if (kind === '}') open -= 1;
      this.#at += 1;
    } while (open > 0);
  }
}
