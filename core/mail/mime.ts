// The MIME tree with byte offsets: RFC 2045, 2046, 2183, 2231. Offsets are what IMAP BODY[…] and BODYSTRUCTURE need;
// nothing is decoded until asked for.
//
// The parser sees the message line by line, once, in memory or from a stream of chunks, and does a constant amount of
// work per byte whatever the message says: nesting, parts and header bytes are limited, all open boundaries are
// compared in one pass, and of a long line only the beginning is looked at. It never throws for what a message
// contains: it reports defects and goes on as the common mail readers do.
import { BoundarySet, type Delimiter } from './boundary-set.ts';
import { type ContentType, type Disposition, parseContentType, parseDisposition } from './content-type.ts';
import { defaultHeaderLimits, type HeaderLimits, type HeaderList, parseHeaders } from './headers.ts';
import { inMemoryBytes, type Rope, ropeChunks } from './rope.ts';

export type { ContentType } from './content-type.ts';

export interface MimePart {
  /**
   * IMAP section number (RFC 3501 §6.4.5): `''` for the message itself, then `1`, `1.2` … The message inside a
   * message/rfc822 part has the section of that part. The body of a message that is no multipart is also section 1.
   */
  readonly section: string;
  readonly headers: HeaderList;
  readonly contentType: ContentType;
  readonly disposition?: Disposition;
  /** Content-Transfer-Encoding, lower case; `7bit` where absent (RFC 2045 §6.1). */
  readonly encoding: string;
  /** Byte offsets into the message: the part's header begins at `start`, its body at `bodyStart`, and ends before `end`. */
  readonly start: number;
  readonly bodyStart: number;
  readonly end: number;
  /** Number of line ends in the body (RFC 3501 §7.4.2 body lines). */
  readonly lines: number;
  /** Children of a multipart, in order; empty otherwise. */
  readonly parts: readonly MimePart[];
  /** The message inside a message/rfc822 part (RFC 2046 §5.2.1). */
  readonly message?: MimePart;
  /** What a strict reader would complain about. `too-many-parts` stands at the message itself. */
  readonly defects: readonly MimeDefect[];
}

export type MimeDefect =
  /** A multipart without a usable boundary parameter; it has no children. */
  | 'missing-boundary'
  /** The boundary is longer than the limit (RFC 2046 §5.1.1 allows 70); it has no children. */
  | 'long-boundary'
  /** A multipart that ended without its closing delimiter. */
  | 'unclosed-multipart'
  /** No delimiter of this multipart was found. */
  | 'no-parts'
  /** A delimiter line of this multipart had other text behind the boundary. */
  | 'text-after-boundary'
  /** Below this part nesting goes on deeper than the limit; it has no children. */
  | 'too-deep'
  | 'too-many-parts'
  | 'bad-content-type'
  | 'bad-encoding'
  /** More than one Content-Type, Content-Transfer-Encoding or Content-Disposition: readers differ in which they take. */
  | 'repeated-field'
  /** base64 or quoted-printable on a multipart or message part (RFC 2045 §6.4). */
  | 'encoded-composite'
  | 'malformed-field'
  | 'header-too-large'
  | 'too-many-fields'
  /** The header section ended without an empty line. */
  | 'unclosed-header';

export interface MimeLimits {
  readonly maxDepth?: number;
  readonly maxParts?: number;
  readonly maxBoundaryBytes?: number;
  /** For the headers of all parts of one message together. */
  readonly maxTotalHeaderBytes?: number;
  readonly maxTotalHeaderFields?: number;
}
export const defaultMimeLimits = {
  maxDepth: 100,
  maxParts: 10_000,
  maxBoundaryBytes: 200,
  maxTotalHeaderBytes: 4 * 1024 * 1024,
  maxTotalHeaderFields: 100_000,
} as const;

const LF = 0x0a;
const CR = 0x0d;
const DASH = 0x2d;
/** As much of a line as decides whether it is a delimiter or empty. */
const maxLineBytes = 1024;

type Draft = { -readonly [K in keyof MimePart]: MimePart[K] } & { parts: Draft[]; defects: MimeDefect[] };

