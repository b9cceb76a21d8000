// The syntax tree of a script, RFC 5228 §8.2. Nothing of the source is lost: every node knows its range, every comment is
// kept with the node it stands before, and the source itself is part of the script, so that an editor can change one
// rule and leave the rest, blank lines and comments included, as the author wrote it.
import type { Diagnostic, Position } from './diagnostic.ts';

/** Offsets into `Script.source` (UTF-16 units), `end` exclusive, with the position of `start`. */
export interface Span extends Position {
  readonly start: number;
  readonly end: number;
}

export interface Comment {
  readonly kind: 'hash' | 'bracket';
  /** Without the marks. */
  readonly text: string;
  readonly span: Span;
}

export interface StringNode {
  readonly kind: 'string';
  /** Escapes and dot-stuffing removed, line ends CRLF (RFC 5228 §2.4.2). */
  readonly value: string;
  /** Written as `text:`. */
  readonly multiline: boolean;
  readonly span: Span;
}
export interface StringListNode {
  readonly kind: 'string-list';
  readonly items: readonly StringNode[];
  readonly span: Span;
}
export interface NumberNode {
  readonly kind: 'number';
  /** With the quantifier applied. */
  readonly value: number;
  readonly span: Span;
}
export interface TagNode {
  readonly kind: 'tag';
  /** Lower case, without the colon. */
  readonly name: string;
  readonly span: Span;
}
export type ArgumentNode = StringNode | StringListNode | NumberNode | TagNode;

export interface TestNode {
  readonly kind: 'test';
  /** Lower case. */
  readonly name: string;
  readonly arguments: readonly ArgumentNode[];
  readonly tests: readonly TestNode[];
  /** Whether the sub-tests stand in parentheses. */
  readonly testList: boolean;
  readonly span: Span;
  readonly nameSpan: Span;
}

export interface BlockNode {
  readonly commands: readonly CommandNode[];
  readonly span: Span;
  /** Comments after the last command, before the closing brace. */
  readonly trailing: readonly Comment[];
}

export interface CommandNode {
  readonly kind: 'command';
  /** Lower case. */
  readonly name: string;
  readonly arguments: readonly ArgumentNode[];
  readonly tests: readonly TestNode[];
  readonly testList: boolean;
  readonly block?: BlockNode;
  readonly span: Span;
  readonly nameSpan: Span;
  /** Comments between the previous command and this one. */
  readonly leading: readonly Comment[];
}

export interface Script {
  readonly source: string;
  readonly commands: readonly CommandNode[];
  /** All comments in order, wherever they stand. */
  readonly comments: readonly Comment[];
  /** Comments after the last command. */
  readonly trailing: readonly Comment[];
  /** Syntax errors; the tree holds what could be understood around them. */
  readonly diagnostics: readonly Diagnostic[];
}
