// Bounds on what a script may ask for while it is compiled (invariant I7). Those that hold during a run are settings of the host.

export interface CompileLimits {
  /** Bytes of a script. */
  readonly scriptBytes: number;
  /** Depth of blocks, and of tests within tests. */
  readonly nesting: number;
  /** Bytes of one string. */
  readonly stringBytes: number;
  /** Strings of one list. */
  readonly listItems: number;
  /** Commands and tests of one script. */
  readonly words: number;
  /** Largest number, quantifier applied (RFC 5228 §2.4.1). */
  readonly number: number;
  /** Errors reported before the compiler gives up. */
  readonly errors: number;
}

export const defaultCompileLimits: CompileLimits = {
  scriptBytes: 1 << 20,
  nesting: 32,
  stringBytes: 1 << 20,
  listItems: 10_000,
  words: 50_000,
  number: 4_294_967_295,
  errors: 100,
};
