// Mailbox names between wire and store: modified UTF-7 there, Unicode here, `/` in both (RFC 3501 §5.1).
import { decodeModifiedUtf7, encodeModifiedUtf7 } from '../mail/modified-utf7.ts';
import { no, Refusal } from './response.ts';
import { encodeAstring } from './wire/encoder.ts';
import type { Lexer } from './wire/lexer.ts';

export const delimiter = '/';
const maxNameBytes = 1000;

/** Takes an astring and yields the name; INBOX in any case is `INBOX` (RFC 3501 §5.1). */
export const parseMailbox = (lexer: Lexer): string => mailboxName(lexer.astring());

export function mailboxName(bytes: Buffer): string {
  const name = decodeName(bytes);
  if (name.toUpperCase() === 'INBOX') return 'INBOX';
  return /^inbox\//i.test(name) ? `INBOX${name.slice(5)}` : name;
}

/** Some clients send raw UTF-8, which no modified UTF-7 contains, so both can be taken. */
export function decodeName(bytes: Buffer): string {
  const text = bytes.toString('latin1');
  if (bytes.length > maxNameBytes) throw new Refusal(no('Mailbox name too long', 'LIMIT'));
  const name = /[\x80-\xff]/.test(text) ? strictUtf8(bytes) : (decodeModifiedUtf7(text) ?? refuse());
  if (/[\x00-\x1f\x7f]/.test(name)) refuse();
  return name;
}

function strictUtf8(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  return text.includes('\ufffd') ? refuse() : text;
}

function refuse(): never {
  throw new Refusal(no('Mailbox name is not valid', 'CANNOT'));
}

export const encodeMailbox = (name: string): string => encodeAstring(encodeModifiedUtf7(name));
