// ENVELOPE (RFC 3501 §7.4.2) from the header: fields as byte strings, since a header may hold any 8-bit bytes and what
// the client gets is what stands there. The result is wire text, ready to be kept in the index.
import type { HeaderList } from '../mail/headers.ts';
import { parseAddresses } from './address-list.ts';
import { encodeNstring } from './wire/encoder.ts';

export function encodeEnvelope(headers: HeaderList): string {
  const from = addresses(headers, 'From');
  // RFC 3501 §7.4.2: Sender and Reply-To that are absent or empty are From.
  const sender = addresses(headers, 'Sender');
  const replyTo = addresses(headers, 'Reply-To');
  const parts = [
    text(headers, 'Date'),
    text(headers, 'Subject'),
    from,
    sender === 'NIL' ? from : sender,
    replyTo === 'NIL' ? from : replyTo,
    addresses(headers, 'To'),
    addresses(headers, 'Cc'),
    addresses(headers, 'Bcc'),
    text(headers, 'In-Reply-To'),
    text(headers, 'Message-ID'),
  ];
  return `(${parts.join(' ')})`;
}

const text = (headers: HeaderList, name: string): string => encodeNstring(fieldText(headers, name));

/** Body of the first field of that name: unfolded (RFC 5322 §2.2.3), trimmed, one character per octet. */
export function fieldText(headers: HeaderList, name: string): string | undefined {
  const field = headers.get(name);
  return field && unfold(field.raw);
}

export function unfold(raw: Buffer): string {
  const whole = raw.toString('latin1');
  return whole
    .slice(whole.indexOf(':') + 1)
    .replace(/\r?\n(?=[ \t]|$)/g, '')
    .replace(/\r?\n/g, ' ')
    .trim();
}

function addresses(headers: HeaderList, name: string): string {
  const field = fieldText(headers, name);
  if (field === undefined) return 'NIL';
  const list = parseAddresses(field);
  if (list.length === 0) return 'NIL';
  // RFC 3501 §9, env-from: no space between addresses.
  const encoded = list.map(
    ({ name, route, mailbox, host }) => `(${[name, route, mailbox, host].map(encodeNstring).join(' ')})`,
  );
  return `(${encoded.join('')})`;
}
