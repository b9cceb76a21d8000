import t, { type Test } from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { createQueueAdmin } from '../../../core/queue/admin.ts';
import { createDestinationHealth } from '../../../core/queue/destination-health.ts';
import {
  nextEvent,
  pendingRecipient,
  type QueuedMessage,
  type QueuePolicy,
  withoutTimes,
} from '../../../core/queue/entry.ts';
import { createScheduler, type SchedulerParts } from '../../../core/queue/scheduler.ts';
import type { Entry, QueueStore } from '../../../core/queue/store.ts';
import type { DeliveryOutcome, RouteLookup } from '../../../core/queue/transport.ts';
import { until } from '../../harness/gateway-files.ts';
import { heldClock } from '../../harness/held-clock.ts';
import {
  address,
  delivered,
  fakeTransport,
  overQuota,
  policy,
  rcpt,
  routesBy,
  silent,
  text,
  unknownUser,
  unreachable,
} from './fixtures.ts';
import { openStore } from './shared-store.ts';

const quick: QueuePolicy = { ...policy, firstRetryMs: 20, maxRetryMs: 100, firstProbeMs: 20, maxProbeMs: 100 };

function entry(
  id: string,
  recipients: readonly string[],
  destination?: string,
  more: Partial<QueuedMessage> = {},
): Entry {
  const message: QueuedMessage = {
    id,
    sender: address('from@example.org'),
    envelope: { smtputf8: false, requireTls: false },
    form: { size: text.length, pieces: [text] },
    receivedAt: Date.now(),
    expiresAt: Date.now() + 86_400_000,
    reports: true,
    ...more,
  };
  return {
    message,
    recipients: recipients.map((each, index) =>
      pendingRecipient(
        message,
        index,
        { recipient: rcpt(each), destination: destination ?? each.slice(each.indexOf('@') + 1), dueAt: Date.now() },
        quick,
      ),
    ),
  };
}

/** A runner over a store; `until(predicate)` waits for it. */
function runner(t: Test, store: QueueStore, routes: RouteLookup, more: Partial<SchedulerParts> = {}) {
  const reports: Entry[] = [];
  const scheduler = createScheduler({
    store,
    routes,
    health: createDestinationHealth(quick),
    policy: quick,
    clock: systemClock,
    log: silent,
    pollMs: 1000,
    report: async (owed, now) => {
      reports.push(owed);
      await store.change(
        owed.message.id,
        owed.recipients.map(each =>
          each.state === 'pending' && now < owed.message.expiresAt
            ? [each, { ...each, warned: true, eventAt: nextEvent(owed.message, each.recipient, true, quick) }]
            : [each, undefined],
        ),
      );
    },
    ...more,
  });
  t.teardown(() => scheduler.stop());
  scheduler.start();
  return { scheduler, reports, until: (done: () => boolean | Promise<boolean>) => until(done, 'the queue to be so') };
}

t.test('delivers what is due, splits by destination and by outcome', async t => {
  const { store } = await openStore(t);
  const answers = new Map<string, DeliveryOutcome[]>([
    ['full@a.test', [overQuota, overQuota, delivered]],
    ['none@a.test', [unknownUser]],
  ]);
  const a = fakeTransport('a', each => answers.get(each.address.text)?.shift() ?? delivered);
  const b = fakeTransport('b', () => delivered);
  const { until, reports, scheduler } = runner(t, store, routesBy({ 'a.test': a, 'b.test': b }));
  await store.add(entry('q1', ['one@a.test', 'full@a.test', 'none@a.test', 'x@b.test', 'moved@a.test'], undefined));
  await store.add(entry('q2', ['late@b.test'], 'old-route.test'));
  scheduler.wake(['a.test', 'b.test']);
  await until(async () => !(await store.entry('q1')) && !(await store.entry('q2')));
  t.same(
    a.deliveries.map(each => each.to),
    [['one@a.test', 'moved@a.test'], ['full@a.test']],
  );
  t.same(b.deliveries.map(each => each.to).sort(), [['late@b.test'], ['x@b.test']], 'the route of now counts');
  t.match(reports, [{ recipients: [{ recipient: { address: { local: 'none' } }, state: 'failed' }] }]);
  await scheduler.stop();
  t.same(await store.ready(Date.now() + 1e9, 10), [], 'destinations without recipients are forgotten');
});

