// Finds the bytes that BODY[section] names (RFC 3501 §6.4.5): a range of the message, or a selection of header fields.
import { type HeaderList, parseHeaders } from '../mail/headers.ts';
import type { Message } from '../mail/message.ts';
import { type Rope, ropeBytes, sliceRope } from '../mail/rope.ts';
import type { PartOutline } from './body-structure.ts';
import type { Partial, Section } from './wire/types.ts';

/** Header sections of nested parts are read into memory up to here. */
const maxHeaderBytes = 256 * 1024;

export interface SectionSource {
  readonly message: Message;
  /** The outline of the message's parts, from the index where it is known. */
  outline(): Promise<PartOutline>;
}

/** Undefined where there is no such part: NIL. */
export async function findSection(source: SectionSource, section: Section): Promise<Rope | undefined> {
  const { message } = source;
  if (section.part.length === 0) {
    const whole = { start: 0, bodyStart: message.bodyStart, end: message.size };
    if (section.of === 'header.fields' || section.of === 'header.fields.not')
      return selectFields(message.headers, message.bodyStart > message.headers.size, section);
    return cut(message.rope, whole, section.of);
  }
  const part = findPart(await source.outline(), section.part);
  if (!part) return undefined;
  if (section.of === 'all') return sliceRope(message.rope, part.bodyStart, part.end);
  if (section.of === 'mime') return sliceRope(message.rope, part.start, part.bodyStart);
  // HEADER and TEXT of a part: of the message that it holds (RFC 3501 §6.4.5).
  const inner = part.message;
  if (!inner) return undefined;
  if (section.of === 'header' || section.of === 'text') return cut(message.rope, inner, section.of);
  return selectFields(await readHeaders(message.rope, inner), true, section);
}

export function cutPartial(rope: Rope, partial: Partial | undefined): Rope {
  return partial ? sliceRope(rope, partial.offset, partial.offset + partial.count) : rope;
}

export function findPart(root: PartOutline, numbers: readonly number[]): PartOutline | undefined {
  let children = partsOfMessage(root);
  let part: PartOutline | undefined;
  for (const number of numbers) {
    part = children[number - 1];
    if (!part) return undefined;
    children = part.message ? partsOfMessage(part.message) : part.parts;
  }
  return part;
}

/** Every message has at least one part: the body of one that is no multipart is part 1. */
const partsOfMessage = (message: PartOutline): readonly PartOutline[] =>
  message.multipart ? message.parts : [message];

type Offsets = Pick<PartOutline, 'start' | 'bodyStart' | 'end'>;

function cut(rope: Rope, { start, bodyStart, end }: Offsets, of: Section['of']): Rope {
  if (of === 'header') return sliceRope(rope, start, bodyStart);
  return of === 'text' ? sliceRope(rope, bodyStart, end) : sliceRope(rope, start, end);
}

async function readHeaders(rope: Rope, { start, bodyStart }: Offsets): Promise<HeaderList> {
  const size = bodyStart - start;
  const bytes = await ropeBytes(sliceRope(rope, start, Math.min(bodyStart, start + maxHeaderBytes)));
  return parseHeaders(bytes.subarray(0, bytes.length === size ? size - 2 : bytes.length));
}

/** The fields in the order of the message, and the empty line if there is one (RFC 3501 §6.4.5). */
function selectFields(headers: HeaderList, emptyLine: boolean, { of, fields }: Section): Rope {
  const names = new Set(fields.map(name => name.toLowerCase()));
  const wanted = of === 'header.fields';
  const chosen: Buffer[] = [];
  for (const field of headers) if (names.has(field.name.toLowerCase()) === wanted) chosen.push(field.raw);
  const last = chosen.at(-1);
  if (last && last[last.length - 1] !== 0x0a) chosen.push(crlf);
  if (emptyLine) chosen.push(crlf);
  const bytes = Buffer.concat(chosen);
  return { size: bytes.length, pieces: [bytes] };
}

const crlf = Buffer.from('\r\n');
