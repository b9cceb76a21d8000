// A message for a server that takes only ASCII (RFC 6152 §3): leaves of the MIME tree with 8-bit bytes are encoded, text as
// quoted-printable and all else as base64; what contains them says `7bit`, for multiparts and messages have no encoding of
// their own (RFC 2045 §6.4). Decoded, every part is byte for byte what it was, so only signatures over the message as it
// travels break (DKIM); one that covers a part as it travels (RFC 1847 §2.1) would break for its reader, so that is left.
//
// Bounded memory: the tree is found in one pass, what needs encoding in a second, the size in a third; the bytes are made
// while they are sent.
import { createTransferDecoder } from './body.ts';
import { createTransferEncoder, type TransferEncoder } from './body-encode.ts';
import { editHeaders, type HeaderEdit } from './header-edit.ts';
import { type MimeDefect, type MimePart, parseMime, walkParts } from './mime.ts';
import { bufferRope, type Rope, ropeChunks, sliceRope } from './rope.ts';

export type SevenBit =
  | {
      readonly kind: 'converted';
      /** Bytes of all chunks together. */
      readonly size: number;
      /** As often as wanted. Rejects when a file of the message is gone. */
      chunks(): AsyncIterable<Buffer>;
    }
  /** It cannot be done without damage. */
  | { readonly kind: 'impossible'; readonly why: string };

interface Region {
  /** `between`: delimiters, and what stands around the parts of a multipart for old readers. */
  readonly kind: 'header' | 'leaf' | 'between';
  readonly part: MimePart;
  readonly start: number;
  readonly end: number;
  /** Inside a multipart/signed. */
  readonly signed: boolean;
  eightBit: boolean;
}

/** Some bytes of the result. */
interface Piece {
  readonly source: Rope;
  readonly through?: () => TransferEncoder;
}

const crlf = bufferRope(Buffer.from('\r\n'));
const stepBytes = 64 * 1024;
/** In place of an 8-bit byte that no reader looks at; not among the characters of boundaries (RFC 2046 §5.1.1). */
const mask = '*';
/** What makes it unsafe to change a part: readers do not agree on what it is. */
const ambiguous: readonly MimeDefect[] = ['repeated-field', 'header-too-large', 'too-many-fields', 'encoded-composite'];

const isComposite = ({ contentType: { type } }: MimePart): boolean => type === 'multipart' || type === 'message';
/** RFC 6532 §3.7: these alone among messages may be encoded as a whole. */
const isGlobal = ({ contentType: { type, subtype } }: MimePart): boolean =>
  type === 'message' && subtype.startsWith('global');
const isLeaf = (part: MimePart): boolean => isGlobal(part) || (part.parts.length === 0 && part.message === undefined);

function* regionsOf(part: MimePart, signed: boolean): Generator<Region> {
  const { start, bodyStart, end } = part;
  yield { kind: 'header', part, start, end: bodyStart, signed, eightBit: false };
  if (isLeaf(part)) {
    yield { kind: 'leaf', part, start: bodyStart, end, signed, eightBit: false };
    return;
  }
  if (part.message) yield* regionsOf(part.message, signed);
  const inside = signed || part.contentType.subtype === 'signed';
  let at = part.message?.end ?? bodyStart;
  for (const child of part.parts) {
    yield { kind: 'between', part, start: at, end: child.start, signed: inside, eightBit: false };
    yield* regionsOf(child, inside);
    at = child.end;
  }
  yield { kind: 'between', part, start: at, end, signed: inside, eightBit: false };
}

const isEightBit = (bytes: Buffer): boolean => bytes.some(byte => byte > 0x7f);

/** Marks the regions, which are in order and cover the message, that hold 8-bit bytes. */
async function lookAt(form: Rope, regions: readonly Region[]): Promise<void> {
  let at = 0;
  let next = 0;
  for await (const chunk of ropeChunks(form)) {
    for (let region = regions[next]; region && region.start < at + chunk.length; region = regions[next]) {
      region.eightBit ||= isEightBit(chunk.subarray(Math.max(region.start - at, 0), region.end - at));
      if (region.end > at + chunk.length) break;
      next++;
    }
    at += chunk.length;
  }
}

/** Why the region cannot be made 7-bit; undefined where it can, or is. */
function obstacle({ kind, part, eightBit, signed }: Region, needed: boolean): string | undefined {
  if (!eightBit && !needed) return undefined;
  // RFC 6531: only SMTPUTF8 carries these.
  if (kind === 'header') return 'a header holds 8-bit bytes';
  if (signed) return 'a signature covers the 8-bit content';
  if (part.defects.some(defect => ambiguous.includes(defect))) return 'a part is ambiguous';
  if (kind === 'leaf' && isComposite(part) && !isGlobal(part))
    return `a part of type ${part.contentType.type}/${part.contentType.subtype} cannot be encoded`;
  if (part.encoding.startsWith('x-')) return `a part is under the unknown encoding ${part.encoding}`;
  return undefined;
}