t.test('a destination in trouble is probed with one message, then all leave; others are not held up', async t => {
  const { store } = await openStore(t);
  let up = false;
  const tried: string[] = [];
  const dead = fakeTransport('dead', (_each, job) => {
    tried.push(job.id);
    return up ? delivered : unreachable;
  });
  const live = fakeTransport('live', () => delivered);
  const count = 60;
  for (let n = 0; n < count; n += 1) await store.add(entry(`d${n}`, ['one@dead.test']));
  for (let n = 0; n < count; n += 1) await store.add(entry(`l${n}`, ['one@live.test']));
  // Each wait is twice the one before, so however long the others take, the attempts are few.
  const probing: QueuePolicy = { ...quick, maxProbeMs: 300_000 };
  const { until } = runner(t, store, routesBy({ 'dead.test': dead, 'live.test': live }), {
    policy: probing,
    health: createDestinationHealth(probing),
  });
  await until(() => live.deliveries.length === count && tried.length > 8);
  t.equal(dead.deliveries.length, 0);
  const first = tried.length;
  t.ok(first < 25, `${first} attempts at a dead destination, not one per message`);
  up = true;
  await until(() => dead.deliveries.length === count);
  t.equal(new Set(dead.deliveries.map(each => each.id)).size, count, 'each once');
});

t.test('concurrency: slow start, limits per destination and in all', async t => {
  const { store } = await openStore(t);
  let now = 0;
  let most = 0;
  const busy = fakeTransport('busy', async () => {
    now += 1;
    most = Math.max(most, now);
    await new Promise(resolve => setTimeout(resolve, 5));
    now -= 1;
    return delivered;
  });
  for (let n = 0; n < 80; n += 1) await store.add(entry(`m${n}`, [`x@d${n % 4}.test`]));
  const routes = routesBy(Object.fromEntries([0, 1, 2, 3].map(n => [`d${n}.test`, busy])));
  const { until, scheduler } = runner(t, store, routes, { concurrency: 12, destinationConcurrency: 7 });
  await until(() => busy.deliveries.length === 80);
  t.ok(most <= 12, `${most} at once`);
  await scheduler.stop();
  t.equal(scheduler.status().running, 0);
});

t.test('expiry and delay warnings come from the clock; a lookup that is down is tried again', async t => {
  const { store } = await openStore(t);
  const routes: RouteLookup = async () => ({ kind: 'unavailable', why: 'directory is down' });
  const soon = entry('q1', ['one@a.test'], 'a.test', { receivedAt: Date.now() - quick.delayWarningMs });
  const old = entry('q2', ['one@a.test'], 'a.test', { expiresAt: Date.now() - 1 });
  await store.add(soon);
  await store.add(old);
  const { until, reports } = runner(t, store, routes);
  await until(async () => reports.length === 2 && ((await store.entry('q1'))?.recipients[0]?.attempts ?? 0) >= 2);
  t.match(await store.entry('q1'), { recipients: [{ state: 'pending', warned: true }] });
  t.equal(await store.entry('q2'), undefined);
});

t.test('a store that fails for a while: not delivered twice', async t => {
  const { store } = await openStore(t);
  let failures = 3;
  const flaky: QueueStore = {
    ...store,
    change: (id, changes, add) => {
      failures -= 1;
      return failures > 0 ? Promise.reject(new Error('disk full')) : store.change(id, changes, add);
    },
  };
  const a = fakeTransport('a', () => delivered);
  await store.add(entry('q1', ['one@a.test']));
  const { until } = runner(t, flaky, routesBy({ 'a.test': a }));
  await until(async () => (await store.entry('q1')) === undefined);
  t.equal(a.deliveries.length, 1);
});

t.test(
  'trouble of a destination, or its end, that cannot be noted: what became of the message is entered all the same',
  async t => {
    const { store } = await openStore(t);
    let noting = false;
    let refusals = 0;
    const note = async (work: () => Promise<void>): Promise<void> => {
      noting = !noting;
      if (noting) return work();
      refusals += 1;
      throw new Error('disk full');
    };
    const flaky: QueueStore = {
      ...store,
      block: (...given) => note(() => store.block(...given)),
      unblock: (...given) => note(() => store.unblock(...given)),
    };
    let tries = 0;
    const a = fakeTransport('a', () => {
      tries += 1;
      return tries === 1 ? unreachable : delivered;
    });
    await store.add(entry('q1', ['one@a.test']));
    const { until } = runner(t, flaky, routesBy({ 'a.test': a }));
    await until(async () => (await store.entry('q1')) === undefined);
    t.equal(refusals, 1, 'that it works again could not be noted');
    t.equal(a.deliveries.length, 1);

    const down = fakeTransport('b', () => unreachable);
    await store.add(entry('q2', ['one@b.test']));
    const block = (): Promise<void> => Promise.reject(new Error('disk full'));
    const other = runner(t, { ...store, block }, routesBy({ 'b.test': down }));
    await other.until(async () => (await store.entry('q2'))?.recipients[0]?.notes.why === unreachable.why);
  },
);

