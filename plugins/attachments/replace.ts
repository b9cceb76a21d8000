// A note in the place of an attachment. All other bytes of the message stay as they are.
import { type Edit, editParts, encodeTransfer, type Message, type MimePart } from '../../core/plugin/index.ts';

export interface Replacement {
  readonly part: MimePart;
  readonly text: string;
}

export function replaceParts(message: Message, replacements: readonly Replacement[]): readonly Edit[] {
  return editParts(
    message,
    replacements.map(({ part, text }) => ({ part, fields: noteFields(part), body: noteBody(text) })),
  );
}

/** All that spoke of the attachment goes. */
function noteFields(part: MimePart): Readonly<Record<string, string | undefined>> {
  const gone = [...part.headers].map(({ name }) => name.toLowerCase()).filter(name => name.startsWith('content-'));
  const own = {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Transfer-Encoding': 'quoted-printable',
    'Content-Disposition': 'inline',
  };
  const kept = new Set(Object.keys(own).map(name => name.toLowerCase()));
  return { ...Object.fromEntries(gone.filter(name => !kept.has(name)).map(name => [name, undefined])), ...own };
}

const noteBody = (text: string): Buffer =>
  encodeTransfer(Buffer.from(text.replace(/\r?\n/g, '\r\n')), 'quoted-printable');
