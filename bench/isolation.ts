// What `isolate` costs per message: the same plugin in the gateway's thread and in a process of its own, in turn, driven
// through the chain by one session at a time and by twenty at once. The plugin reads the header and the MIME tree.
//   node build/bench/isolation.js [messages]
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { pino } from 'pino';
import { systemClock } from '../core/lib/clock.ts';
import { makeMessage } from '../core/mail/message.ts';
import { bufferRope } from '../core/mail/rope.ts';
import { isolatePlugin } from '../core/pipeline/isolation/isolate.ts';
import { loadChain } from '../core/pipeline/load-chain.ts';
import { loadPlugin, locatePlugin } from '../core/pipeline/resolve-plugin.ts';
import type { Host } from '../core/plugin/contract.ts';

const messages = Number(process.argv[2] ?? 2000);
const sizes = [10_000, 1_000_000];
const source = `
import * as api from '${new URL('../core/plugin/index.js', import.meta.url).href}';
export const plugin = api.definePlugin({
  name: 'reader', doc: 'Reads.', options: api.z.strictObject({}),
  setup: () => ({
    status: async () => process.cpuUsage(),
    async message(at) {
      let parts = 0;
      for (const _ of api.walkParts(await at.message.mime())) parts++;
      at.evidence({ parts, subject: at.message.headers.get('subject')?.value });
      return { ...api.pass, edits: [{ kind: 'add-header', name: 'X-Parts', value: String(parts) }] };
    },
  }),
});`;

const address = (text: string) => {
  const [local = '', domain = ''] = text.split('@');
  return { local, domain, text };
};
const envelope = {
  sender: address('a@b.test'),
  recipients: [{ address: address('c@d.test') }],
  smtputf8: false,
  requireTls: false,
};

interface Cost {
  readonly wall: number;
  readonly cpu: number;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

async function main(): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-bench-'));
  const file = path.join(folder, 'reader.mjs');
  writeFileSync(file, source);
  const log = pino({ level: 'warn' }, process.stderr);
  const host = {
    hostname: 'bench',
    log,
    clock: systemClock,
    dns: { servers: [] },
    mailboxes: {},
    rules: {},
    memory: {},
    dataDir: folder,
  } as unknown as Host;
  const located = await locatePlugin(file, { builtIn: {}, folder });
  const module = pathToFileURL(file).href;
  const entry = {
    name: 'reader',
    source: { spec: file, module },
    options: {},
    timeoutMs: 60_000,
    terms: { memoryBytes: 256 * 1024 ** 2 },
  };
  const isolated = await isolatePlugin(entry, undefined, systemClock, log);
  const load = (plugin: typeof isolated.plugin) =>
    loadChain([{ name: 'reader', plugin, options: {}, timeoutMs: 60_000, onError: 'defer' }], {
      clock: systemClock,
      log,
      hostFor: () => host,
    });
  const chains = { inline: await load(await loadPlugin(located)), isolated: await load(isolated.plugin) };

  /** Of both processes, microseconds. */
  const cpu = async (kind: keyof typeof chains): Promise<number> => {
    const own = process.cpuUsage();
    const [{ values } = { values: {} }] = kind === 'isolated' ? await chains.isolated.status() : [];
    const other = values as Partial<NodeJS.CpuUsage>;
    return own.user + own.system + (other.user ?? 0) + (other.system ?? 0);
  };

  async function run(kind: keyof typeof chains, size: number, sessions: number): Promise<Cost> {
    const bytes = Buffer.from(
      `Subject: x\r\nContent-Type: text/plain\r\n\r\n${'0123456789abcde\r\n'.repeat(size / 17)}`,
    );
    const count = Math.max(sessions, Math.ceil((messages * 10_000) / Math.max(size, 10_000)));
    let left = count;
    const cpuBefore = await cpu(kind);
    const began = performance.now();
    await Promise.all(
      Array.from({ length: sessions }, async (_, index) => {
        const session = chains[kind].openSession({
          id: `s${index}`,
          listener: 'smtp',
          role: 'smtp',
          local: { address: '127.0.0.1', port: 25 },
          remote: { address: '192.0.2.1', port: 4711 },
        });
        while (left-- > 0) {
          await session.mail('q', envelope);
          const outcome = await session.message(envelope, makeMessage(bufferRope(bytes)));
          if (outcome.kind !== 'deliver') throw new Error(JSON.stringify(outcome));
          session.endTransaction();
        }
        session.end();
      }),
    );
    const wall = ((performance.now() - began) * 1000) / count;
    return { wall, cpu: ((await cpu(kind)) - cpuBefore) / count };
  }

  console.log('| message | sessions | CPU µs in the gateway | isolated | wall µs in the gateway | isolated |');
  console.log('|---|---:|---:|---:|---:|---:|');
  for (const size of sizes)
    for (const sessions of [1, 20]) {
      const costs: Record<keyof typeof chains, Cost[]> = { inline: [], isolated: [] };
      for (let round = 0; round < 5; round++)
        for (const kind of ['inline', 'isolated'] as const) costs[kind].push(await run(kind, size, sessions));
      const of = (kind: keyof typeof chains, what: keyof Cost): string =>
        median(costs[kind].map(cost => cost[what])).toFixed(0);
      const cells = (['cpu', 'wall'] as const).flatMap(what => [of('inline', what), of('isolated', what)]);
      console.log(`| ${size / 1000} kB | ${sessions} | ${cells.join(' | ')} |`);
    }
  for (const chain of Object.values(chains)) await chain.close();
  rmSync(folder, { recursive: true });
}

await main();
