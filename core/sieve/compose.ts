// Messages that rules write: vacation replies, reports, notifications. RFC 5322; text is UTF-8, line ends are CRLF.

import { randomBytes } from 'node:crypto';
import { encodeWords } from '../mail/encoded-words.ts';
import { renderField } from '../mail/header-edit.ts';
import type { Rope } from '../mail/rope.ts';
import { bufferRope } from '../mail/rope.ts';
import { formatSpec, parseOneAddress } from './addresses.ts';
import type { SieveHost } from './contract.ts';
import { formatDateTime } from './date-time.ts';
import { setting } from './settings.ts';

export type Field = readonly [name: string, value: string];

export const newId = (host: SieveHost): string => host.newId?.() ?? randomBytes(12).toString('hex');

/** Date, Message-ID and MIME-Version of a new message. */
export function commonFields(host: SieveHost): readonly Field[] {
  return [
    ['Date', formatDateTime({ ms: host.clock.now(), zoneMinutes: 0 })],
    ['Message-ID', `<${newId(host)}@${setting(host.settings, 'hostname')}>`],
    ['MIME-Version', '1.0'],
    ['X-Sieve', 'Postern'],
  ];
}

/** An address as a field has it; the display name is encoded where it needs to be (RFC 2047 §5). */
export function addressField(text: string): string {
  const found = parseOneAddress(text);
  if (!found) return text.replace(/[\r\n]/g, ' ');
  const spec = formatSpec(found.local, found.domain);
  if (found.name === undefined) return spec;
  const plain = /^[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~ ]+$/.test(found.name);
  const ascii = /^[\x20-\x7e]*$/.test(found.name);
  const name = plain
    ? found.name
    : ascii
      ? `"${found.name.replace(/["\\]/g, char => `\\${char}`)}"`
      : encodeWords(found.name);
  return `${name} <${spec}>`;
}

const beyondLine = /[^\0-\x7f]|[^\n]{999}/;

/** Content type, transfer encoding and encoded bytes of a plain text. */
export function textPart(text: string): { readonly fields: readonly Field[]; readonly body: Buffer } {
  const lines = text.replace(/\r\n?|\n/g, '\r\n').replace(/(?:\r\n)?$/, '\r\n');
  const type: Field = ['Content-Type', 'text/plain; charset=utf-8'];
  if (!beyondLine.test(lines))
    return { fields: [type, ['Content-Transfer-Encoding', '7bit']], body: Buffer.from(lines) };
  const base64 = Buffer.from(lines).toString('base64').replace(/.{76}/g, '$&\r\n');
  return { fields: [type, ['Content-Transfer-Encoding', 'base64']], body: Buffer.from(`${base64}\r\n`) };
}

export function renderFields(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.map(([name, value]) => renderField(name, value)));
}

const emptyLine = Buffer.from('\r\n');

export function messageOf(fields: readonly Field[], body: Buffer): Rope {
  return bufferRope(Buffer.concat([renderFields(fields), emptyLine, body]));
}

export interface Part {
  readonly fields: readonly Field[];
  readonly body: Buffer;
}

/** Parts behind each other under a boundary that none of them holds. */
export function multipart(host: SieveHost, type: string, parts: readonly Part[]): Part {
  let boundary = `=_${newId(host)}`;
  while (parts.some(part => part.body.includes(boundary))) boundary += '_';
  const pieces = parts.flatMap(part => [
    Buffer.from(`--${boundary}\r\n`),
    renderFields(part.fields),
    emptyLine,
    part.body,
    part.body.length >= 2 && part.body.subarray(-2).equals(emptyLine) ? Buffer.alloc(0) : emptyLine,
  ]);
  return {
    fields: [['Content-Type', `${type}; boundary="${boundary}"`]],
    body: Buffer.concat([...pieces, Buffer.from(`--${boundary}--\r\n`)]),
  };
}
