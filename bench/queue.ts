// 100,000 messages wait for a dead destination: how long a start takes, what memory it needs, and whether mail for a
// live destination suffers. Each phase is a process of its own. Run: node build/bench/queue.js [entries] [live messages];
// through a whole gateway, from SMTP to the sink: node build/bench/queue.js gateway [entries] [live messages]
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { systemClock } from '../core/lib/clock.ts';
import { bufferRope } from '../core/mail/rope.ts';
import { createDns } from '../core/net/dns.ts';
import { defaultBackoff } from '../core/queue/backoff.ts';
import { createDestinationHealth } from '../core/queue/destination-health.ts';
import { pendingRecipient, type QueuedMessage } from '../core/queue/entry.ts';
import { createScheduler } from '../core/queue/scheduler.ts';
import { type Entry, openQueueStore } from '../core/queue/store.ts';
import type { RouteLookup } from '../core/queue/transport.ts';
import type { RelayTarget } from '../core/relay/route.ts';
import { createRelay } from '../core/relay/smtp-transport.ts';
import { openSqliteState } from '../core/state/sqlite.ts';
import { cpuSeconds, memoryMiB, runToEnd, startDaemon, waitForGreeting } from './lib/processes.ts';

const policy = { ...defaultBackoff, lifetimeMs: 5 * 86_400_000, delayWarningMs: 0 };
const body = Buffer.from(
  `From: a@example.org\r\nSubject: bench\r\n\r\n${'seventy characters of text fill this line to its very end, and more\r\n'.repeat(145)}`,
);

function entry(id: string, domain: string, destination = domain): Entry {
  const now = Date.now();
  const address = { local: 'to', domain, text: `to@${domain}` };
  const message: QueuedMessage = {
    id,
    sender: { local: 'from', domain: 'example.org', text: 'from@example.org' },
    envelope: { smtputf8: false, requireTls: false },
    form: bufferRope(body),
    receivedAt: now,
    expiresAt: now + policy.lifetimeMs,
    reports: true,
  };
  return {
    message,
    recipients: [pendingRecipient(message, 0, { recipient: { address }, destination, dueAt: now }, policy)],
  };
}

async function openParts(folder: string) {
  const state = await openSqliteState(path.join(folder, 'state.db'));
  return { state, store: await openQueueStore(state, path.join(folder, 'queue')) };
}

async function fill(
  folder: string,
  domain: string,
  count: number,
  prefix: string,
  destination = domain,
): Promise<void> {
  const { state, store } = await openParts(folder);
  for (let from = 0; from < count; from += 500)
    await Promise.all(
      Array.from({ length: Math.min(500, count - from) }, (_, n) =>
        store.add(entry(`${prefix}${String(from + n).padStart(8, '0')}`, domain, destination)),
      ),
    );
  await state.close();
}

/** Runs the queue until the live messages are gone. Prints seconds and memory. */
async function run(folder: string, live: number, dead: number, count: number): Promise<void> {
  const began = performance.now();
  const { state, store } = await openParts(folder);
  await store.recover(Date.now());
  await store.sweepBodies(Date.now());
  const opened = performance.now() - began;
  const log = pino({ level: 'silent' });
  const dns = createDns({ clock: systemClock, servers: ['127.0.0.1:9'] });
  const relay = createRelay({ clock: systemClock, dns, log, hostname: 'bench.test' });
  const to = (port: number): RelayTarget => ({
    kind: 'relay',
    protocol: 'smtp',
    hosts: [{ host: '127.0.0.1', port, mx: false }],
    tls: { kind: 'none' },
    direct: false,
  });
  const routes: RouteLookup = async ({ address: { domain } }) => ({
    kind: 'route',
    route: {
      transport: relay.transport(to(domain === 'live.test' ? live : dead), domain),
      destination: domain,
      direct: false,
    },
  });
  let left = count;
  let first = 0;
  let finish = (): void => undefined;
  const done = new Promise<void>(resolve => {
    finish = resolve;
  });
  const scheduler = createScheduler({
    store,
    routes,
    health: createDestinationHealth(policy),
    report: async () => undefined,
    policy,
    clock: systemClock,
    log,
    onAttempt: ({ destination }) => {
      first ||= performance.now() - began;
      if (destination === 'live.test') left -= 1;
      if (left === 0) finish();
    },
  });
  const cpu = process.cpuUsage();
  const from = performance.now();
  scheduler.start();
  if (count > 0) await done;
  else await new Promise(resolve => setTimeout(resolve, 3_000));
  const ms = performance.now() - from;
  const { user, system } = process.cpuUsage(cpu);
  await scheduler.stop();
  const rate =
    count > 0
      ? `${Math.round((count / ms) * 1000)} messages/s, CPU ${((user + system) / 1000 / count).toFixed(2)} s per 1,000; `
      : '';
  console.log(
    `  store open ${opened.toFixed(0)} ms, first attempt after ${first.toFixed(0)} ms; ${rate}memory ${Math.round(process.memoryUsage.rss() / 1048576)} MB`,
  );
  await relay.close();
  dns.close();
  await state.close();
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map(server => once(server, 'listening')));
  const ports = servers.map(server => (server.address() as AddressInfo).port);
  for (const server of servers) await new Promise<void>(resolve => server.close(() => resolve()));
  return ports;
}

