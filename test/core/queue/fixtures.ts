// What the tests of the queue share: a store in a temp folder, addresses, messages, and transports that do as told.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pino } from 'pino';
import type { Address } from '../../../core/mail/address.ts';
import type { Envelope, Recipient, ReversePath } from '../../../core/mail/envelope.ts';
import { parseHeaders } from '../../../core/mail/headers.ts';
import type { Message } from '../../../core/mail/message.ts';
import type { Rope } from '../../../core/mail/rope.ts';
import { ropeBytes } from '../../../core/mail/rope.ts';
import { defaultBackoff } from '../../../core/queue/backoff.ts';
import type { QueuePolicy } from '../../../core/queue/entry.ts';
import type { SettleRequest } from '../../../core/queue/judge.ts';
import type { Quarantine } from '../../../core/queue/settle.ts';
import type { DeliveryJob, DeliveryOutcome, RouteLookup, Transport } from '../../../core/queue/transport.ts';

export const policy: QueuePolicy = { ...defaultBackoff, lifetimeMs: 5 * 86_400_000, delayWarningMs: 4 * 3_600_000 };
export const silent = pino({ level: 'silent' });

export function address(text: string): Address {
  const at = text.lastIndexOf('@');
  return { local: text.slice(0, at), domain: text.slice(at + 1), text };
}
export const rcpt = (text: string, more: Omit<Recipient, 'address'> = {}): Recipient => ({
  address: address(text),
  ...more,
});

/** A message of these bytes; its headers are those of the first piece in memory. */
export function messageOf(bytes: Buffer | Rope): Message {
  const rope = Buffer.isBuffer(bytes) ? { size: bytes.length, pieces: [bytes] } : bytes;
  return {
    size: rope.size,
    headers: parseHeaders(rope.pieces.find(Buffer.isBuffer) ?? Buffer.alloc(0)),
    bodyStart: 0,
    rope,
    open: () => Readable.from(rope.pieces.filter(Buffer.isBuffer)),
    bytes: () => ropeBytes(rope),
    mime: () => Promise.reject(new Error('Not parsed here')),
  };
}

export const text = Buffer.from('From: a@example.org\r\nSubject: test\r\n\r\n.hello\r\n');

export function request(
  id: string,
  recipients: readonly (string | Recipient)[],
  more: Partial<SettleRequest> & { readonly sender?: string | null; readonly body?: Buffer | Rope } = {},
): SettleRequest {
  const { sender = 'from@example.org', body = text, ...rest } = more;
  const path: ReversePath = sender === null ? null : address(sender);
  const list = recipients.map(each => (typeof each === 'string' ? rcpt(each) : each));
  const envelope: Envelope = { sender: path, recipients: list, smtputf8: false, requireTls: false };
  return {
    id,
    receivedAt: Date.now(),
    envelope,
    deliverable: { kind: 'deliver', message: messageOf(body), sender: path, recipients: list, originals: new Map() },
    signal: new AbortController().signal,
    ...rest,
  };
}

export interface Delivery {
  readonly id: string;
  readonly to: readonly string[];
  readonly bytes: Buffer;
}

export const delivered = { kind: 'delivered', detail: 'stored' } as const satisfies DeliveryOutcome;
export const unknownUser = {
  kind: 'failed',
  reply: { code: 550, enhanced: '5.1.1', text: 'No such user' },
  why: 'no such user',
} as const satisfies DeliveryOutcome;
export const overQuota = {
  kind: 'deferred',
  reply: { code: 452, enhanced: '4.2.2', text: 'Mailbox full' },
  why: 'over quota',
} as const satisfies DeliveryOutcome;
export const unreachable = {
  kind: 'deferred',
  reply: { code: 451, enhanced: '4.4.1', text: 'No answer from host' },
  why: 'connect: ECONNREFUSED',
  destination: true,
} as const satisfies DeliveryOutcome;

/** Answers by `decide`; records what it delivered. */
export function fakeTransport(
  name: string,
  decide: (recipient: Recipient, job: DeliveryJob) => DeliveryOutcome | Promise<DeliveryOutcome>,
): Transport & { readonly deliveries: Delivery[] } {
  const deliveries: Delivery[] = [];
  return {
    name,
    deliveries,
    async deliver(job, recipients) {
      const outcomes = await Promise.all(recipients.map(each => decide(each, job)));
      const to = recipients.filter((_, index) => outcomes[index]?.kind === 'delivered').map(each => each.address.text);
      if (to.length > 0) deliveries.push({ id: job.id, to, bytes: await ropeBytes(job.form) });
      return outcomes;
    },
  };
}

/** By domain; `queued:` before the name of a domain's transport makes it one that only the queue serves. */
export function routesBy(
  table: Readonly<Record<string, Transport | 'none' | 'unavailable'>>,
  direct = true,
): RouteLookup {
  return async recipient => {
    const found = table[recipient.address.domain] ?? 'none';
    if (found === 'unavailable') return { kind: 'unavailable', why: 'directory is down' };
    if (found === 'none')
      return { kind: 'none', reply: { code: 550, enhanced: '5.1.2', text: 'No such domain' }, why: 'no route' };
    return {
      kind: 'route',
      route: {
        transport: found,
        destination: recipient.address.domain,
        direct: direct && !found.name.startsWith('queued'),
      },
    };
  };
}

export interface Teardown {
  teardown(run: () => Promise<void>): unknown;
}

export async function tempFolder(t: Teardown): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-queue-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Where nothing is quarantined. */
export const unusedQuarantine: Quarantine = {
  hold: () => Promise.reject(new Error('Nothing is quarantined here')),
  keep: () => Promise.reject(new Error('Nothing is quarantined here')),
  conclude: () => Promise.resolve(),
};
