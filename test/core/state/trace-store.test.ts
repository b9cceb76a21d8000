import path from 'node:path';
import t, { type Test } from 'tap';
import type { Clock } from '../../../core/lib/clock.ts';
import type { TraceRecord } from '../../../core/mail/trace.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import type { State } from '../../../core/state/state.ts';
import { openTraceStore, type TraceStoreOptions } from '../../../core/state/trace-store.ts';

/** Timers that only the test fires. */
function stillClock(now: number): Clock & { fire(): void; set(now: number): void; left(): number } {
  const timers = new Set<() => void>();
  return {
    now: () => now,
    monotonic: () => now,
    after(_ms, run) {
      timers.add(run);
      return () => timers.delete(run);
    },
    fire() {
      const due = [...timers];
      timers.clear();
      for (const run of due) run();
    },
    set(to) {
      now = to;
    },
    left: () => timers.size,
  };
}

const record = (id: string, over: Partial<TraceRecord> = {}): TraceRecord => ({
  id,
  sessionId: `s-${id}`,
  receivedAt: 1_000_000,
  listener: 'smtp',
  client: { address: '192.0.2.1', port: 1234, helo: 'there' },
  sender: 'Alice@Example.com',
  size: 100,
  messageId: `<${id}@example.com>`,
  subject: 'Lunch',
  steps: [{ atMs: 1, plugin: 'dnsbl', hook: 'connect', verdict: 'continue', ms: 1 }],
  recipients: [{ address: 'Bob@example.org', outcome: 'queued' }],
  reply: '250 2.0.0 Ok',
  outcome: 'accepted',
  ms: 5,
  ...over,
});

async function open(t: Test, over: Partial<TraceStoreOptions> = {}) {
  const warnings: string[] = [];
  const state = await openSqliteState(path.join(t.testdir(), 'trace.db'), { synchronous: 'normal', reader: 'shared' });
  const clock = stillClock(1_000_000);
  const store = await openTraceStore({ state, clock, warn: message => warnings.push(message), ...over });
  t.teardown(async () => {
    await store.close();
    await state.close();
  });
  return { store, state, clock, warnings };
}

t.test('records are found by everything that one asks for, newest first, page by page', async t => {
  const { store } = await open(t);
  for (let n = 0; n < 30; n++)
    store.record(
      record(`m${String(n).padStart(2, '0')}`, {
        receivedAt: 1_000_000 + n,
        sender: n % 10 === 0 ? '' : `user${n}@${n % 2 ? 'odd' : 'even'}.example`,
        subject: n === 7 ? '100% Größe_7' : 'Lunch',
        outcome: n === 5 ? 'rejected' : 'accepted',
        recipients: [
          { address: `r${n % 3}@example.org`, outcome: 'delivered' },
          { address: 'all@example.net', outcome: n === 9 ? 'bounced' : 'delivered' },
        ],
        steps: [
          { atMs: 1, plugin: 'dnsbl', hook: 'connect', verdict: 'continue', ms: 1 },
          { atMs: 2, plugin: 'spf', hook: 'mail', verdict: n === 5 ? 'reject' : 'continue', ms: 1 },
        ],
      }),
    );
  await store.flush();
  const ids = async (query: Parameters<typeof store.search>[0]) =>
    (await store.search(query)).map(({ record }) => Number(record.id.slice(1)));
  t.same(await ids({ limit: 3 }), [29, 28, 27]);
  t.same(await ids({ limit: 2, before: { receivedAt: 1_000_028, id: 'm28' } }), [27, 26]);
  t.same(await ids({ from: 1_000_003, to: 1_000_005 }), [5, 4, 3]);
  t.same(await ids({ sender: '' }), [20, 10, 0]);
  t.same(await ids({ sender: 'USER7@odd.example' }), [7]);
  t.same(await ids({ sender: '@even.example', from: 1_000_020 }), [28, 26, 24, 22]);
  t.same(await ids({ recipient: 'R1@example.org', limit: 2 }), [28, 25]);
  t.same(await ids({ recipient: 'r*@example.org', to: 1_000_001 }), [1, 0]);
  t.same(await ids({ recipient: 'all@example.net', recipientOutcome: 'bounced' }), [9]);
  t.same(await ids({ messageId: '<m11@example.com>' }), [11]);
  t.same(await ids({ subject: '0% Größe_' }), [7]);
  t.same(await ids({ subject: '0_ Größe' }), []);
  t.same(await ids({ outcome: 'rejected' }), [5]);
  t.same(await ids({ plugin: 'spf', verdict: 'reject', client: '192.0.2.*' }), [5]);
  t.same(await ids({ plugin: 'dnsbl' }), [], 'plugins that only continued are not indexed');
  t.equal(await store.find('nobody'), undefined);
});

