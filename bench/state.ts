// Durable writes per second of the state store at 1, 10 and 100 concurrent callers, and the cost of a point query.
// node build/bench/state.js [folder on the disk to measure]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { systemClock } from '../core/lib/clock.ts';
import type { TraceRecord } from '../core/mail/trace.ts';
import { openSqliteState } from '../core/state/sqlite.ts';
import type { State } from '../core/state/state.ts';
import { openTraceStore } from '../core/state/trace-store.ts';

const runMs = 2000;
const rounds = 3;

interface Result {
  readonly perSecond: number;
  /** CPU of the whole process. */
  readonly cpuMs: number;
  /** Share of the time the event loop was busy. */
  readonly loop: number;
}

async function measure(lanes: number, one: (n: number) => Promise<unknown>): Promise<Result> {
  let count = 0;
  const cpu = process.cpuUsage();
  const loop = performance.eventLoopUtilization();
  const start = performance.now();
  const lane = async (): Promise<void> => {
    while (performance.now() - start < runMs) await one(count++);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  return {
    perSecond: count / seconds,
    cpuMs: (used.user + used.system) / 1000 / count,
    loop: performance.eventLoopUtilization(loop).utilization,
  };
}

function writer(state: State, base: number, bytes: number): (n: number) => Promise<unknown> {
  const body = Buffer.alloc(bytes, 'x');
  return n =>
    state.write([
      { sql: 'INSERT INTO queue (id, body) VALUES (?, ?)', params: [base + n, body] },
      { sql: 'INSERT INTO recipients (id, address) VALUES (?, ?)', params: [base + n, 'somebody@example.org'] },
    ]);
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

function print(what: string, results: readonly Result[]): void {
  const rate = Math.round(median(results.map(one => one.perSecond)));
  const cpu = median(results.map(one => one.cpuMs)).toFixed(3);
  const loop = Math.round(median(results.map(one => one.loop)) * 100);
  console.log(`${what.padEnd(34)} ${String(rate).padStart(8)}/s ${cpu.padStart(8)} ms CPU each, event loop ${loop} %`);
}

const folder = mkdtempSync(path.join(process.argv[2] ?? tmpdir(), 'postern-state-'));
const started = performance.now();
const state = await openSqliteState(path.join(folder, 'state.db'));
await state.migrate('bench', [
  {
    id: 1,
    statements: [
      'CREATE TABLE queue (id INTEGER PRIMARY KEY, body BLOB)',
      'CREATE TABLE recipients (id INTEGER, address TEXT, PRIMARY KEY (id, address))',
    ],
  },
]);
console.log(`Node ${process.version}, opened and migrated in ${Math.round(performance.now() - started)} ms`);
let base = 0;
for (const bytes of [200, 10_000])
  for (const lanes of [1, 10, 100]) {
    const results: Result[] = [];
    for (let round = 0; round < rounds; round++) {
      results.push(await measure(lanes, writer(state, base, bytes)));
      base += 10_000_000;
    }
    print(`write ${bytes} bytes, ${lanes} at once`, results);
  }
for (const lanes of [1, 100])
  print(`point query, ${lanes} at once`, [
    await measure(lanes, n => state.query('SELECT address FROM recipients WHERE id = ?', [n % 1000])),
  ]);
await state.close();

const step = {
  atMs: 3,
  plugin: 'dnsbl',
  hook: 'connect',
  verdict: 'continue',
  ms: 1.234567,
  evidence: { zone: 'zen' },
};
const trace = (id: number): TraceRecord => ({
  id: `4f3b2a${id}`,
  sessionId: 'c0ffee',
  receivedAt: Date.now(),
  listener: 'smtp',
  client: { address: '192.0.2.1', port: 25, helo: 'mail.example.com' },
  sender: 'alice@example.com',
  size: 4711,
  messageId: `<${id}@example.com>`,
  subject: 'Minutes of the meeting',
  steps: Array.from({ length: 12 }, () => step),
  recipients: [{ address: 'bob@example.org', outcome: 'delivered' }],
  reply: '250 2.0.0 Ok',
  outcome: 'accepted',
  ms: 12.5,
});
const traceState = await openSqliteState(path.join(folder, 'trace.db'), { synchronous: 'normal', reader: 'shared' });
const traces = await openTraceStore({ state: traceState, clock: systemClock, warn: console.warn });
let recorded = 0;
const count = 20_000;
const traceStart = performance.now();
const loopStart = performance.eventLoopUtilization();
while (recorded < count) {
  for (let burst = 0; burst < 100; burst++) traces.record(trace(recorded++));
  await setTimeout(10);
}
const active = performance.eventLoopUtilization(loopStart).active;
await traces.flush();
const seconds = (performance.now() - traceStart) / 1000;
console.log(
  `${count} traces of 12 steps in ${seconds.toFixed(1)} s: ${((active * 1000) / count).toFixed(1)} µs of the main thread each`,
);
await traces.close();
await traceState.close();
rmSync(folder, { recursive: true });
