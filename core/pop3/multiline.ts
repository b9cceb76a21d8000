// Byte-stuffing (RFC 1939 §3): a line that begins with "." gets another one in front, and the reply ends with ".".
import type { LineSession } from '../net/line-session.ts';

const lineFeed = 0x0a;
const dot = 0x2e;
const oneDot = Buffer.from('.');

/** Stuffs pieces of one message as they come. */
export class DotStuffer {
  /** The next byte begins a line. */
  #atStart = true;
  #last = [0, 0];

  /** `piece` in one or more parts, without copying it. */
  push(piece: Buffer): readonly Buffer[] {
    if (piece.length === 0) return [];
    const parts: Buffer[] = [];
    if (this.#atStart && piece[0] === dot) parts.push(oneDot);
    let from = 0;
    for (let at = piece.indexOf('\n.'); at >= 0; at = piece.indexOf('\n.', at + 1)) {
      parts.push(piece.subarray(from, at + 1), oneDot);
      from = at + 1;
    }
    parts.push(piece.subarray(from));
    this.#last = [piece.length > 1 ? (piece.at(-2) ?? 0) : (this.#last[1] ?? 0), piece.at(-1) ?? 0];
    this.#atStart = this.#last[1] === lineFeed;
    return parts;
  }

  /** What ends the reply: a message without a final line end gets one. */
  end(): string {
    const complete = this.#last[1] === lineFeed || this.#last[1] === 0;
    return complete ? '.\r\n' : '\r\n.\r\n';
  }
}

/** Lines that are known to be short, such as those of LIST. */
export async function writeLines(lines: LineSession, each: Iterable<string>): Promise<void> {
  for (const line of each) {
    lines.write(line.startsWith('.') ? `.${line}\r\n` : `${line}\r\n`);
    await lines.pace();
  }
  lines.write('.\r\n');
}

/**
 * A message, header and at most `bodyLines` lines of its body (absent: all). Rejects where it cannot be read to its end:
 * the client must not see the end of the reply then, so the session has to be cut.
 */
export async function writeMessage(
  lines: LineSession,
  source: AsyncIterable<Buffer> | Iterable<Buffer>,
  bodyLines?: number,
): Promise<void> {
  const stuffer = new DotStuffer();
  const cut = bodyLines === undefined ? undefined : new TopCutter(bodyLines);
  for await (const piece of source) {
    const wanted = cut === undefined ? piece : cut.push(piece);
    for (const part of stuffer.push(wanted)) lines.write(part);
    await lines.pace();
    if (cut?.done) break;
  }
  lines.write(stuffer.end());
}

/** Passes on the header, the empty line and so many lines of the body. */
export class TopCutter {
  #left: number;
  #inBody = false;
  /** Bytes of the current header line, without CR and LF. */
  #lineLength = 0;

  constructor(bodyLines: number) {
    this.#left = bodyLines;
  }

  get done(): boolean {
    return this.#inBody && this.#left === 0;
  }

  push(piece: Buffer): Buffer {
    let at = 0;
    while (!this.done) {
      const end = piece.indexOf(lineFeed, at);
      const stop = end < 0 ? piece.length : end;
      if (!this.#inBody) for (let i = at; i < stop; i++) if (piece[i] !== 0x0d) this.#lineLength++;
      if (end < 0) return piece;
      at = end + 1;
      if (this.#inBody) this.#left--;
      else if (this.#lineLength === 0) this.#inBody = true;
      this.#lineLength = 0;
    }
    return piece.subarray(0, at);
  }
}
