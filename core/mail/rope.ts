// The bytes of a message: pieces held in memory or lying in a file, in order. A message below the spool threshold is
// one buffer; a spooled one is a range of a file; a final form is new header bytes followed by ranges of the original.
// Nothing here copies bytes that are already in memory, and reading a file range never holds more than one chunk.
import { type FileHandle, open } from 'node:fs/promises';
import { Readable } from 'node:stream';

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

const chunkBytes = 64 * 1024;

const pieceSize = (piece: Piece): number => (Buffer.isBuffer(piece) ? piece.length : piece.end - piece.start);

const fromPieces = (pieces: readonly Piece[]): Rope => ({
  size: pieces.reduce((sum, piece) => sum + pieceSize(piece), 0),
  pieces,
});

export const bufferRope = (bytes: Buffer): Rope => ({ size: bytes.length, pieces: bytes.length === 0 ? [] : [bytes] });

/** `end` is exclusive: the size of the file when the whole file is meant. */
export const fileRope = (file: string, start: number, end: number): Rope =>
  fromPieces(end > start ? [{ file, start, end }] : []);

export const concatRopes = (...ropes: readonly Rope[]): Rope => fromPieces(ropes.flatMap(rope => rope.pieces));

/** The bytes from `start` up to `end` (default: the end), both cut to the rope as `Buffer.subarray` does; no negatives. */
export function sliceRope(rope: Rope, start: number, end: number = rope.size): Rope {
  const pieces: Piece[] = [];
  let at = 0;
  for (const piece of rope.pieces) {
    const size = pieceSize(piece);
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, size);
    if (from < to) {
      if (Buffer.isBuffer(piece)) pieces.push(piece.subarray(from, to));
      else pieces.push({ file: piece.file, start: piece.start + from, end: piece.start + to });
    }
    at += size;
    if (at >= end) break;
  }
  return fromPieces(pieces);
}

/** The pieces when all of them are in memory, else undefined. */
export function inMemory(rope: Rope): readonly Buffer[] | undefined {
  return rope.pieces.every(piece => Buffer.isBuffer(piece)) ? (rope.pieces as readonly Buffer[]) : undefined;
}

/** One buffer when the rope is wholly in memory, without copying where it is a single piece; else undefined. */
export function inMemoryBytes(rope: Rope): Buffer | undefined {
  const buffers = inMemory(rope);
  return buffers && joinBuffers(buffers);
}

const joinBuffers = (buffers: readonly Buffer[]): Buffer =>
  buffers.length === 1 && buffers[0] ? buffers[0] : Buffer.concat(buffers);

async function* readRange(handle: FileHandle, range: FileRange): AsyncGenerator<Buffer> {
  for (let at = range.start; at < range.end; ) {
    // Never from the shared pool, and a new one each time: the consumer may keep what it was given.
    const chunk = Buffer.allocUnsafeSlow(Math.min(chunkBytes, range.end - at));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) throw new Error(`File '${range.file}' ends at ${at}, ${range.end} expected`);
    at += bytesRead;
    yield chunk.subarray(0, bytesRead);
  }
}

/** The bytes in order, chunk by chunk. Rejects when a file is gone or shorter than its range. */
export async function* ropeChunks(rope: Rope): AsyncGenerator<Buffer> {
  for (const piece of rope.pieces) {
    if (Buffer.isBuffer(piece)) {
      yield piece;
      continue;
    }
    const handle = await open(piece.file, 'r');
    try {
      yield* readRange(handle, piece);
    } finally {
      await handle.close();
    }
  }
}

/** A new stream over the bytes, as often as wanted. It errors when a file is gone or shorter than its range. */
export function openRope(rope: Rope): Readable {
  const chunks = inMemory(rope) ?? ropeChunks(rope);
  return Readable.from(chunks, { objectMode: false, highWaterMark: chunkBytes });
}

/** All bytes in one buffer; the rope's own buffer (not a copy) when it is a single piece in memory. */
export async function ropeBytes(rope: Rope): Promise<Buffer> {
  const buffers = inMemory(rope);
  if (buffers) return joinBuffers(buffers);
  const chunks: Buffer[] = [];
  for await (const chunk of ropeChunks(rope)) chunks.push(chunk);
  return Buffer.concat(chunks, rope.size);
}
