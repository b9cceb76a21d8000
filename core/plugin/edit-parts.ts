// Edits that change single parts of a message: all other bytes stay, and pieces of a message that lies in a file stay there.
import type { Message } from '../mail/message.ts';
import type { MimePart } from '../mail/mime.ts';
import { bufferRope, concatRopes, type Rope, sliceRope } from '../mail/rope.ts';
import type { Edit } from './verdicts.ts';

export interface PartChange {
  readonly part: MimePart;
  /** Fields of the part's header that are set, and those that go (undefined); all others stay as they are. */
  readonly fields: Readonly<Record<string, string | undefined>>;
  /** Encoded as the fields say, without the line end before the next boundary. */
  readonly body: Buffer;
}

const crlf = Buffer.from('\r\n');

function partBytes({ part, fields, body }: PartChange): Rope {
  const changed = new Set(Object.keys(fields).map(name => name.toLowerCase()));
  const kept = [...part.headers].filter(({ name }) => !changed.has(name.toLowerCase())).map(({ raw }) => raw);
  const set = Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}\r\n`]));
  return bufferRope(Buffer.concat([...kept, Buffer.from(set.join('')), crlf, body]));
}

/** The part is the message itself: its header is the message's. */
function wholeMessage(message: Message, { fields, body }: PartChange): readonly Edit[] {
  const edits = Object.entries(fields).map(([name, value]): Edit => {
    return value === undefined ? { kind: 'remove-header', name } : { kind: 'replace-header', name, value };
  });
  // RFC 2045 §4
  const version = message.headers.has('mime-version') || Object.keys(fields).length === 0;
  return [
    ...edits,
    ...(version ? [] : [{ kind: 'add-header', name: 'MIME-Version', value: '1.0' } as const]),
    { kind: 'replace-body', body: body.length === 0 || body.at(-1) === 0x0a ? body : Buffer.concat([body, crlf]) },
  ];
}

/** A part inside another one that is changed is left out. */
export function editParts(message: Message, changes: readonly PartChange[]): readonly Edit[] {
  const whole = changes.find(({ part }) => part.start === 0);
  if (whole) return wholeMessage(message, whole);
  const pieces: Rope[] = [];
  let at = message.bodyStart;
  for (const change of [...changes].sort((a, b) => a.part.start - b.part.start)) {
    if (change.part.start < at) continue;
    pieces.push(sliceRope(message.rope, at, change.part.start), partBytes(change));
    at = change.part.end;
  }
  return [{ kind: 'replace-body', body: concatRopes(...pieces, sliceRope(message.rope, at)) }];
}
