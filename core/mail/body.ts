// Bodies of MIME parts, decoded: content-transfer-encodings (RFC 2045 §6) and charsets. Decoders take anything: what
// is not valid is passed over (base64, RFC 2045 §6.8) or kept as it is (quoted-printable, §6.7).
import { Readable } from 'node:stream';
import { decodeText } from './charset.ts';
import { decodeWords } from './encoded-words.ts';
import type { MimePart } from './mime.ts';
import { inMemoryBytes, openRope, type Rope, ropeChunks, sliceRope } from './rope.ts';

/** Decodes a body piece by piece; `end` gives what was held back. */
export interface TransferDecoder {
  push(chunk: Buffer): Buffer;
  end(): Buffer;
}

const empty = Buffer.alloc(0);
const identityDecoder: TransferDecoder = { push: chunk => chunk, end: () => empty };

const base64Values = new Int8Array(256).fill(-1);
Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', 'latin1').forEach((byte, value) => {
  base64Values[byte] = value;
});
const PAD = 0x3d;

/** Padding ends a quantum, not the data: several encoded texts behind each other occur, and readers show all. */
function createBase64Decoder(): TransferDecoder {
  let bits = 0;
  let count = 0;
  return {
    push(chunk) {
      const out = Buffer.allocUnsafe(((chunk.length + 3) >> 2) * 3 + 3);
      let length = 0;
      for (let at = 0; at < chunk.length; at++) {
        const byte = chunk[at] as number;
        const value = base64Values[byte] as number;
        if (value < 0) {
          if (byte === PAD) count = 0;
          continue;
        }
        bits = ((bits << 6) | value) & 0xffffff;
        count++;
        if (count === 1) continue;
        out[length++] = bits >> (count === 2 ? 4 : count === 3 ? 2 : 0);
        if (count === 4) count = 0;
      }
      return out.subarray(0, length);
    },
    end: () => empty,
  };
}

const hexValue = (byte: number | undefined): number => {
  if (byte === undefined) return -1;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const upper = byte & 0xdf;
  return upper >= 0x41 && upper <= 0x46 ? upper - 0x37 : -1;
};
const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x09;

/** End of the white space at `from`, and whether a line end (or the end of the body) follows it. */
function blanksEnd(bytes: Buffer, from: number, isLast: boolean): { readonly at: number; readonly atLineEnd: boolean } {
  let at = from;
  while (isBlank(bytes[at])) at++;
  const atEnd = at >= bytes.length;
  const atLineEnd = (atEnd && isLast) || bytes[at] === 0x0a || (bytes[at] === 0x0d && bytes[at + 1] === 0x0a);
  return { at, atLineEnd };
}

/** `isLast`: the bytes end where the body ends; otherwise something follows that is neither blank nor a line end. */
function decodeQuotedPrintable(bytes: Buffer, isLast: boolean): Buffer {
  const out = Buffer.allocUnsafe(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; ) {
    const byte = bytes[at] as number;
    if (byte === PAD) {
      const high = hexValue(bytes[at + 1]);
      const low = hexValue(bytes[at + 2]);
      if (high >= 0 && low >= 0) {
        out[length++] = high * 16 + low;
        at += 3;
        continue;
      }
      // RFC 2045 §6.7 (5): soft line break, with the white space that was added on the way.
      const after = blanksEnd(bytes, at + 1, isLast);
      if (after.atLineEnd) {
        at = after.at + (bytes[after.at] === 0x0d ? 2 : 1);
        continue;
      }
    } else if (isBlank(byte)) {
      // RFC 2045 §6.7 (3): white space at the end of a line was added on the way.
      const after = blanksEnd(bytes, at, isLast);
      if (!after.atLineEnd) length += bytes.copy(out, length, at, after.at);
      at = after.at;
      continue;
    }
    out[length++] = byte;
    at++;
  }
  return out.subarray(0, length);
}

// A run of white space longer than this is not worth holding back for.
const maxHeldBack = 4096;

