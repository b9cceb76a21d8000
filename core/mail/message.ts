// What a plugin, a rule or a mailbox sees of a message. Bytes never change under a reader: edits make a new message.
import type { Readable } from 'node:stream';
import { defaultHeaderLimits, findHeaderEnd, type HeaderLimits, type HeaderList, parseHeaders } from './headers.ts';
import { type MimeLimits, type MimePart, parseMime } from './mime.ts';
import {
  bufferRope,
  concatRopes,
  inMemory,
  inMemoryBytes,
  openRope,
  type Rope,
  ropeBytes,
  ropeChunks,
  sliceRope,
} from './rope.ts';

export interface Message {
  /** Bytes as they travel, line ends CRLF, without dot-stuffing. */
  readonly size: number;
  readonly headers: HeaderList;
  /** Where the body begins: behind the empty line, or `size` where there is none. */
  readonly bodyStart: number;
  readonly rope: Rope;
  /** A new stream over the whole message, as often as wanted. */
  open(): Readable;
  /** The whole message as one buffer. Only for a message that is in memory or known to be small. */
  bytes(): Promise<Buffer>;
  /** Parsed at the first call, once, within the limits of RFC 2046 trees (depth, parts); see `mime.ts`. */
  mime(): Promise<MimePart>;
}

export interface MessageOptions {
  readonly limits?: HeaderLimits & MimeLimits;
}

/** The header section as it was found: `bytes` may hold only its beginning, `end` and `bodyStart` are true offsets. */
export interface HeaderSection {
  readonly bytes: Buffer;
  readonly end: number;
  readonly bodyStart: number;
}

class RopeMessage implements Message {
  readonly size: number;
  readonly headers: HeaderList;
  readonly bodyStart: number;
  readonly rope: Rope;
  readonly options: MessageOptions;
  #mime: Promise<MimePart> | undefined;

  constructor(rope: Rope, section: HeaderSection, options: MessageOptions) {
    this.rope = rope;
    this.size = rope.size;
    this.bodyStart = section.bodyStart;
    this.options = options;
    this.headers = parseHeaders(section.bytes, options.limits, section.end);
  }

  open(): Readable {
    return openRope(this.rope);
  }

  bytes(): Promise<Buffer> {
    return ropeBytes(this.rope);
  }

  mime(): Promise<MimePart> {
    this.#mime ??= parseMime(this.rope, this.options.limits);
    return this.#mime;
  }
}

const optionsOf = (message: Message): MessageOptions => (message instanceof RopeMessage ? message.options : {});

/** The section of a message whose header lies in memory; undefined when a file must be read to find its end. */
function sectionInMemory(rope: Rope): HeaderSection | undefined {
  const first = rope.pieces[0];
  if (Buffer.isBuffer(first)) {
    const found = findHeaderEnd(first);
    if (found) return { bytes: first.subarray(0, found.end), ...found };
  }
  const all = inMemoryBytes(rope);
  if (!all) return undefined;
  const found = findHeaderEnd(all) ?? { end: all.length, bodyStart: all.length };
  return { bytes: all.subarray(0, found.end), ...found };
}

/**
 * A message over these bytes. For a rope that begins in a file, hand in the header section that was seen when the file
 * was written, or use `readMessage`.
 */
export function makeMessage(rope: Rope, options: MessageOptions & { readonly section?: HeaderSection } = {}): Message {
  const section = options.section ?? sectionInMemory(rope);
  if (!section) throw new Error('Cannot make a message without its header section: it lies in a file');
  return new RopeMessage(rope, section, options);
}

/** Watches bytes go by until the header section ended; keeps at most `maxBytes` of it. */
export class HeaderScan {
  readonly #maxBytes: number;
  readonly #kept: Buffer[] = [];
  #keptBytes = 0;
  #offset = 0;
  /** Bytes of the current line before this chunk that decide whether the line is empty: none, or a single CR. */
  #line: 'empty' | 'cr' | 'text' = 'empty';
  #lineStart = 0;
  #section: HeaderSection | undefined;

  constructor(maxBytes: number = defaultHeaderLimits.maxHeaderBytes) {
    this.#maxBytes = maxBytes;
  }

  /** Returns true once the end was seen; later chunks are ignored. */
  push(chunk: Buffer): boolean {
    if (this.#section) return true;
    this.#keep(chunk);
    for (let at = 0; at < chunk.length; ) {
      const byte = chunk[at];
      if (this.#line !== 'text' && byte === 0x0a) {
        this.#section = this.#cut(this.#lineStart, this.#offset + at + 1);
        return true;
      }
      if (this.#line === 'empty' && byte === 0x0d) {
        this.#line = 'cr';
        at++;
        continue;
      }
      const lineEnd = chunk.indexOf(0x0a, at);
      this.#line = lineEnd < 0 ? 'text' : 'empty';
      if (lineEnd < 0) break;
      at = lineEnd + 1;
      this.#lineStart = this.#offset + at;
    }
    this.#offset += chunk.length;
    return false;
  }

  /** The section; all bytes seen when there was no empty line. */
  section(): HeaderSection {
    return this.#section ?? this.#cut(this.#offset, this.#offset);
  }

  #keep(chunk: Buffer): void {
    if (this.#keptBytes >= this.#maxBytes) return;
    const part = chunk.subarray(0, this.#maxBytes - this.#keptBytes);
    this.#kept.push(part);
    this.#keptBytes += part.length;
  }

  #cut(end: number, bodyStart: number): HeaderSection {
    return { bytes: Buffer.concat(this.#kept).subarray(0, end), end, bodyStart };
  }
}

/** As `makeMessage`, reading the header section from the file first, in bounded memory. */
export async function readMessage(rope: Rope, options: MessageOptions = {}): Promise<Message> {
  if (inMemory(rope)) return makeMessage(rope, options);
  const scan = new HeaderScan(options.limits?.maxHeaderBytes);
  for await (const chunk of ropeChunks(rope)) if (scan.push(chunk)) break;
  return makeMessage(rope, { ...options, section: scan.section() });
}

const crlf = Buffer.from('\r\n');

/**
 * The same body under another header section (`editHeaders` gives one): no empty line at its end. Of a section that was
 * too large to be read whole, the part that was not read follows the new bytes.
 */
export function withHeaders(message: Message, section: Buffer): Message {
  const read = message.headers.raw.length;
  const grown = section.length - read;
  const rope = concatRopes(bufferRope(section), sliceRope(message.rope, read));
  const bodyStart = message.bodyStart + grown;
  return new RopeMessage(rope, { bytes: section, end: message.headers.size + grown, bodyStart }, optionsOf(message));
}

/** The same header section, byte for byte, over another body. */
export function withBody(message: Message, body: Rope): Message {
  const end = message.headers.size;
  const head = sliceRope(message.rope, 0, message.bodyStart);
  if (message.bodyStart > end) {
    const section = { bytes: message.headers.raw, end, bodyStart: message.bodyStart };
    return new RopeMessage(concatRopes(head, body), section, optionsOf(message));
  }
  // There was no empty line, and perhaps no line end either.
  const lineEnd = end === 0 || message.headers.raw.at(-1) === 0x0a ? Buffer.alloc(0) : crlf;
  const bytes = Buffer.concat([message.headers.raw, lineEnd]);
  const section = { bytes, end: end + lineEnd.length, bodyStart: end + lineEnd.length + crlf.length };
  const rope = concatRopes(head, bufferRope(lineEnd), bufferRope(crlf), body);
  return new RopeMessage(rope, section, optionsOf(message));
}
