// What the rules look at, found out once per message and only as far as some rule wants it.
import { type Envelope, type Message, type MimePart, ropeChunks } from '../../core/plugin/index.ts';

export interface ByteFacts {
  readonly nul: boolean;
  /** Bytes of the longest line without its line end; exact only above 998, where it matters. */
  readonly longestLine: number;
  readonly bareCr: boolean;
  readonly bareLf: boolean;
}

export interface Facts {
  readonly message: Message;
  readonly envelope: Envelope;
  /** Undefined where no rule asked for the tree or the message has none. */
  readonly mime?: MimePart;
  readonly bytes?: ByteFacts;
}

const LF = 0x0a;
const CR = 0x0d;
/** RFC 5322 §2.1.1, without CRLF. */
const maxLine = 998;

/** Looks at bytes as they go by. */
class ByteScan {
  readonly #lineEnds: boolean;
  #nul = false;
  #longestLine = 0;
  #bareCr = false;
  #bareLf = false;
  /** Bytes of the current line in earlier chunks, and the byte before this chunk. */
  #carried = 0;
  #previous = -1;

  constructor(lineEnds: boolean) {
    this.#lineEnds = lineEnds;
  }

  push(chunk: Buffer): void {
    this.#nul ||= chunk.includes(0);
    const { longest, rest } = lineLengths(chunk, this.#carried, this.#previous);
    this.#longestLine = Math.max(this.#longestLine, longest);
    this.#carried = rest;
    if (this.#lineEnds) {
      this.#bareLf ||= hasBareLf(chunk, this.#previous);
      this.#bareCr ||= hasBareCr(chunk, this.#previous);
    }
    this.#previous = chunk.at(-1) ?? this.#previous;
  }

  facts(): ByteFacts {
    return {
      nul: this.#nul,
      longestLine: Math.max(this.#longestLine, this.#carried),
      bareCr: this.#bareCr || (this.#lineEnds && this.#previous === CR),
      bareLf: this.#bareLf,
    };
  }
}

/** At once where the message is in memory. */
export function scanBytes({ rope }: Message, lineEnds: boolean): ByteFacts | Promise<ByteFacts> {
  const scan = new ByteScan(lineEnds);
  if (!rope.pieces.every(piece => Buffer.isBuffer(piece))) return scanFile(rope, scan);
  for (const piece of rope.pieces) if (Buffer.isBuffer(piece)) scan.push(piece);
  return scan.facts();
}

async function scanFile(rope: Message['rope'], scan: ByteScan): Promise<ByteFacts> {
  for await (const chunk of ropeChunks(rope)) scan.push(chunk);
  return scan.facts();
}

/** From the start of each line it jumps as far as a line may reach and looks back for a line end: few lines are visited. */
function lineLengths(
  chunk: Buffer,
  carried: number,
  previous: number,
): { readonly longest: number; readonly rest: number } {
  /** Of a line that ends with the LF at `end`, without its line end. */
  const lengthOf = (start: number, end: number): number =>
    end - start - ((end === 0 ? previous : chunk[end - 1]) === CR ? 1 : 0);
  let longest = 0;
  let start = -carried;
  for (;;) {
    const reach = start + maxLine + 1;
    if (reach >= chunk.length) break;
    const end = reach < 0 ? -1 : chunk.lastIndexOf(LF, reach);
    if (end >= Math.max(start, 0)) {
      // With a bare LF this one may be a byte too long.
      if (end === reach) longest = Math.max(longest, lengthOf(start, end));
      start = end + 1;
      continue;
    }
    const far = chunk.indexOf(LF, Math.max(reach, 0));
    if (far < 0) return { longest: Math.max(longest, chunk.length - start), rest: chunk.length - start };
    longest = Math.max(longest, lengthOf(start, far));
    start = far + 1;
  }
  const last = chunk.lastIndexOf(LF);
  return { longest, rest: chunk.length - (last < 0 ? start : Math.max(start, last + 1)) };
}

function hasBareLf(chunk: Buffer, previous: number): boolean {
  for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, at + 1))
    if ((at === 0 ? previous : chunk[at - 1]) !== CR) return true;
  return false;
}

/** A CR at the very end is judged with the next chunk. */
function hasBareCr(chunk: Buffer, previous: number): boolean {
  if (previous === CR && chunk.length > 0 && chunk[0] !== LF) return true;
  for (let at = chunk.indexOf(CR); at >= 0 && at + 1 < chunk.length; at = chunk.indexOf(CR, at + 1))
    if (chunk[at + 1] !== LF) return true;
  return false;
}