function createQuotedPrintableDecoder(): TransferDecoder {
  let held = empty;
  return {
    push(chunk) {
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      let cut = bytes.length;
      const lowest = Math.max(bytes.length - maxHeldBack, 0);
      while (cut > lowest && (isBlank(bytes[cut - 1]) || bytes[cut - 1] === 0x0d)) cut--;
      if (cut > 0 && bytes[cut - 1] === PAD) cut--;
      else if (cut > 1 && cut === bytes.length && bytes[cut - 2] === PAD) cut -= 2;
      held = Buffer.from(bytes.subarray(cut));
      return decodeQuotedPrintable(bytes.subarray(0, cut), false);
    },
    end: () => decodeQuotedPrintable(held, true),
  };
}

/** A decoder for a Content-Transfer-Encoding in lower case; unknown ones leave the bytes as they are. */
export function createTransferDecoder(encoding: string): TransferDecoder {
  if (encoding === 'base64') return createBase64Decoder();
  return encoding === 'quoted-printable' ? createQuotedPrintableDecoder() : identityDecoder;
}

/** A whole body at once. */
export function decodeTransfer(bytes: Buffer, encoding: string): Buffer {
  if (encoding === 'quoted-printable') return decodeQuotedPrintable(bytes, true);
  return encoding === 'base64' ? createBase64Decoder().push(bytes) : bytes;
}

type PartBody = Pick<MimePart, 'bodyStart' | 'end' | 'encoding'>;

/** The rope of a part's body as it stands in the message. */
export const bodyRope = (message: Rope, part: PartBody): Rope => sliceRope(message, part.bodyStart, part.end);

/** A piece of a rope in memory may be the whole message; a reader that wants little of it should not pay for all. */
const stepBytes = 64 * 1024;

async function* decodedChunks(body: Rope, encoding: string): AsyncGenerator<Buffer> {
  const decoder = createTransferDecoder(encoding);
  for await (const piece of ropeChunks(body)) {
    for (let at = 0; at < piece.length; at += stepBytes) {
      const decoded = decoder.push(piece.subarray(at, at + stepBytes));
      if (decoded.length > 0) yield decoded;
    }
  }
  const rest = decoder.end();
  if (rest.length > 0) yield rest;
}

/** A part's decoded body as a stream, in bounded memory. */
export function openBody(message: Rope, part: PartBody): Readable {
  const body = bodyRope(message, part);
  if (createTransferDecoder(part.encoding) === identityDecoder) return openRope(body);
  return Readable.from(decodedChunks(body, part.encoding), { objectMode: false });
}

/** A part's decoded body, cut after `maxBytes`. */
export async function decodeBody(
  message: Rope,
  part: PartBody,
  maxBytes: number = Number.POSITIVE_INFINITY,
): Promise<Buffer> {
  const body = bodyRope(message, part);
  const bytes = inMemoryBytes(body);
  if (bytes && bytes.length <= maxBytes) return decodeTransfer(bytes, part.encoding);
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of decodedChunks(body, part.encoding)) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

/** A text part's text in Unicode, line ends as they are; at most `maxBytes` of the decoded body are looked at. */
export async function decodeBodyText(message: Rope, part: MimePart, maxBytes?: number): Promise<string> {
  return decodeText(await decodeBody(message, part, maxBytes), part.contentType.params.get('charset'));
}

/** Every file name that a part claims, for readers differ in which they take: RFC 2183 first, then the older `name`. */
export function partNames(part: MimePart): readonly string[] {
  const given = [part.disposition?.params.get('filename'), part.contentType.params.get('name')];
  return [...new Set(given.flatMap(name => (name === undefined || name === '' ? [] : [decodeWords(name)])))];
}

/** The file name that a part claims, RFC 2231 or (as most write it) RFC 2047 decoded; for display and rules, never a path. */
export function partFilename(part: MimePart): string | undefined {
  const name = part.disposition?.params.get('filename') ?? part.contentType.params.get('name');
  return name === undefined ? undefined : decodeWords(name);
}
