// Content-Transfer-Encoding outwards: RFC 2045 §6. `body.ts` reads, this writes.

/** Encodes a body piece by piece; `end` gives what was held back. */
export interface TransferEncoder {
  push(chunk: Buffer): Buffer;
  end(): Buffer;
}

/** What a bare LF in quoted-printable is: a line end, which becomes CRLF, or a byte to keep. */
type BareLf = 'line-end' | 'byte';

const maxLine = 76;
const CR = 0x0d;
const LF = 0x0a;
const DASH = 0x2d;
const PAD = 0x3d;
const empty = Buffer.alloc(0);
const hexDigits = Buffer.from('0123456789ABCDEF', 'latin1');
/** Bytes of one full line of base64. */
const lineBytes = (maxLine / 4) * 3;

const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x09;
const isPlain = (byte: number): boolean => byte === 0x09 || (byte >= 0x20 && byte <= 0x7e && byte !== PAD);

/** RFC 2045 §6.7, for text: CRLF stays a line end. No line looks like a boundary, wherever lines are broken. */
function createQuotedPrintableEncoder(bareLf: BareLf): TransferEncoder {
  let held = empty;
  let column = 0;

  function lineEndAt(bytes: Buffer, at: number): number {
    if (bytes[at] === CR && bytes[at + 1] === LF) return 2;
    return bareLf === 'line-end' && bytes[at] === LF ? 1 : 0;
  }

  /** Encodes what lies before `limit`; the two bytes behind it, if there are any, are only looked at. */
  function encode(bytes: Buffer, limit: number): { readonly out: Buffer; readonly read: number } {
    // Three bytes for each, three more for a soft line break after 75, and after the first that is there already.
    const out = Buffer.allocUnsafe(limit * 3 + Math.ceil((limit * 3) / 72 + 2) * 3);
    let length = 0;
    let at = 0;
    while (at < limit) {
      const byte = bytes[at] as number;
      const eol = lineEndAt(bytes, at);
      if (eol > 0) {
        out[length++] = CR;
        out[length++] = LF;
        column = 0;
        at += eol;
        continue;
      }
      const endsLine = at + 1 >= bytes.length || lineEndAt(bytes, at + 1) > 0;
      const size = isPlain(byte) && !(isBlank(byte) && endsLine) ? 1 : 3;
      // Room for the `=` of a soft line break.
      if (column + size > maxLine - 1) {
        out[length++] = PAD;
        out[length++] = CR;
        out[length++] = LF;
        column = 0;
      }
      // RFC 2046 §5.1.1: a boundary begins with two dashes.
      if (size === 1 && !(byte === DASH && column === 0 && bytes[at + 1] === DASH)) {
        out[length++] = byte;
        column++;
      } else {
        out[length++] = PAD;
        out[length++] = hexDigits[byte >> 4] as number;
        out[length++] = hexDigits[byte & 15] as number;
        column += 3;
      }
      at++;
    }
    return { out: out.subarray(0, length), read: at };
  }

  return {
    push(chunk) {
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      const { out, read } = encode(bytes, Math.max(bytes.length - 2, 0));
      held = Buffer.from(bytes.subarray(read));
      return out;
    },
    end: () => encode(held, held.length).out,
  };
}

/** RFC 2045 §6.8, without a line end behind the last line. */
function createBase64Encoder(): TransferEncoder {
  let held = empty;
  let first = true;
  function encode(bytes: Buffer): Buffer {
    if (bytes.length === 0) return empty;
    const lines = bytes.toString('base64').replace(/.{76}(?=.)/g, '$&\r\n');
    const text = first ? lines : `\r\n${lines}`;
    first = false;
    return Buffer.from(text, 'latin1');
  }
  return {
    push(chunk) {
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      const whole = bytes.length - (bytes.length % lineBytes);
      held = Buffer.from(bytes.subarray(whole));
      return encode(bytes.subarray(0, whole));
    },
    end: () => encode(held),
  };
}

const identityEncoder: TransferEncoder = { push: chunk => chunk, end: () => empty };

/** An encoder for a Content-Transfer-Encoding; `7bit`, `8bit` and `binary` change nothing. */
export function createTransferEncoder(encoding: string, bareLf: BareLf): TransferEncoder {
  if (encoding === 'base64') return createBase64Encoder();
  return encoding === 'quoted-printable' ? createQuotedPrintableEncoder(bareLf) : identityEncoder;
}

/** Decoded bytes as they travel under this encoding; in quoted-printable LF becomes CRLF. */
export function encodeTransfer(bytes: Buffer, encoding: string): Buffer {
  const encoder = createTransferEncoder(encoding, 'line-end');
  const begun = encoder.push(bytes);
  const rest = encoder.end();
  return rest.length === 0 ? begun : Buffer.concat([begun, rest]);
}