/** A part that has not ended yet. */
interface Open {
  readonly draft: Draft;
  state: 'header' | 'body' | 'preamble' | 'epilogue';
  boundary?: Buffer;
  /** Line ends of the message before `bodyStart`. */
  linesBefore: number;
  headerEnd: number;
  /** Copies of header lines where the message is not in memory; `keptBytes` of them, and no more once `truncated`. */
  readonly kept: Buffer[];
  keptBytes: number;
  truncated: boolean;
  /** RFC 2046 §5.1.5: what a part of this multipart is when it does not say. */
  readonly defaultType: 'text/plain' | 'message/rfc822';
  /** A message, whose body is its part 1 when it is no multipart; otherwise a part. */
  readonly isMessage: boolean;
}

const textPlain: ContentType = { type: 'text', subtype: 'plain', params: new Map() };
const messageRfc822: ContentType = { type: 'message', subtype: 'rfc822', params: new Map() };
const noHeaders = parseHeaders(Buffer.alloc(0));

// RFC 2046 §5.2.1 and RFC 6532 §3.7
const holdsMessage = ({ type, subtype }: ContentType): boolean =>
  type === 'message' && (subtype === 'rfc822' || subtype === 'global');

const below = (section: string, number: string): string => (section === '' ? number : `${section}.${number}`);

function boundaryOf(type: ContentType, maxBytes: number): Buffer | MimeDefect {
  // RFC 2046 §5.1.1: a boundary does not end with white space; padding is not part of it.
  const boundary = Buffer.from((type.params.get('boundary') ?? '').trimEnd(), 'utf8');
  if (boundary.length === 0) return 'missing-boundary';
  return boundary.length > maxBytes ? 'long-boundary' : boundary;
}

class TreeBuilder {
  readonly #limits: Required<MimeLimits & HeaderLimits>;
  /** The whole message where it lies in memory: headers are then views of it, not copies. */
  readonly #whole: Buffer | undefined;
  readonly #root: Draft;
  readonly #open: Open[] = [];
  readonly #boundaries = new BoundarySet();
  #parts = 0;
  #headerBytes = 0;
  #headerFields = 0;
  /** Line ends seen before the current line. */
  #lines = 0;
  /** Length of the line end before the current line: it belongs to a delimiter that follows (RFC 2046 §5.1.1). */
  #lastEol = 0;

  constructor(limits: MimeLimits & HeaderLimits, whole?: Buffer) {
    this.#limits = { ...defaultHeaderLimits, ...defaultMimeLimits, ...limits };
    this.#whole = whole;
    this.#root = this.#begin('', 0, 'text/plain', true);
  }

  /** True while only line ends are counted: no line can mean anything. */
  get isCounting(): boolean {
    return this.#boundaries.isEmpty && this.#top?.state !== 'header';
  }

  /** How much of a line the next call of `line` wants to see. */
  get lineBytes(): number {
    return this.#top?.state === 'header' ? this.#limits.maxHeaderBytes : maxLineBytes;
  }

  /** Takes in `count` line ends at once; only while `isCounting`. */
  count(count: number, lastEol: number): void {
    this.#lines += count;
    this.#lastEol = lastEol;
  }

