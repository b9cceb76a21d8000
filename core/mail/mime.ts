// Reading the MIME tree of a message.
//
// The message is seen line by line, once, in memory or from a stream of chunks, with a constant amount of work per byte
// whatever it says: nesting, parts and header bytes are limited, all open boundaries are compared in one pass, and of a
// long line only the beginning is looked at. Nothing throws for what a message contains: defects are reported, and
// reading goes on as the common mail readers do.
import type { HeaderLimits } from './headers.ts';
import type { MimeLimits, MimePart } from './mime-part.ts';
import { TreeBuilder } from './mime-tree.ts';
import { inMemoryBytes, type Rope, ropeChunks } from './rope.ts';

export type { ContentType, Disposition } from './content-type.ts';
export { defaultMimeLimits, type MimeDefect, type MimeLimits, type MimePart, partAt, walkParts } from './mime-part.ts';

const LF = 0x0a;
const CR = 0x0d;

/** Length of the line end whose LF is at `lf`. */
const eolLength = (bytes: Buffer, lf: number, lineStart: number): number =>
  lf > lineStart && bytes[lf - 1] === CR ? 2 : 1;

function countLineEnds(builder: TreeBuilder, bytes: Buffer, from: number): void {
  let count = 0;
  for (let lf = bytes.indexOf(LF, from); lf >= 0; lf = bytes.indexOf(LF, lf + 1)) count++;
  builder.count(count, 0);
}

function parseBytes(bytes: Buffer, limits: MimeLimits & HeaderLimits): MimePart {
  const builder = new TreeBuilder(limits, bytes);
  for (let line = 0; line < bytes.length; ) {
    // Nothing can open again once nothing is open: the body of the outermost part is all that is left.
    if (builder.isCounting) {
      countLineEnds(builder, bytes, line);
      break;
    }
    const lf = bytes.indexOf(LF, line);
    const next = lf < 0 ? bytes.length : lf + 1;
    const eol = lf < 0 ? 0 : eolLength(bytes, lf, line);
    builder.line(bytes, line, Math.min(next, line + builder.lineBytes), line, next - line, eol);
    line = next;
  }
  return builder.finish(bytes.length);
}

/** Cuts chunks into lines, keeping at most the beginning of a line that goes on in the next chunk. */
class LineFeed {
  readonly #builder: TreeBuilder;
  #carry: Buffer[] = [];
  #carried = 0;
  #length = 0;
  #lastByte = 0;
  #offset = 0;

  constructor(builder: TreeBuilder) {
    this.#builder = builder;
  }

  push(chunk: Buffer): void {
    let line = 0;
    for (let lf = chunk.indexOf(LF); lf >= 0; lf = chunk.indexOf(LF, line)) {
      if (this.#length > 0) this.#endCarried(chunk.subarray(0, lf + 1));
      else {
        const length = lf + 1 - line;
        const eol = eolLength(chunk, lf, line);
        const to = Math.min(lf + 1, line + this.#builder.lineBytes);
        this.#builder.line(chunk, line, to, this.#offset, length, eol);
        this.#offset += length;
      }
      line = lf + 1;
    }
    if (line < chunk.length) this.#keep(chunk.subarray(line));
  }

  end(): MimePart {
    if (this.#length > 0) this.#emit(0);
    return this.#builder.finish(this.#offset);
  }

  #keep(bytes: Buffer): void {
    const room = this.#builder.lineBytes - this.#carried;
    if (room > 0) {
      const part = Buffer.from(bytes.subarray(0, room));
      this.#carry.push(part);
      this.#carried += part.length;
    }
    this.#length += bytes.length;
    this.#lastByte = bytes[bytes.length - 1] as number;
  }

  #endCarried(rest: Buffer): void {
    const before = rest.length > 1 ? rest[rest.length - 2] : this.#lastByte;
    this.#keep(rest);
    this.#emit(before === CR ? 2 : 1);
  }

  #emit(eol: number): void {
    const start = Buffer.concat(this.#carry);
    this.#builder.line(start, 0, start.length, this.#offset, this.#length, eol);
    this.#offset += this.#length;
    this.#carry = [];
    this.#carried = 0;
    this.#length = 0;
  }
}

/** The tree of a message that comes by in chunks, of any size; memory is bounded by the limits. */
export async function parseMimeChunks(
  chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
  limits: MimeLimits & HeaderLimits = {},
): Promise<MimePart> {
  const feed = new LineFeed(new TreeBuilder(limits));
  for await (const chunk of chunks) feed.push(chunk);
  return feed.end();
}

/** The tree of a message. Memory is bounded by the limits, not by the size, where the message lies in a file. */
export async function parseMime(message: Buffer | Rope, limits: MimeLimits & HeaderLimits = {}): Promise<MimePart> {
  const bytes = Buffer.isBuffer(message) ? message : inMemoryBytes(message);
  return bytes ? parseBytes(bytes, limits) : parseMimeChunks(ropeChunks(message as Rope), limits);
}