t.test('a look for work that fails does not make the runner forget what is under way', async t => {
  const { store } = await openStore(t);
  let asked = 0;
  let begun = 0;
  let finish = (): void => undefined;
  const held = new Promise<void>(resolve => {
    finish = resolve;
  });
  const flaky: QueueStore = {
    ...store,
    due: (...given) => {
      asked += 1;
      return asked === 2 ? Promise.reject(new Error('database is locked')) : store.due(...given);
    },
  };
  const a = fakeTransport('a', async () => {
    begun += 1;
    await held;
    return delivered;
  });
  const b = fakeTransport('b', () => delivered);
  await store.add(entry('q1', ['one@a.test']));
  const { until, scheduler } = runner(t, flaky, routesBy({ 'a.test': a, 'b.test': b }), { pollMs: 20 });
  await until(() => begun > 0);
  scheduler.wake(['a.test']);
  await until(() => asked >= 2);
  // Another destination is served meanwhile, so the runner has looked through all of them again.
  await store.add(entry('q2', ['one@b.test']));
  scheduler.wake();
  await until(async () => (await store.entry('q2')) === undefined);
  finish();
  await until(async () => (await store.entry('q1')) === undefined);
  t.equal(a.deliveries.length, 1);
});

t.test('a clock that is set back does not hold up a destination', async t => {
  const { store } = await openStore(t);
  let back = 0;
  const clock = { ...systemClock, now: () => Date.now() - back };
  const a = fakeTransport('a', () => {
    back = 3_600_000;
    return delivered;
  });
  await store.add(entry('q1', ['one@a.test']));
  await store.add(entry('q2', ['one@a.test']));
  const due = (destination: string, _now: number, limit: number) => store.due(destination, Date.now(), limit);
  const batch: QueueStore['batch'] = (id, destination, _now, limit) => store.batch(id, destination, Date.now(), limit);
  const { until } = runner(t, { ...store, due, batch }, routesBy({ 'a.test': a }), {
    clock,
    destinationConcurrency: 1,
  });
  await until(() => a.deliveries.length === 2);
  t.equal(a.deliveries.length, 2);
});

t.test('a clock that was ahead and is set back blocks nothing: destinations, recipients, reports', async t => {
  const { store } = await openStore(t);
  const held = heldClock(Date.now());
  let ahead = 4 * 365 * 86_400_000;
  const clock = { ...held, now: () => held.now() + ahead };
  let up = false;
  const a = fakeTransport('a', () => (up ? delivered : unreachable));
  const b = fakeTransport('b', () => (up ? delivered : overQuota));
  const health = createDestinationHealth(policy);
  const routes = routesBy({ 'a.test': a, 'b.test': b });
  const attempts: string[] = [];
  const { until, reports } = runner(t, store, routes, {
    clock,
    policy,
    health,
    onAttempt: each => attempts.push(each.id),
  });
  const wrong = clock.now();
  const arrived = { receivedAt: wrong, expiresAt: wrong + policy.lifetimeMs };
  await store.add(entry('a1', ['one@a.test'], undefined, arrived));
  await store.add(entry('b1', ['one@b.test'], undefined, arrived));
  const owed = entry('c1', ['one@c.test'], undefined, arrived);
  await store.add({
    ...owed,
    recipients: owed.recipients.map(each => ({ ...withoutTimes(each), state: 'failed', eventAt: wrong + 600_000 })),
  });
  const direct = entry('direct', ['one@a.test'], undefined, arrived);
  await store.add(
    { ...direct, recipients: direct.recipients.map(each => ({ ...each, dueAt: wrong + 960_000 })) },
    'lease',
  );
  await until(() => {
    held.move(100);
    return attempts.length === 2;
  });
  t.ok(health.trouble('a.test').until > wrong);
  ahead = 0;
  up = true;
  await until(() => {
    held.move(5000);
    return a.deliveries.length + b.deliveries.length + reports.length === 3;
  });
  t.match(reports, [{ message: { id: 'c1' } }]);
  t.equal(health.trouble('a.test').until, 0);
  t.match(await store.entry('direct'), { recipients: [{ attempts: 0 }] }, 'not beside a direct attempt');
});

t.test('trouble that was noted before the clock was set back does not count for what fails after it', async t => {
  const health = createDestinationHealth(policy);
  const wrong = Date.now() + 1e9;
  health.fail('a.test', wrong - 1000, wrong);
  const { failures, until } = health.fail('a.test', wrong - 1000, Date.now());
  t.equal(failures, 2);
  t.ok(until < wrong);
});