async function main(entries: number, liveCount: number): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-bench-queue-'));
  const [port = 0] = await freePorts(1);
  const sink = spawn('smtp-sink', ['-u', 'nobody', `127.0.0.1:${port}`, '256'], { stdio: 'inherit' });
  const phase = (...words: readonly (string | number)[]): void => {
    const script = process.argv[1] ?? '';
    spawnSync(process.execPath, [script, ...words.map(String)], { stdio: 'inherit' });
  };
  try {
    for (const round of [1, 2, 3]) {
      console.log(`Live messages with an empty queue (${round}):`);
      phase('fill', folder, 'live.test', liveCount, `a${round}`);
      phase('run', folder, port, 9, liveCount);
    }
    const began = performance.now();
    phase('fill', folder, 'dead.test', entries, 'd');
    const seconds = (performance.now() - began) / 1000;
    console.log(
      `${entries} messages of ${body.length} bytes queued in ${seconds.toFixed(1)} s, ${Math.round(entries / seconds)}/s`,
    );
    console.log('A start with them:');
    phase('run', folder, port, 9, 0);
    for (const round of [1, 2, 3]) {
      console.log(`Live messages beside them (${round}):`);
      phase('fill', folder, 'live.test', liveCount, `b${round}`);
      phase('run', folder, port, 9, liveCount);
    }
  } finally {
    sink.kill();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A gateway with nothing in its queue and one with `entries` take turns with the same live mail. */
async function throughGateway(entries: number, live: number): Promise<void> {
  const base = await mkdtemp(path.join(tmpdir(), 'postern-bench-queue-'));
  const [sinkPort = 0, port = 0] = await freePorts(2);
  const main = path.join(import.meta.dirname, '../core/main.js');
  const sink = await startDaemon('smtp-sink', ['-u', 'nobody', `127.0.0.1:${sinkPort}`, '256']);
  const rates: Record<string, number[]> = { empty: [], full: [] };
  try {
    for (const name of ['empty', 'full']) {
      await mkdir(path.join(base, name, 'data'), { recursive: true });
      await writeFile(
        path.join(base, name, 'postern.yaml'),
        `hostname: bench.test
dataDir: data
domains: [{ name: live.test, kind: relay }, { name: dead.test, kind: relay }]
listeners: [{ name: smtp, role: smtp, port: ${port}, tls: none, limits: { connectionsPerAddress: 200 } }]
chain: [limits, relay-policy, recipients, rfc822]
routes: [{ domain: live.test, hosts: ['127.0.0.1:${sinkPort}'] }, { domain: dead.test, hosts: ['127.0.0.1:9'] }]
log: { level: error, format: json }
`,
      );
    }
    const began = performance.now();
    await fill(path.join(base, 'full', 'data'), 'dead.test', entries, 'd', 'smtp:[127.0.0.1]:9');
    console.log(
      `${entries} messages of ${body.length} bytes queued in ${((performance.now() - began) / 1000).toFixed(1)} s`,
    );
    for (const round of [1, 2, 3])
      for (const name of round % 2 === 0 ? ['full', 'empty'] : ['empty', 'full']) {
        const start = performance.now();
        const config = path.join(base, name, 'postern.yaml');
        const gateway = await startDaemon(process.execPath, [main, '--config', config, 'start', '--worker']);
        await waitForGreeting(port, 60_000);
        const up = performance.now() - start;
        const from = performance.now();
        const source = ['-s', '10', '-m', String(live), '-l', '10240', '-f', 'a@b.test', '-t', 'to@live.test'];
        const { code, output } = await runToEnd('smtp-source', [...source, `127.0.0.1:${port}`]);
        if (code !== 0) throw new Error(`smtp-source failed: ${output}`);
        const rate = live / ((performance.now() - from) / 1000);
        rates[name]?.push(rate);
        const memory = Math.round(memoryMiB(gateway.pid).rss);
        const cpu = (cpuSeconds(gateway.pid) / live) * 1000;
        console.log(
          `  ${name.padEnd(5)} (${round}): greets after ${up.toFixed(0)} ms; ${Math.round(rate)} messages/s, CPU ${cpu.toFixed(2)} s per 1,000 with the start; memory ${memory} MB`,
        );
        await gateway.stop();
      }
    const median = (list: readonly number[] = []): number => [...list].sort((a, b) => a - b)[1] ?? 0;
    console.log(
      `Live mail beside a full queue: ${Math.round((100 * median(rates['full'])) / median(rates['empty']))} % of that with an empty one`,
    );
  } finally {
    await sink.stop();
    await rm(base, { recursive: true, force: true });
  }
}

const [mode, ...rest] = process.argv.slice(2);
if (mode === 'fill') await fill(rest[0] ?? '', rest[1] ?? '', Number(rest[2]), rest[3] ?? '');
else if (mode === 'run') await run(rest[0] ?? '', Number(rest[1]), Number(rest[2]), Number(rest[3]));
else if (mode === 'gateway') await throughGateway(Number(rest[0] ?? 100_000), Number(rest[1] ?? 5_000));
else await main(Number(mode ?? 100_000), Number(rest[0] ?? 5_000));