t.test('what becomes of a recipient later is appended, whichever comes first', async t => {
  const { store, clock } = await open(t);
  const step = { atMs: 1, plugin: 'sieve', hook: 'deliver', verdict: 'defer', ms: 1 };
  store.append('late', { at: 5, address: 'bob@example.org', outcome: 'deferred', detail: '451 later', steps: [step] });
  await store.flush();
  store.record(record('late'));
  clock.fire();
  store.append('late', { at: 9, address: 'bob@example.org', outcome: 'bounced' });
  store.append('late', { at: 9, address: 'new@example.org', outcome: 'relayed' });
  await store.flush();
  const found = await store.find('late');
  t.match(found, {
    record: {
      recipients: [
        { address: 'Bob@example.org', outcome: 'bounced', detail: undefined, steps: [step] },
        { address: 'new@example.org', outcome: 'relayed' },
      ],
    },
    events: [{ at: 5, detail: '451 later', steps: [step] }, { at: 9 }, { outcome: 'relayed' }],
  });
  t.equal((await store.search({ recipientOutcome: 'bounced' })).length, 1);
});

t.test('evidence that JSON cannot hold, or far too much of it, costs the evidence and not the record', async t => {
  const { store, warnings } = await open(t);
  const step = { atMs: 1, plugin: 'x', hook: 'mail', verdict: 'reject', ms: 1, why: 'kept' };
  store.record(record('big', { steps: [{ ...step, evidence: { n: 1n } }] }));
  store.record(record('long', { steps: [{ ...step, evidence: { text: 'x'.repeat(300_000) } }] }));
  await store.flush();
  const evidence = { n: 1n };
  store.record(
    record('delivered', { recipients: [{ address: 'a@b.test', outcome: 'x', steps: [{ ...step, evidence }] }] }),
  );
  store.append('delivered', { at: 5, address: 'a@b.test', outcome: 'y', steps: [{ ...step, evidence }] });
  await store.flush();
  for (const id of ['big', 'long']) t.same((await store.find(id))?.record.steps, [step]);
  t.same((await store.find('delivered'))?.record.recipients, [{ address: 'a@b.test', outcome: 'y', steps: [step] }]);
  t.same(warnings, []);
});

t.test('old records go, then the oldest beyond the size', async t => {
  const { store, state, clock } = await open(t, { retentionMs: 1000, maxBytes: 300_000 });
  for (let n = 0; n < 1200; n++) {
    store.record(record(`m${n}`, { receivedAt: n < 700 ? 998_000 : 1_000_000 + n }));
    store.append(`m${n}`, { at: 1, address: 'bob@example.org', outcome: 'relayed' });
  }
  await store.flush();
  const removed = await store.prune();
  t.ok(removed > 700 && removed < 1200, `${removed} removed`);
  for (const table of ['trace', 'trace_recipient', 'trace_event'])
    t.match(await state.query(`SELECT count(*) AS n FROM ${table}`), [{ n: 1200 - removed }], table);
  t.ok(await store.find('m1199'));
  clock.set(2_000_000);
  t.equal(await store.prune(), 1200 - removed);
});

t.test('a store that is too slow or broken costs records, with a count, and never the caller', async t => {
  let release: (() => void) | undefined;
  const gate = new Promise<void>(resolve => {
    release = resolve;
  });
  const written: number[] = [];
  const state: State = {
    migrate: async () => undefined,
    query: async () => [],
    write: async statements => {
      await gate;
      written.push(statements.length);
      if (written.length === 1) throw new Error('Disk is gone');
      return [];
    },
    close: async () => undefined,
  };
  const warnings: [string, unknown][] = [];
  const store = await openTraceStore({
    state,
    clock: stillClock(0),
    maxBuffered: 1000,
    warn: (message, details) => warnings.push([message, details]),
  });
  for (let n = 0; n < 3000; n++) store.record(record(`m${n}`));
  release?.();
  await store.close();
  t.match(warnings, [
    ['Trace records lost: the store refused them', { count: 250 }],
    ['Trace records dropped: the store is too slow', { dropped: 1800 }],
  ]);
  store.record(record('after the end'));
});

t.test('the end waits for what is being pruned, and nothing is left to do later', async t => {
  const state = await openSqliteState(path.join(t.testdir(), 'trace.db'), { synchronous: 'normal', reader: 'shared' });
  t.teardown(() => state.close());
  let proceed = (): void => undefined;
  const hold = new Promise<void>(resolve => {
    proceed = resolve;
  });
  let isPruned = false;
  const slow: State = {
    migrate: (...given) => state.migrate(...given),
    async query(...given) {
      if (given[0].includes('sum(bytes)')) await hold;
      isPruned ||= given[0].includes('sum(bytes)');
      return state.query(...given);
    },
    write: statements => state.write(statements),
    close: () => state.close(),
  };
  const clock = stillClock(1_000_000);
  const warnings: string[] = [];
  const store = await openTraceStore({ state: slow, clock, warn: message => warnings.push(message) });
  clock.fire();
  const closing = store.close().then(() => t.ok(isPruned));
  // Long enough for a close that waits for nothing.
  for (let times = 0; times < 5; times++) await state.query('SELECT 1');
  proceed();
  await closing;
  t.equal(clock.left(), 0, 'no timer');
  t.same(warnings, []);
});