t.test('what is under way does not hold up the reports about others', async t => {
  const { store, state } = await openStore(t);
  let begun = false;
  let finish = (): void => undefined;
  const end = new Promise<void>(resolve => {
    finish = resolve;
  });
  const a = fakeTransport('a', async () => {
    begun = true;
    await end;
    return delivered;
  });
  await store.add(
    entry(
      'q1',
      Array.from({ length: 100 }, (_, n) => `n${n}@a.test`),
    ),
  );
  const { until, reports, scheduler } = runner(t, store, routesBy({ 'a.test': a }));
  await until(() => begun);
  await state.write([{ sql: 'UPDATE queue_recipient SET event_at = 1' }]);
  await store.add(entry('q2', ['one@b.test'], undefined, { expiresAt: Date.now() - 1 }));
  scheduler.wake();
  await until(() => reports.length > 0);
  t.match(reports, [{ message: { id: 'q2' } }]);
  finish();
  await until(async () => (await store.entry('q1')) === undefined);
});

t.test('what is being reported as failed is not tried meanwhile', async t => {
  const { store } = await openStore(t);
  let finish = (): void => undefined;
  const held = new Promise<void>(resolve => {
    finish = resolve;
  });
  const reported: string[] = [];
  const a = fakeTransport('a', async (_each, job) => {
    if (job.id === 'q1') await held;
    return delivered;
  });
  const { until, scheduler } = runner(t, store, routesBy({ 'a.test': a }), {
    report: async ({ message, recipients }) => {
      reported.push(message.id);
      await held;
      await store.change(
        message.id,
        recipients.map(each => [each, undefined]),
      );
    },
  });
  await store.add(entry('q1', ['one@a.test']));
  scheduler.wake();
  await until(() => scheduler.status().running === 1);
  await store.add(entry('q2', ['one@a.test'], 'a.test', { expiresAt: Date.now() - 1 }));
  scheduler.wake();
  await until(() => reported.length === 1);
  // The destination is served, and looks for what is due there.
  await store.add(entry('q3', ['one@a.test']));
  scheduler.wake(['a.test']);
  await until(() => a.deliveries.some(each => each.id === 'q3'));
  finish();
  await until(async () => !(await store.entry('q1')) && !(await store.entry('q2')));
  t.same(a.deliveries.map(each => each.id).sort(), ['q1', 'q3']);
});

t.test('sent elsewhere while an attempt is under way: never both, and not lost in its end', async t => {
  const outcomes: readonly DeliveryOutcome[] = [unreachable, unknownUser, overQuota, delivered];
  for (const outcome of outcomes) {
    const { store } = await openStore(t);
    const admin = createQueueAdmin(store, policy, Date.now);
    let end: ((outcome: DeliveryOutcome) => void) | undefined;
    const slow = fakeTransport('slow', () => new Promise(resolve => (end = resolve)));
    const other = fakeTransport('other', () => delivered);
    const lookups: string[] = [];
    await store.add(entry('q1', ['one@slow.test']));
    const { until, scheduler } = runner(t, store, routesBy({ 'slow.test': slow }), {
      // A second attempt of the first kind would come after this test.
      policy,
      health: createDestinationHealth(policy),
      routeVia: async via => {
        lookups.push(via);
        return { kind: 'route', route: { transport: other, destination: 'other.test', direct: true } };
      },
    });
    await until(() => end !== undefined);
    t.equal(await admin.reroute({ id: 'q1' }, 'other'), 1);
    scheduler.wake();
    // The runner has come by there meanwhile.
    await until(() => scheduler.status().serving.includes('reroute:other'));
    t.same(other.deliveries, [], 'not beside the attempt');
    end?.(outcome);
    await until(async () => (await store.entry('q1')) === undefined);
    t.equal(slow.deliveries.length + other.deliveries.length, 1, 'once');
    t.equal(other.deliveries.length, outcome === delivered ? 0 : 1, `after "${outcome.kind}"`);
    t.same(lookups.length > 0, outcome !== delivered);
    await scheduler.stop();
  }
});

t.test('what the direct path is trying is neither begun again nor sent elsewhere', async t => {
  const { store } = await openStore(t);
  const admin = createQueueAdmin(store, policy, Date.now);
  const both = entry('q1', ['one@a.test', 'two@a.test']);
  await store.add(both, 'direct', new Set([0]));
  t.equal(await admin.requeue({ id: 'q1' }), 1);
  t.equal(await admin.reroute({ id: 'q1' }, '[192.0.2.1]'), 1);
  t.same(
    (await store.entry('q1'))?.recipients.map(({ destination }) => destination),
    ['a.test', 'reroute:[192.0.2.1]'],
  );
  t.same([...(await store.leased('q1'))], [0]);
});
