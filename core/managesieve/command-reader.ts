// Reads one command with its literals. What is too large is read to its end and dropped, so that the client hears why;
// what is far too large, or comes from somebody who is not logged in, ends the session.
import type { LineSession } from '../net/line-session.ts';
import { parseLine, type Word } from './wire.ts';

export interface ReadLimits {
  /** Line without its literals. */
  readonly lineBytes: number;
  /** All literals of a command together that are kept. */
  readonly literalBytes: number;
  /** … that are read at all. */
  readonly dropBytes: number;
}

export type Read =
  | { readonly kind: 'words'; readonly words: readonly Word[] }
  | { readonly kind: 'bad'; readonly why: string }
  /** Dropped; `name` is the command. */
  | { readonly kind: 'too-large'; readonly name: string }
  /** Not read to its end: the session cannot go on. */
  | { readonly kind: 'hopeless'; readonly why: string };

const maxWords = 16;

/** Rejects with `LineTooLong` or `SessionEnd`. */
export async function readCommand(lines: LineSession, limits: ReadLimits): Promise<Read> {
  const words: Word[] = [];
  let kept = 0;
  let dropped = false;
  let bad: string | undefined;
  for (;;) {
    const parsed = parseLine(await lines.readLine(limits.lineBytes));
    if (parsed.kind === 'bad') return parsed;
    words.push(...parsed.words);
    if (words.length > maxWords) bad = 'Too many words';
    if (parsed.literal === undefined) break;
    kept += parsed.literal;
    if (kept > limits.dropBytes || words.length > maxWords) return { kind: 'hopeless', why: 'Literal is too large' };
    if (kept > limits.literalBytes) dropped = true;
    words.push({ kind: 'string', bytes: await readLiteral(lines, parsed.literal, !dropped) });
  }
  if (bad !== undefined) return { kind: 'bad', why: bad };
  const [first] = words;
  if (dropped) return { kind: 'too-large', name: first?.kind === 'atom' ? first.text.toUpperCase() : '' };
  return { kind: 'words', words };
}

async function readLiteral(lines: LineSession, size: number, keep: boolean): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (let left = size; left > 0; ) {
    const piece = await lines.readBytes(left);
    left -= piece.length;
    if (keep) pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
