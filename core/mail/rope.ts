// The bytes of a message: pieces held in memory or lying in a file, in order. A message below the spool threshold is
// one buffer; a spooled one is a range of a file; a final form is new header bytes followed by ranges of the original.

/** A range of a file, `start` inclusive, `end` exclusive, in bytes. The file outlives the rope's use. */
export interface FileRange {
  readonly file: string;
  readonly start: number;
  readonly end: number;
}
export type Piece = Buffer | FileRange;

export interface Rope {
  /** Sum of the pieces' lengths, in bytes. */
  readonly size: number;
  readonly pieces: readonly Piece[];
}
