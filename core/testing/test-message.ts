// Addresses and messages for tests, by the real parsers.
import { type Address, parsePath } from '../mail/address.ts';
import { type Message, makeMessage } from '../mail/message.ts';
import { bufferRope } from '../mail/rope.ts';

/** As RCPT TO would have it. */
export function parseAddress(text: string): Address {
  const parsed = parsePath(`<${text}>`, { smtputf8: true, bareLocal: true });
  if (parsed.kind === 'error' || !parsed.address) throw new Error(`Test names '${text}', which is no address`);
  return parsed.address;
}

/** Text gets CRLF line ends; bytes stay as they are. */
export function testMessage(content: string | Buffer | Message): Message {
  if (typeof content === 'string') return makeMessage(bufferRope(Buffer.from(content.replace(/\r?\n/g, '\r\n'))));
  return Buffer.isBuffer(content) ? makeMessage(bufferRope(content)) : content;
}
