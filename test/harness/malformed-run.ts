// node malformed-run.js SEED FROM TO: sends the malformed messages of these numbers through the chain with every filter that needs
// no engine and prints what came of it as JSON. A process of its own: a test runner watches every promise, which costs
// more than the chain does.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { pino } from 'pino';
import { parse } from 'yaml';
import { readChain } from '../../core/config/chain-entry.ts';
import { systemClock } from '../../core/lib/clock.ts';
import { loadChain } from '../../core/pipeline/load-chain.ts';
import { resolvePlugin } from '../../core/pipeline/resolve-plugin.ts';
import { plugins } from '../../plugins/index.ts';
import { malformedMessage } from './malformed.ts';
import { testHost } from './plugin-host.ts';
import { parseAddress, testMessage } from './test-message.ts';
import { chainZones, wholeChain } from './whole-chain.ts';

export interface MalformedRun {
  /** What failed or was slow, with its message. */
  readonly failed: readonly string[];
  /** Messages that each plugin saw. */
  readonly seen: Readonly<Record<string, number>>;
  /** Memory in use at a fifth of the way and at the end, after garbage collection. */
  readonly heapMiB: readonly [number, number];
}

const timeoutMs = 30_000;
const maxFailed = 10;
const session = {
  id: 's1',
  listener: 'smtp',
  role: 'smtp' as const,
  local: { address: '127.0.0.1', port: 25 },
  remote: { address: '198.51.100.7', port: 4711 },
};

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
function heapMiB(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1024 ** 2;
}

async function entries(folder: string) {
  const more = `
  - example-per-recipient: { recipients: [{ address: bob@example.org, attachments: false }] }
  - example-header-stamp`;
  const read = readChain((parse(`chain:\n${wholeChain({ folder })}${more}`) as { chain: never }).chain);
  if (read.problems.length > 0) throw new Error(JSON.stringify(read.problems));
  return Promise.all(
    read.entries.map(async ({ plugin: spec, isolate: _, ...entry }) => ({
      ...entry,
      timeoutMs,
      // The chain goes on behind one that objects: every message passes every filter.
      mode: 'observe' as const,
      plugin: await resolvePlugin(spec, { builtIn: plugins, folder: '.' }),
    })),
  );
}

async function run(seed: number, from: number, to: number): Promise<MalformedRun> {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-malformed-'));
  const users = { 'bob@example.org': 'x' };
  const host = await testHost({ dns: chainZones, accounts: { local: ['example.org'], users } });
  const deps = { clock: systemClock, log: pino({ level: 'silent' }), hostFor: () => host };
  const chain = await loadChain(await entries(folder), deps);
  const live = chain.openSession(session);
  await live.connect();
  await live.helo('client.example');
  const bob = { address: parseAddress('bob@example.org') };
  const envelope = { sender: parseAddress('a@b.test'), recipients: [bob], smtputf8: false, requireTls: false };
  const seen: Record<string, number> = {};
  const failed: string[] = [];
  let early = 0;
  for (let index = from; index < to && failed.length < maxFailed; index++) {
    const message = testMessage(malformedMessage(seed, index));
    const id = `q${index}`;
    await live.mail(id, envelope);
    await live.rcpt(envelope, bob);
    const outcome = await live.message(envelope, message);
    if (outcome.kind === 'deliver') await outcome.message.bytes();
    const delivered = await chain.deliver({ id, session, helo: 'client.example', envelope, message }, bob);
    for (const { plugin, hook, verdict, why, ms } of [...live.steps(), ...delivered.steps]) {
      if (hook === 'message') seen[plugin] = (seen[plugin] ?? 0) + 1;
      if (verdict === 'error' || ms > timeoutMs) failed.push(`message ${index}: ${plugin} ${hook}: ${why} (${ms} ms)`);
    }
    live.endTransaction();
    if (index === from + Math.floor((to - from) / 5)) early = heapMiB();
  }
  live.end();
  const late = heapMiB();
  await chain.close();
  await host.close();
  rmSync(folder, { recursive: true });
  return { failed, seen, heapMiB: [early, late] };
}

const [seed = 0, from = 0, to = 0] = process.argv.slice(2).map(Number);
console.log(JSON.stringify(await run(seed, from, to)));
