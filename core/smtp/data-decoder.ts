// The bytes after DATA (RFC 5321 §4.5.2) or of BDAT chunks (RFC 3030) → the bytes of the message. One pass, one state, one
// output piece per chunk whatever the content: the cost of a byte does not depend on dots or line lengths, and how the
// network cut the stream never matters.
//
// Strict line ends: only CRLF.CRLF ends the data, and only CRLF begins a line for dot-stuffing. A bare CR or LF is a defect
// (`refuse`), or becomes CRLF after un-stuffing (`normalise`; CRs right before CRLF are dropped). After a defect the rest
// is read and thrown away, so that the reply comes where the client expects it and memory stays bounded.
// The chunk that is handed in is reused for the output.

export type Defect = 'bare-line-end' | 'line-too-long' | 'header-too-large' | 'nul' | 'too-big';

export interface DecoderOptions {
  /** DATA: dot-stuffed, ended by CRLF.CRLF. BDAT: neither. */
  readonly dots: boolean;
  readonly lineEnds: 'refuse' | 'normalise' | 'binary';
  /** Bytes of the decoded message. */
  readonly maxSize: number;
  /** Bytes of a line with its CRLF. */
  readonly maxLine: number;
  /** Bytes of the header section. */
  readonly maxHeader: number;
  readonly nul: 'refuse' | 'accept';
}

const CR = 13;
const LF = 10;
const DOT = 46;

/** Where the last byte left us. */
type State =
  /** In a line. */
  | 0
  /** After `heldCr` CRs, not yet written. */
  | 1
  /** At the beginning of a line, after CRLF. */
  | 2
  /** After the dot that begins a line, dropped unless the line goes on as `.` CR x. */
  | 3
  /** After a dot and a CR at the beginning of a line. */
  | 4;

export class DataDecoder {
  /** First thing found wrong; the message is refused for it. */
  defect: Defect | undefined;
  /** Bytes of the decoded message so far. */
  size = 0;
  /** The terminator was seen. */
  ended = false;
  /** Offset of the empty line that ends the header section, -1 while it was not seen. */
  headerEnd = -1;
  /** The first byte that is not of the message, in the chunk given last. */
  rest = 0;
  private readonly options: DecoderOptions;
  private state: State = 2;
  private heldCr = 0;
  private lineLength = 0;

  constructor(options: DecoderOptions) {
    this.options = options;
  }

  /** Decodes a chunk; the result is empty after a defect. Sets `ended` and `rest`. */
  decode(chunk: Buffer): Buffer {
    if (this.options.lineEnds === 'binary') return this.binary(chunk);
    const { dots } = this.options;
    const normalise = this.options.lineEnds === 'normalise';
    const refuseNul = this.options.nul === 'refuse';
    const length = chunk.length;
    // Written bytes never overtake read ones, except where a line end grows: then a larger buffer takes over. No closure
    // here: captured variables would live on the heap, and this loop sees every byte of every message.
    let out: Buffer = chunk;
    let o = 0;
    let i = 0;
    let { state, heldCr, lineLength } = this;
    if (heldCr > 0) out = Buffer.allocUnsafe((heldCr + length) * 2);
    while (i < length) {
      if (state === 0) {
        // The common case: the middle of a line. Nothing moves while nothing was dropped.
        const from = i;
        if (o === i && out === chunk) {
          while (i < length && (chunk[i] as number) > CR) i++;
          o = i;
        } else {
          while (i < length && (chunk[i] as number) > CR) out[o++] = chunk[i++] as number;
        }
        lineLength += i - from;
        if (i === length) break;
      }
      const c = chunk[i++] as number;
      if (c === CR) {
        heldCr++;
        // `.` CR CR is no terminator any more.
        state = state === 3 ? 4 : 1;
        continue;
      }
      if (c === LF) {
        if (state === 4) {
          this.ended = true;
          heldCr = 0;
          break;
        }
        // RFC 5321 §2.3.8: CRLF is the only line end there is. A dot before a bare LF (state 3) was stuffing.
        const strict = state === 1;
        if (!normalise && (!strict || heldCr > 1)) this.fail('bare-line-end');
        heldCr = 0;
        if (out === chunk && o + 2 > i) out = grown(chunk, o, length - i);
        out[o++] = CR;
        out[o++] = LF;
        this.closeLine(lineLength + 2, this.size + o);
        lineLength = 0;
        state = strict ? 2 : 0;
        continue;
      }
      if (heldCr > 0) {
        if (!normalise) this.fail('bare-line-end');
        else {
          if (out === chunk) out = grown(chunk, o, length - i + heldCr);
          for (; heldCr > 0; heldCr--) {
            out[o++] = CR;
            out[o++] = LF;
            this.closeLine(lineLength + 2, this.size + o);
            lineLength = 0;
          }
        }
        heldCr = 0;
      }
      if (c === DOT && dots && state === 2) {
        // RFC 5321 §4.5.2: a leading dot is removed when other characters follow in the line.
        state = 3;
        continue;
      }
      if (c === 0 && refuseNul) this.fail('nul');
      out[o++] = c;
      lineLength++;
      state = 0;
    }
    this.state = state;
    this.heldCr = heldCr;
    this.lineLength = lineLength;
    this.rest = i;
    if (lineLength > this.options.maxLine) this.fail('line-too-long');
    return this.emit(out, o);
  }

  /** For BDAT: no more chunks. Returns what is still to be written: a message always ends with a line end. */
  finish(): Buffer {
    if (this.options.lineEnds === 'binary' || this.defect) return Buffer.alloc(0);
    if (this.heldCr > 0 && this.options.lineEnds === 'refuse') this.fail('bare-line-end');
    const held = this.heldCr;
    this.heldCr = 0;
    if (this.defect) return Buffer.alloc(0);
    if (held > 0) return this.emit(Buffer.from('\r\n'.repeat(held)), held * 2);
    return this.state === 2 ? Buffer.alloc(0) : this.emit(Buffer.from('\r\n'), 2);
  }

  private binary(chunk: Buffer): Buffer {
    this.rest = chunk.length;
    return this.emit(chunk, chunk.length);
  }

  private emit(out: Buffer, length: number): Buffer {
    this.size += length;
    if (this.size > this.options.maxSize) this.fail('too-big');
    if (this.headerEnd < 0 && this.size > this.options.maxHeader && this.options.lineEnds !== 'binary')
      this.fail('header-too-large');
    return this.defect ? out.subarray(0, 0) : out.subarray(0, length);
  }

  /** `length` with its end, `end`: offset behind it. */
  private closeLine(length: number, end: number): void {
    if (length > this.options.maxLine) this.fail('line-too-long');
    if (length === 2 && this.headerEnd < 0) {
      this.headerEnd = end - 2;
      if (this.headerEnd > this.options.maxHeader) this.fail('header-too-large');
    }
  }

  private fail(defect: Defect): void {
    this.defect ??= defect;
  }
}

/** A copy of the first `used` bytes, with room for `left` more that may double. */
function grown(chunk: Buffer, used: number, left: number): Buffer {
  const larger = Buffer.allocUnsafe(used + left * 2 + 8);
  chunk.copy(larger, 0, 0, used);
  return larger;
}
