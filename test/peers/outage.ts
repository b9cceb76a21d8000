// What the tests of outages share: a whole gateway before a real Postfix, many marked messages, and what arrived.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { Test } from 'tap';
import { startTestGateway, type TestGateway } from '../harness/gateway.ts';
import { SmtpClient } from '../harness/smtp-client.ts';

const limits = 'limits: { connectionsPerAddress: 200, messagesPerSession: 100000 }';
const listeners = `\n  - { name: smtp, role: smtp, port: 0, tls: none, etrn: [127.0.0.0/8], ${limits} }`;

/** Log lines of the gateway by their message. */
export function watchLog() {
  const seen: Record<string, Record<string, unknown>[]> = {};
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().trim().split('\n')) {
        const entry = JSON.parse(line) as Record<string, unknown>;
        const name = String(entry['msg']);
        const list = seen[name] ?? [];
        seen[name] = list;
        list.push(entry);
      }
      done();
    },
  });
  return { log: pino({ level: 'info' }, sink), seen };
}

export async function gatewayBefore(
  t: Test,
  hosts: readonly number[],
  log = pino({ level: 'silent' }),
): Promise<TestGateway> {
  const yaml = `
hostname: mx.example.org
domains: [{ name: inner.test, kind: relay }]
chain: [relay-policy, recipients]
routes: [{ domain: inner.test, hosts: [${hosts.map(port => `'127.0.0.1:${port}'`).join(', ')}] }]
queue: { firstRetry: 1s, maxRetry: 5s }
`;
  const gateway = await startTestGateway({ folder: t.testdir(), yaml, listeners, log });
  t.teardown(() => gateway.stop());
  return gateway;
}

/** Sends messages with these marks over several connections; resolves when all were answered with 250. */
export async function sendAll(port: number, marks: readonly string[], connections: number, size = 100): Promise<void> {
  const text = `${'x'.repeat(70)}\r\n`.repeat(Math.ceil(size / 72));
  const waiting = [...marks];
  const one = async (): Promise<void> => {
    const smtp = await SmtpClient.open(port);
    await smtp.command('EHLO client.example.net');
    for (let mark = waiting.pop(); mark !== undefined; mark = waiting.pop()) {
      const body = `X-Mark: ${mark}\r\nFrom: a@example.net\r\nSubject: x\r\n\r\n${text}`;
      const reply = await smtp.send({ from: 'a@example.net', to: ['bob@inner.test'], body });
      // A client sends again what was put off.
      if (reply.startsWith('451 4.4.2')) waiting.push(mark);
      else if (!reply.startsWith('250 ')) throw new Error(`Not taken: ${reply}`);
    }
    smtp.close();
  };
  await Promise.all(Array.from({ length: connections }, one));
}

/**
 * Marks of the messages in a Maildir. Postfix delivers after its 250, so this waits until so many different ones are there.
 * A Postfix that is killed behind a delivery delivers once more what it took once: the same to the byte, and no second copy.
 */
export async function arrivals(maildir: string, count: number): Promise<readonly string[]> {
  const texts = new Map<string, string>();
  const look = (): readonly string[] => {
    const folder = path.join(maildir, 'new');
    const names = existsSync(folder) ? readdirSync(folder) : [];
    for (const name of names) if (!texts.has(name)) texts.set(name, readFileSync(path.join(folder, name), 'utf8'));
    return [...new Set(texts.values())].map(text => /^X-Mark: (.*)$/m.exec(text)?.[1] ?? '?');
  };
  for (const until = Date.now() + 240_000; Date.now() < until; await delay(200))
    if (new Set(look()).size >= count) break;
  return look();
}

export async function empty(gateway: TestGateway): Promise<void> {
  for (const until = Date.now() + 240_000; Date.now() < until; await delay(200))
    if ((await gateway.gateway.status()).queue.pending === 0) return;
  throw new Error('The queue does not become empty');
}

export const marksOf = (count: number): readonly string[] => Array.from({ length: count }, (_, n) => `m${n}`);
export const seconds = (since: number): string => ((performance.now() - since) / 1000).toFixed(1);
