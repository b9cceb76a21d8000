// The values the grammar yields. Bytes only: nothing in `wire/` knows a mailbox, a session or a state.
import type { Rope } from '../../mail/rope.ts';

/** Announcement of a literal at the end of a line: `{n}`, `{n+}`, `~{n}` (RFC 3501 §4.3, RFC 7888, RFC 3516 §4.3). */
export interface LiteralHead {
  readonly size: number;
  /** False for `{n+}`: the bytes follow without our asking. */
  readonly sync: boolean;
  /** literal8: NUL is allowed. */
  readonly binary: boolean;
}

/** A command as it was framed: lines without their CRLF and literal announcement, and the literals between them. */
export type Segment =
  | { readonly kind: 'text'; readonly bytes: Buffer }
  | { readonly kind: 'literal'; readonly bytes: Buffer; readonly binary: boolean }
  /** A literal too big to hold: it lies in a spool, and only `Lexer.message()` takes it. */
  | { readonly kind: 'spooled'; readonly rope: Rope; readonly binary: boolean };

/** `*`: the largest number in use (RFC 3501 §9, seq-number). */
export const star = 0;

/** `first` and `last` in the order given; `star` for `*`. */
export interface SetRange {
  readonly first: number;
  readonly last: number;
}
export type SequenceSet = readonly SetRange[];

declare const seqBrand: unique symbol;
/** A message sequence number, 1 … count. Never mixed with a UID. */
export type Seq = number & { readonly [seqBrand]: 'seq' };

/** What `[…]` of BODY[…] asks for (RFC 3501 §6.4.5). */
export interface Section {
  /** Part numbers; empty for the message itself. */
  readonly part: readonly number[];
  readonly of: 'all' | 'header' | 'header.fields' | 'header.fields.not' | 'text' | 'mime';
  /** Header names as given, for `header.fields` and `.not`. */
  readonly fields: readonly string[];
}

/** `<offset.count>`. */
export interface Partial {
  readonly offset: number;
  readonly count: number;
}
