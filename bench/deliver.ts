// Delivery into one Maildir beside the plain ways to do it: messages per second and CPU at several concurrencies, rounds
// interleaved, medians. Run: UV_THREADPOOL_SIZE=16 node build/bench/deliver.js [messages per round] [rounds] [folder]
//
//   deliver   MailStore.deliver: self-syncing write, rename, one directory sync for all who wait
//   naive     open, write, sync, close, rename (node:fs/promises); the directory is not synced: less than durable
//   careful   the same, and the directory is synced for each message
//
// The files stay until the end: on ext4, deleting thousands of files makes every create in that part of the disk slow for
// minutes, so a bench that cleans up between rounds measures its own broom. Give a fresh folder on a quiet disk.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import path from 'node:path';
import { bufferRope } from '../core/mail/rope.ts';
import { createMaildirStore } from '../core/mailstore/maildir-store.ts';

const [count = 2000, rounds = 5] = process.argv.slice(2, 4).map(Number);
const base = mkdtempSync(path.join(process.argv[4] ?? '/var/tmp', 'postern-deliver-'));
const body = Buffer.alloc(10_000, 'Seventy characters of text fill this line to its very end, and more.\r\n');
const store = createMaildirStore({ maildirOf: user => path.join(base, user) });
const levels = [1, 20, 100];
let serial = 0;

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await handle.sync();
  await handle.close();
}

async function writeAndRename(folder: string): Promise<void> {
  const name = `m${serial++}`;
  const handle = await open(path.join(folder, 'tmp', name), 'wx', 0o600);
  await handle.writeFile(body);
  await handle.sync();
  await handle.close();
  await rename(path.join(folder, 'tmp', name), path.join(folder, 'new', name));
}

const contestants: Readonly<Record<string, (folder: string) => Promise<void>>> = {
  async deliver(folder) {
    const [result] = await store.deliver(bufferRope(body), [{ user: path.basename(folder) }]);
    if (result?.kind !== 'stored') throw new Error(`Not stored: ${JSON.stringify(result)}`);
  },
  naive: writeAndRename,
  async careful(folder) {
    await writeAndRename(folder);
    await syncFolder(path.join(folder, 'new'));
  },
};

interface Figures {
  readonly perSecond: number;
  readonly cpuMs: number;
}

async function measure(
  work: (folder: string) => Promise<void>,
  concurrency: number,
  messages: number,
): Promise<Figures> {
  const folder = path.join(base, `m${serial++}`);
  for (const part of ['tmp', 'new', 'cur']) mkdirSync(path.join(folder, part), { recursive: true });
  let left = messages;
  const cpu = process.cpuUsage();
  const start = performance.now();
  const worker = async (): Promise<void> => {
    while (left-- > 0) await work(folder);
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  return { perSecond: messages / seconds, cpuMs: (used.user + used.system) / 1000 / messages };
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

const figures = new Map<string, Figures[]>();
for (let round = 0; round < rounds; round++)
  for (const level of levels)
    for (const [name, work] of Object.entries(contestants)) {
      const key = `${name} ${level}`;
      const messages = level === 1 ? Math.ceil(count / 4) : count;
      figures.set(key, [...(figures.get(key) ?? []), await measure(work, level, messages)]);
    }
console.log('10 kB messages           at once   messages/s   CPU ms/message');
for (const [key, found] of figures) {
  const [name = '', level = ''] = key.split(' ');
  const rate = median(found.map(one => one.perSecond)).toFixed(0);
  const cpu = median(found.map(one => one.cpuMs)).toFixed(3);
  console.log(`${name.padEnd(24)} ${level.padStart(7)} ${rate.padStart(12)} ${cpu.padStart(16)}`);
}
await store.close();
rmSync(base, { recursive: true, force: true });