const masking = (): TransferEncoder => ({
  push: chunk => Buffer.from(chunk.map(byte => (byte > 0x7f ? mask.charCodeAt(0) : byte))),
  end: () => Buffer.alloc(0),
});

/** From what it is encoded in, or is not, to `encoding`. */
function recoding(given: string, encoding: string): TransferEncoder {
  const decoder = createTransferDecoder(given);
  const encoder = createTransferEncoder(encoding, 'byte');
  return {
    push: chunk => encoder.push(decoder.push(chunk)),
    end: () => Buffer.concat([encoder.push(decoder.end()), encoder.end()]),
  };
}

const isEncoded = ({ encoding }: MimePart): boolean => encoding === 'base64' || encoding === 'quoted-printable';
const encodingFor = (part: MimePart): string =>
  isEncoded(part) ? part.encoding : part.contentType.type === 'text' ? 'quoted-printable' : 'base64';

/** A leaf that has to be encoded: `binary` content is not for a connection that has lines (RFC 3030 §3). */
const isNeeded = ({ kind, part, eightBit, signed }: Region, binary: boolean): boolean =>
  kind === 'leaf' && (eightBit || (part.encoding === 'binary' && (binary || !signed)));

/** `binary`: the message was declared to be BINARYMIME. Rejects when a file of the message is gone. */
export async function toSevenBit(form: Rope, binary: boolean): Promise<SevenBit> {
  const root = await parseMime(form);
  const regions = [...regionsOf(root, false)];
  await lookAt(form, regions);
  const needed = new Set(regions.filter(region => isNeeded(region, binary)));
  for (const region of regions) {
    const why = obstacle(region, needed.has(region));
    if (why !== undefined) return { kind: 'impossible', why };
  }
  if (root.defects.includes('too-many-parts')) return { kind: 'impossible', why: 'the message has too many parts' };
  const masked = regions.filter(({ kind, eightBit }) => kind === 'between' && eightBit);
  if (masked.length > 0 && [...walkParts(root)].some(part => part.contentType.params.get('boundary')?.includes(mask)))
    return { kind: 'impossible', why: 'a boundary could not be told from what stands around it' };

  const pieces = [...layOut(form, root, regions, needed)];
  const chunks = () => chunksOf(pieces);
  let size = 0;
  for await (const chunk of chunks()) size += chunk.length;
  return { kind: 'converted', size, chunks };
}

function* layOut(
  form: Rope,
  root: MimePart,
  regions: readonly Region[],
  needed: ReadonlySet<Region>,
): Generator<Piece> {
  const encoded = new Set([...needed].map(({ part }) => part));
  let at = 0;
  for (const region of regions) {
    const { kind, part, start, end, eightBit } = region;
    const body = sliceRope(form, start, end);
    const edits = kind === 'header' ? headerEdits(region, root, encoded) : [];
    const through = needed.has(region)
      ? () => recoding(part.encoding, encodingFor(part))
      : kind === 'between' && eightBit
        ? masking
        : undefined;
    if (edits.length === 0 && !through) continue;
    // What stays as it is, up to here.
    if (start > at) yield { source: sliceRope(form, at, start) };
    at = end;
    if (through) yield { source: body, through };
    else {
      yield { source: bufferRope(editHeaders(part.headers, edits)) };
      yield { source: crlf };
    }
    // Inside a multipart the line end before the next delimiter does this.
    if (kind === 'leaf' && end === form.size && end > start && encodingFor(part) === 'base64') yield { source: crlf };
  }
  yield { source: sliceRope(form, at) };
}

function headerEdits({ part, signed }: Region, root: MimePart, encoded: ReadonlySet<MimePart>): readonly HeaderEdit[] {
  const name = 'Content-Transfer-Encoding';
  const edits: HeaderEdit[] = [];
  if (part.headers.defects.includes('header-too-large')) return edits;
  const value = encoded.has(part) ? encodingFor(part) : '7bit';
  const isSaid = part.encoding === '8bit' || part.encoding === 'binary';
  if (encoded.has(part) ? part.encoding !== value : isSaid && !signed)
    edits.push({ kind: 'replace-header', name, value });
  // RFC 2045 §4
  if (part === root && !part.headers.has('mime-version'))
    edits.push({ kind: 'add-header', name: 'MIME-Version', value: '1.0', at: 'bottom' });
  return edits;
}

async function* chunksOf(pieces: readonly Piece[]): AsyncGenerator<Buffer> {
  for (const { source, through } of pieces) {
    const coder = through?.();
    for await (const chunk of ropeChunks(source)) {
      if (!coder) yield chunk;
      else
        for (let at = 0; at < chunk.length; at += stepBytes) {
          const out = coder.push(chunk.subarray(at, at + stepBytes));
          if (out.length > 0) yield out;
        }
    }
    const rest = coder?.end();
    if (rest && rest.length > 0) yield rest;
  }
}
