// How many hosts a message has been through. RFC 5321 §6.3.
import { type Rope, ropeChunks } from '../mail/rope.ts';

/** A header longer than this is not looked at further. */
const maxHeader = 256 * 1024;

export async function countReceived(form: Rope): Promise<number> {
  let header = '';
  for await (const chunk of ropeChunks(form)) {
    header += chunk.subarray(0, maxHeader).toString('latin1');
    const end = header.indexOf('\r\n\r\n');
    if (end >= 0) header = header.slice(0, end);
    if (end >= 0 || header.length >= maxHeader) break;
  }
  return header.match(/^received[ \t]*:/gim)?.length ?? 0;
}
