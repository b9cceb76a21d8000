// BODY and BODYSTRUCTURE (RFC 3501 §7.4.2) from the MIME tree, as wire text, and the outline of the tree that BODY[1.2]
// needs. Both are kept in the index, so that neither opens a message twice.
import { splitValue } from '../mail/content-type.ts';
import type { HeaderList } from '../mail/headers.ts';
import type { ContentType, MimePart } from '../mail/mime.ts';
import { encodeEnvelope, fieldText } from './envelope.ts';
import { encodeNstring, encodeString } from './wire/encoder.ts';

/** A part by its offsets: what a section is cut from. */
export interface PartOutline {
  readonly start: number;
  readonly bodyStart: number;
  readonly end: number;
  readonly encoding: string;
  readonly multipart: boolean;
  readonly parts: readonly PartOutline[];
  readonly message?: PartOutline;
}

export interface Structure {
  readonly body: string;
  readonly bodyStructure: string;
  readonly outline: PartOutline;
}

export function describeStructure(root: MimePart): Structure {
  return { body: encodePart(root, false), bodyStructure: encodePart(root, true), outline: outlineOf(root) };
}

function outlineOf(part: MimePart): PartOutline {
  return {
    start: part.start,
    bodyStart: part.bodyStart,
    end: part.end,
    encoding: part.encoding,
    multipart: part.contentType.type === 'multipart',
    parts: part.parts.map(outlineOf),
    ...(part.message && { message: outlineOf(part.message) }),
  };
}

function encodePart(part: MimePart, extended: boolean): string {
  return part.contentType.type === 'multipart' ? encodeMultipart(part, extended) : encodeSingle(part, extended);
}

/** What a multipart without parts is shown as: body-type-mpart needs one (RFC 3501 §9). */
const emptyPart = '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0';

function encodeMultipart(part: MimePart, extended: boolean): string {
  const parts = part.parts.map(child => encodePart(child, extended)).join('');
  const children = parts === '' ? `${emptyPart}${extended ? ' NIL NIL NIL NIL' : ''})` : parts;
  const extension = extended ? ` ${encodeParams(typeParams(part))} ${encodeExtension(part)}` : '';
  return `(${children} ${encodeString(part.contentType.subtype)}${extension})`;
}

function encodeSingle(part: MimePart, extended: boolean): string {
  const { contentType, headers } = part;
  const words = [
    encodeString(contentType.type),
    encodeString(contentType.subtype),
    encodeParams(typeParams(part)),
    encodeNstring(fieldText(headers, 'Content-ID')),
    encodeNstring(fieldText(headers, 'Content-Description')),
    encodeString(part.encoding),
    String(part.end - part.bodyStart),
  ];
  if (part.message)
    words.push(encodeEnvelope(part.message.headers), encodePart(part.message, extended), String(part.lines));
  else if (contentType.type === 'text') words.push(String(part.lines));
  if (extended) words.push(encodeNstring(fieldText(headers, 'Content-MD5')), encodeExtension(part));
  return `(${words.join(' ')})`;
}

type Params = readonly (readonly [name: string, value: string])[];

/**
 * The parameters as they stand in the message, neither joined nor decoded: `filename*0*` is the client's to read
 * (RFC 2231 §3), and octets stay octets. A text part without charset is us-ascii (RFC 2046 §4.1.2).
 */
function typeParams({ headers, contentType }: MimePart): Params {
  const written = fieldText(headers, 'Content-Type');
  const params = written === undefined || contentTypeIsImplied(headers, contentType) ? [] : splitValue(written).params;
  const needsCharset = contentType.type === 'text' && !params.some(([name]) => name.startsWith('charset'));
  return needsCharset ? [...params, ['charset', 'us-ascii']] : params;
}

/** The tree says text/plain for what it could not read; then the parameters mean nothing. */
function contentTypeIsImplied(headers: HeaderList, { type, subtype }: ContentType): boolean {
  const written = fieldText(headers, 'Content-Type') ?? '';
  return !splitValue(written).head.toLowerCase().startsWith(type) || !written.toLowerCase().includes(subtype);
}

/** Disposition, language, location. */
function encodeExtension(part: MimePart): string {
  const written = fieldText(part.headers, 'Content-Disposition');
  const shown =
    part.disposition && written !== undefined
      ? `(${encodeString(part.disposition.type)} ${encodeParams(splitValue(written).params)})`
      : 'NIL';
  return `${shown} ${encodeLanguage(part)} ${encodeNstring(fieldText(part.headers, 'Content-Location'))}`;
}

function encodeLanguage(part: MimePart): string {
  const tags = (fieldText(part.headers, 'Content-Language') ?? '').match(/[A-Za-z0-9-]+/g) ?? [];
  const [only, ...more] = tags;
  if (only === undefined) return 'NIL';
  return more.length === 0 ? encodeString(only) : `(${tags.map(encodeString).join(' ')})`;
}

function encodeParams(params: Params): string {
  if (params.length === 0) return 'NIL';
  return `(${params.flatMap(pair => pair.map(encodeString)).join(' ')})`;
}