  /**
   * One line of the message: `bytes[from..to)` is its beginning (all of it up to `lineBytes`), `offset` where it
   * lies in the message, `eol` the length of its line end (0 for a last line without), `length` its length with that.
   */
  line(bytes: Buffer, from: number, to: number, offset: number, length: number, eol: number): void {
    const mayDelimit = bytes[from] === DASH && !this.#boundaries.isEmpty;
    const delimiter = mayDelimit ? this.#boundaries.match(bytes, from, Math.min(to, from + maxLineBytes)) : undefined;
    if (delimiter && this.#takesDelimiter(delimiter)) this.#delimiter(delimiter, offset, length);
    else if (this.#top?.state === 'header') this.#headerLine(this.#top, bytes, from, to, offset, length, eol);
    if (eol > 0) this.#lines++;
    this.#lastEol = eol;
  }

  finish(size: number): MimePart {
    while (this.#open.length > 0) this.#close(size, this.#lines);
    return this.#root;
  }

  get #top(): Open | undefined {
    return this.#open[this.#open.length - 1];
  }

  #begin(section: string, start: number, defaultType: Open['defaultType'], isMessage: boolean): Draft {
    const draft: Draft = {
      section,
      headers: noHeaders,
      contentType: textPlain,
      encoding: '7bit',
      start,
      bodyStart: start,
      end: start,
      lines: 0,
      parts: [],
      defects: [],
    };
    this.#parts++;
    this.#open.push({
      draft,
      state: 'header',
      linesBefore: 0,
      headerEnd: start,
      kept: [],
      keptBytes: 0,
      truncated: false,
      defaultType,
      isMessage,
    });
    return draft;
  }

  #takesDelimiter(delimiter: Delimiter): boolean {
    if (delimiter.close || this.#parts < this.#limits.maxParts) return true;
    // The rest stays in the part that is open.
    if (!this.#root.defects.includes('too-many-parts')) this.#root.defects.push('too-many-parts');
    return false;
  }

  #delimiter(delimiter: Delimiter, offset: number, length: number): void {
    const end = offset - this.#lastEol;
    const lines = this.#lines - (this.#lastEol > 0 ? 1 : 0);
    while (this.#open.length > delimiter.owner + 1) this.#close(end, lines);
    const owner = this.#open[delimiter.owner];
    if (!owner) return;
    if (!delimiter.exact && !owner.draft.defects.includes('text-after-boundary'))
      owner.draft.defects.push('text-after-boundary');
    if (delimiter.close) {
      owner.state = 'epilogue';
      if (owner.boundary) this.#boundaries.remove(owner.boundary);
      return;
    }
    owner.state = 'body';
    const { draft } = owner;
    const number = String(draft.parts.length + 1);
    const digest = draft.contentType.subtype === 'digest';
    const child = this.#begin(
      below(draft.section, number),
      offset + length,
      digest ? 'message/rfc822' : 'text/plain',
      false,
    );
    draft.parts.push(child);
  }

  #headerLine(part: Open, bytes: Buffer, from: number, to: number, offset: number, length: number, eol: number): void {
    if (length === eol) {
      this.#endHeader(part, offset + length, this.#lines + 1);
      return;
    }
    part.headerEnd = offset + length;
    if (this.#whole || part.truncated) return;
    part.kept.push(Buffer.from(bytes.subarray(from, to)));
    part.keptBytes += to - from;
    part.truncated =
      to - from < length ||
      part.keptBytes > this.#limits.maxHeaderBytes ||
      part.keptBytes + this.#headerBytes > this.#limits.maxTotalHeaderBytes;
  }

  #endHeader(part: Open, bodyStart: number, linesBefore: number): void {
    const { draft } = part;
    draft.bodyStart = bodyStart;
    part.linesBefore = linesBefore;
    part.state = 'body';
    const size = part.headerEnd - draft.start;
    const { maxHeaderBytes, maxHeaderFields, maxTotalHeaderBytes, maxTotalHeaderFields } = this.#limits;
    const section = this.#whole
      ? this.#whole.subarray(
          draft.start,
          Math.min(part.headerEnd, draft.start + maxTotalHeaderBytes - this.#headerBytes),
        )
      : Buffer.concat(part.kept).subarray(0, size);
    const budget = {
      maxHeaderBytes,
      maxHeaderFields: Math.min(maxHeaderFields, maxTotalHeaderFields - this.#headerFields),
    };
    draft.headers = parseHeaders(section, budget, size);
    part.kept.length = 0;
    this.#headerBytes += section.length;
    this.#headerFields += draft.headers.count;
    draft.defects.push(...draft.headers.defects);
    this.#describe(part);
    this.#descend(part);
  }

  /** Sets what the header says about the body. */
  #describe({ draft, defaultType }: Open): void {
    const { headers } = draft;
    for (const name of ['content-type', 'content-transfer-encoding', 'content-disposition'])
      if (headers.all(name).length > 1 && !draft.defects.includes('repeated-field'))
        draft.defects.push('repeated-field');
    const typeValue = headers.get('content-type')?.value;
    const parsed = typeValue === undefined ? undefined : parseContentType(typeValue);
    if (typeValue !== undefined && !parsed) draft.defects.push('bad-content-type');
    const fallback = defaultType === 'message/rfc822' && typeValue === undefined ? messageRfc822 : textPlain;
    draft.contentType = parsed ?? fallback;
    const disposition = parseDisposition(headers.get('content-disposition')?.value ?? '');
    if (disposition) draft.disposition = disposition;
    const encoding = headers.get('content-transfer-encoding')?.value;
    if (encoding === undefined) return;
    draft.encoding = encoding.replace(/\([^()]*\)|[\s;]+/g, '').toLowerCase();
    if (!/^(?:7bit|8bit|binary|base64|quoted-printable|x-[\w-]+)$/.test(draft.encoding))
      draft.defects.push('bad-encoding');
  }

  /** Opens what is inside: the parts of a multipart, or a message. */
  #descend(part: Open): void {
    const { draft } = part;
    const { contentType: type, encoding } = draft;
    const inside = type.type === 'multipart' ? boundaryOf(type, this.#limits.maxBoundaryBytes) : holdsMessage(type);
    if (inside === false) return;
    const encoded = encoding === 'base64' || encoding === 'quoted-printable';
    if (encoded) draft.defects.push('encoded-composite');
    // An encoded message must be decoded before it can be read; an encoded multipart never really is encoded.
    if (inside === true && encoded) return;
    if (this.#open.length >= this.#limits.maxDepth) {
      draft.defects.push('too-deep');
    } else if (inside === true) {
      const section = part.isMessage ? below(draft.section, '1') : draft.section;
      draft.message = this.#begin(section, draft.bodyStart, 'text/plain', true);
    } else if (typeof inside === 'string') draft.defects.push(inside);
    else {
      part.boundary = inside;
      part.state = 'preamble';
      this.#boundaries.add(inside, this.#open.length - 1);
    }
  }

  /** Ends the innermost open part before `end`. */
  #close(end: number, lines: number): void {
    const part = this.#open[this.#open.length - 1];
    if (!part) return;
    const { draft } = part;
    const to = Math.max(end, draft.start);
    if (part.state === 'header') {
      part.headerEnd = Math.min(part.headerEnd, to);
      if (part.headerEnd > draft.start && !draft.defects.includes('unclosed-header'))
        draft.defects.push('unclosed-header');
      // What is in the header may still open a multipart or a message: it is empty then.
      this.#endHeader(part, to, lines);
      if (this.#top !== part) this.#close(end, lines);
    }
    this.#open.pop();
    draft.end = Math.max(to, draft.bodyStart);
    draft.lines = Math.max(lines - part.linesBefore, 0);
    if (!part.boundary || part.state === 'epilogue') return;
    this.#boundaries.remove(part.boundary);
    draft.defects.push(draft.parts.length === 0 ? 'no-parts' : 'unclosed-multipart');
  }
}

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

/** The part with this section number (RFC 3501 §6.4.5), e.g. `[1, 2]`; `[]` is the message itself. */
export function partAt(root: MimePart, numbers: readonly number[]): MimePart | undefined {
  let part = root;
  let isMessage = true;
  for (const number of numbers) {
    // Numbers below a message/rfc822 part count in the message it holds.
    if (!isMessage && part.message) {
      part = part.message;
      isMessage = true;
    }
    const child = part.parts[number - 1];
    // The body of a message that is no multipart is its part 1.
    if (!child && !(isMessage && part.parts.length === 0 && number === 1)) return undefined;
    part = child ?? part;
    isMessage = false;
  }
  return part;
}

/** All parts, each before what it holds. */
export function* walkParts(part: MimePart): Generator<MimePart> {
  const pending: MimePart[] = [part];
  for (let next = pending.pop(); next; next = pending.pop()) {
    yield next;
    if (next.message) pending.push(next.message);
    for (let at = next.parts.length - 1; at >= 0; at--) pending.push(next.parts[at] as MimePart);
  }
}
