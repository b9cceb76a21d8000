// A note in the place of an attachment. All other bytes of the message stay as they are: the new body is made of pieces of
// the old one, which may lie in a file.
import {
  bufferRope,
  concatRopes,
  type Edit,
  encodeTransfer,
  type Message,
  type MimePart,
  type Rope,
  sliceRope,
} from '../../core/plugin/index.ts';

export interface Replacement {
  readonly part: MimePart;
  readonly text: string;
}

interface Note {
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
}

function noteOf(text: string): Note {
  const encoding = 'quoted-printable';
  const body = encodeTransfer(Buffer.from(text.replace(/\r?\n/g, '\r\n')), encoding);
  return {
    fields: [
      ['Content-Type', 'text/plain; charset=utf-8'],
      ['Content-Transfer-Encoding', encoding],
      ['Content-Disposition', 'inline'],
    ],
    body,
  };
}

function notePart(text: string): Rope {
  const { fields, body } = noteOf(text);
  const header = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return bufferRope(Buffer.concat([Buffer.from(`${header}\r\n`), body]));
}

/** The message itself is the attachment: its header is edited, and the body becomes the note. */
function replaceWhole(message: Message, text: string): readonly Edit[] {
  const { fields, body } = noteOf(text);
  const gone = [...message.headers]
    .map(field => field.name)
    .filter(name => /^content-/i.test(name) && !fields.some(([kept]) => kept.toLowerCase() === name.toLowerCase()));
  return [
    ...[...new Set(gone)].map(name => ({ kind: 'remove-header', name }) as const),
    ...fields.map(([name, value]) => ({ kind: 'replace-header', name, value }) as const),
    ...(message.headers.has('mime-version')
      ? []
      : [{ kind: 'add-header', name: 'MIME-Version', value: '1.0' } as const]),
    { kind: 'replace-body', body: Buffer.concat([body, Buffer.from('\r\n')]) },
  ];
}

/** Edits that put each text in the place of its part. A part inside another one that goes is left out. */
export function replaceParts(message: Message, replacements: readonly Replacement[]): readonly Edit[] {
  const whole = replacements.find(({ part }) => part.start === 0);
  if (whole) return replaceWhole(message, whole.text);
  const pieces: Rope[] = [];
  let at = message.bodyStart;
  for (const { part, text } of [...replacements].sort((a, b) => a.part.start - b.part.start)) {
    if (part.start < at) continue;
    pieces.push(sliceRope(message.rope, at, part.start), notePart(text));
    at = part.end;
  }
  return [{ kind: 'replace-body', body: concatRopes(...pieces, sliceRope(message.rope, at)) }];
}
