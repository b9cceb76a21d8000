import { Readable } from 'node:stream';
import type { Address } from '../mail/address.ts';
import type { Message } from '../mail/message.ts';
import type { Rope } from '../mail/rope.ts';
import type { SmtpSession } from './session.ts';
import type { Transaction } from './transaction.ts';

export function parsePath(text: string): Address | null | undefined {
  if (text === '<>') return null;
  const m = /^<(?:@[^:]+:)?(?:("(?:[^"\\]|\\.)+"|[^\s"@<>()[\]:;,\\]+))(?:@([^\s@<>]+))?>$/.exec(text);
  if (!m) return undefined;
  const local = (m[1] ?? '').replace(/^"|"$/g, '').replace(/\\(.)/g, '$1');
  const domain = (m[2] ?? '').toLowerCase();
  return { local, domain, text: domain ? `${m[1]}@${domain}` : (m[1] ?? '') };
}
export function messageOf(rope: Rope, header: Buffer): Message {
  void header;
  const headers = {
    count: 0,
    size: 0,
    raw: header,
    defects: [],
    get: () => undefined,
    all: () => [],
    has: () => false,
    [Symbol.iterator]: () => [][Symbol.iterator](),
  };
  return {
    size: rope.size,
    headers,
    bodyStart: 0,
    rope,
    open: () => Readable.from(rope.pieces),
    bytes: async () => Buffer.concat(rope.pieces as Buffer[]),
    mime: () => Promise.reject(new Error('later')),
  };
}
export function receivedField(session: SmtpSession, transaction: Transaction): string {
  return `Received: from ${session.helo} by ${session.context.hostname} with ESMTP id ${transaction.id}; ${new Date(transaction.receivedAt).toUTCString()}\r\n`;
}
