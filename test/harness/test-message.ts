// Addresses and messages for tests, by the real parsers.
import type { Address } from '../../core/mail/address.ts';
import type { Message } from '../../core/mail/message.ts';

/** As RCPT TO would have it; a bare local part is taken too. */
export function parseAddress(text: string): Address {
  const at = text.lastIndexOf('@');
  const domain = at < 0 ? '' : text.slice(at + 1).toLowerCase();
  const local = (at < 0 ? text : text.slice(0, at)).replace(/^"(.*)"$/, '$1');
  return { local, domain, text: domain === '' ? local : `${at < 0 ? text : text.slice(0, at)}@${domain}` };
}

export function testMessage(content: string | Buffer | Message): Message {
  if (typeof content === 'object' && !Buffer.isBuffer(content)) return content;
  throw new Error('Not yet');
}
