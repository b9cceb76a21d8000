// Builds a MIME tree from the lines of a message: RFC 2045, 2046. Knows no files and no chunks, so that a message in
// memory and one that streams by are read by the same code.
import { BoundarySet, type Delimiter } from './boundary-set.ts';
import { type ContentType, parseContentType, parseDisposition } from './content-type.ts';
import { defaultHeaderLimits, type HeaderLimits, parseHeaders } from './headers.ts';
import { defaultMimeLimits, type MimeDefect, type MimeLimits, type MimePart } from './mime-part.ts';

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

export class TreeBuilder {
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
