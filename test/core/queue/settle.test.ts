import { existsSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { withDeliverHook } from '../../../core/compose/deliver-hook-transport.ts';
import { createQuarantine } from '../../../core/compose/quarantine.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import type { Recipient } from '../../../core/mail/envelope.ts';
import { ropeBytes } from '../../../core/mail/rope.ts';
import type { Chain } from '../../../core/pipeline/chain.ts';
import type { KeptMailStore } from '../../../core/quarantine/store.ts';
import { createDestinationHealth } from '../../../core/queue/destination-health.ts';
import type { QueuePolicy } from '../../../core/queue/entry.ts';
import { createSettler, type SettleParts } from '../../../core/queue/settle.ts';
import type { QueueStore } from '../../../core/queue/store.ts';
import type { DeliveryOutcome, RouteLookup } from '../../../core/queue/transport.ts';
import { StateError } from '../../../core/state/state.ts';
import { until } from '../../harness/gateway-files.ts';
import {
  delivered,
  fakeTransport,
  messageOf,
  overQuota,
  policy,
  rcpt,
  request,
  routesBy,
  silent,
  text,
  unknownUser,
  unreachable,
} from './fixtures.ts';
import { openKept, openStore } from './shared-store.ts';

/** A destination in trouble is left alone for longer than a test takes. */
const patient: QueuePolicy = { ...policy, firstProbeMs: policy.maxProbeMs };

async function setUp(t: Test, routes: RouteLookup, more: Partial<SettleParts> = {}) {
  const { store, folder, state } = await openStore(t, { inRowLimit: 1000 });
  const kept = await openKept(t, state, folder);
  const health = createDestinationHealth(patient);
  const settler = createSettler({
    store,
    routes,
    health,
    policy: patient,
    clock: systemClock,
    log: silent,
    directBudgetMs: 10_000,
    instance: 'test',
    quarantine: createQuarantine(kept),
    ...more,
  });
  return { store, folder, state, health, settler, kept };
}

const full = new StateError('full', 'No space left');
const broken = (store: QueueStore): QueueStore => ({ ...store, add: () => Promise.reject(full) });

t.test('one destination: settled directly, nothing is stored', async t => {
  const local = fakeTransport('local', () => delivered);
  const { settler, store } = await setUp(t, routesBy({ 'a.test': local }));
  const result = await settler.settle(request('q1', ['one@a.test', 'two@a.test']));
  t.match(result.reply, { code: 250, text: /q1/ });
  t.match(local.deliveries, [{ to: ['one@a.test', 'two@a.test'], bytes: text }]);
  t.same(
    result.recipients.map(each => each.outcome),
    ['delivered', 'delivered'],
  );
  t.equal(await store.entry('q1'), undefined);
});

t.test('what cannot settle at once is queued, for the sender of a 250', async t => {
  const answers = new Map<string, DeliveryOutcome>([
    ['ok@a.test', delivered],
    ['full@a.test', overQuota],
    ['none@a.test', unknownUser],
  ]);
  const local = fakeTransport('local', each => answers.get(each.address.text) ?? delivered);
  const { settler, store } = await setUp(t, routesBy({ 'a.test': local }));
  const mixed = await settler.settle(request('q1', ['ok@a.test', 'full@a.test', 'none@a.test']));
  t.equal(mixed.reply.code, 250);
  t.same(
    mixed.recipients.map(each => each.outcome),
    ['delivered', 'queued', 'bounced'],
  );
  t.match((await store.entry('q1'))?.recipients, [
    {
      recipient: { address: { text: 'full@a.test' } },
      state: 'pending',
      attempts: 1,
      notes: { reply: overQuota.reply },
    },
    { recipient: { address: { text: 'none@a.test' } }, state: 'failed', notes: { reply: unknownUser.reply } },
  ]);

  const refused = await settler.settle(request('q2', ['none@a.test']));
  t.same(refused.reply, unknownUser.reply, 'the next hop’s own 5xx reaches the client');
  const later = await settler.settle(request('q3', ['full@a.test', 'none@a.test']));
  t.same(later.reply, overQuota.reply, 'a server retries by itself');
  t.equal(await store.entry('q3'), undefined);
  const person = await settler.settle(
    request('q4', ['full@a.test'], { client: { address: '192.0.2.1', identity: 'bob' } }),
  );
  t.equal(person.reply.code, 250, 'a mail program does not');
  t.ok(await store.entry('q4'));
});

t.test('LMTP and PRDR: each recipient hears its own end, nobody gets a bounce for it', async t => {
  const answers = new Map<string, DeliveryOutcome>([
    ['full@a.test', overQuota],
    ['none@a.test', unknownUser],
  ]);
  const local = fakeTransport('local', each => answers.get(each.address.text) ?? delivered);
  const { settler, store } = await setUp(t, routesBy({ 'a.test': local, 'b.test': local, 'c.test': 'none' }));
  const list = ['ok@a.test', 'full@a.test', 'none@a.test', 'two@b.test', 'x@c.test'];
  const result = await settler.settle(request('q1', list, { perRecipientReplies: true }));
  t.same(
    result.perRecipient.map(reply => reply.code),
    [250, 452, 550, 250, 550],
  );
  t.equal(result.reply.code, 250);
  t.equal(await store.entry('q1'), undefined);
  const twice = await settler.settle(request('q2', ['none@a.test', 'none@a.test'], { perRecipientReplies: true }));
  t.same(
    twice.perRecipient.map(reply => reply.code),
    [550, 550],
  );
});

t.test('aliases: the reply speaks for the name that the client gave', async t => {
  const local = fakeTransport('local', each => (each.address.local === 'gone' ? unknownUser : delivered));
  const { settler, store } = await setUp(t, routesBy({ 'a.test': local }));
  const from = request('q1', ['list@a.test', 'bob@a.test'], { perRecipientReplies: true });
  const expanded = {
    ...from,
    deliverable: {
      ...from.deliverable,
      recipients: [rcpt('x@a.test'), rcpt('gone@a.test'), rcpt('bob@a.test')],
      originals: new Map([
        ['x@a.test', 'list@a.test'],
        ['gone@a.test', 'list@a.test'],
      ]),
    },
  };
  const result = await settler.settle(expanded);
  t.same(
    result.perRecipient.map(reply => reply.code),
    [250, 250],
  );
  t.match((await store.entry('q1'))?.recipients, [{ original: 'list@a.test', state: 'failed' }], 'a report is owed');
});

t.test('several destinations enter the queue first, and leave it when settled', async t => {
  let seen: unknown;
  const parts: { store?: QueueStore } = {};
  const near = fakeTransport('near', async (_each, job) => {
    seen = await parts.store?.entry(job.id);
    return delivered;
  });
  const far = fakeTransport('queued-far', () => delivered);
  const { settler, store } = await setUp(t, routesBy({ 'a.test': near, 'b.test': near, 'far.test': far }));
  parts.store = store;
  const both = await settler.settle(request('q1', ['one@a.test', 'two@b.test']));
  t.equal(both.reply.code, 250);
  t.match(seen, { recipients: [{ state: 'pending' }, { state: 'pending' }] }, 'durable before the first attempt');
  t.equal(await store.entry('q1'), undefined);

  const mixed = await settler.settle(request('q2', ['one@a.test', 'x@far.test']));
  t.same(
    mixed.recipients.map(each => each.outcome),
    ['delivered', 'queued'],
  );
  t.match((await store.entry('q2'))?.recipients, [{ destination: 'far.test' }]);
  t.equal(far.deliveries.length, 0, 'Internet mail is for the runner');

  const refused = await settler.settle(request('q3', ['a@none1.test', 'b@none2.test']));
  t.equal(refused.reply.code, 550);
  t.equal(await store.entry('q3'), undefined);
});

t.test('no storage: 452, and nobody has got it', async t => {
  const near = fakeTransport('near', () => delivered);
  const routes = routesBy({ 'a.test': near, 'b.test': near, 'down.test': fakeTransport('down', () => unreachable) });
  const { store } = await openStore(t);
  const { settler } = await setUp(t, routes, { store: broken(store) });
  t.match((await settler.settle(request('q1', ['one@a.test', 'two@b.test']))).reply, { code: 452, enhanced: '4.3.1' });
  t.equal(near.deliveries.length, 0);
  t.match((await settler.settle(request('q2', ['one@down.test']))).reply, { code: 452 });
});

t.test('a lookup that is down defers (I4), beside others it queues', async t => {
  const near = fakeTransport('near', () => delivered);
  const { settler, store } = await setUp(t, routesBy({ 'a.test': near, 'x.test': 'unavailable' }));
  t.match((await settler.settle(request('q1', ['one@x.test']))).reply, { code: 451 });
  t.match((await settler.settle(request('q2', ['one@x.test', 'one@a.test']))).reply, { code: 250 });
  t.match((await store.entry('q2'))?.recipients, [{ destination: 'unrouted:x.test' }]);
});

t.test('a destination in trouble: queued, and the next client does not wait for it', async t => {
  let tries = 0;
  const down = fakeTransport('down', () => {
    tries += 1;
    return unreachable;
  });
  const { settler, store } = await setUp(t, routesBy({ 'a.test': down }));
  t.equal((await settler.settle(request('q1', ['one@a.test']))).reply.code, 250);
  t.equal((await settler.settle(request('q2', ['one@a.test']))).reply.code, 250);
  t.equal(tries, 1);
  t.same(await store.ready(Date.now(), 10), [], 'the runner waits as well');
  t.match(await store.ready(Date.now() + 2 * patient.firstProbeMs, 10), [{ name: 'a.test', failures: 1 }]);
});

t.test('a slow next hop: 250 after the budget, the attempt goes on and is entered', async t => {
  let finish = (_outcome: DeliveryOutcome): void => undefined;
  const slow = fakeTransport('slow', () => new Promise<DeliveryOutcome>(resolve => (finish = resolve)));
  const near = fakeTransport('near', () => delivered);
  const { settler, store } = await setUp(t, routesBy({ 'a.test': slow, 'b.test': near }), {
    directBudgetMs: 20,
  });
  t.equal((await settler.settle(request('q1', ['one@a.test']))).reply.code, 250);
  t.match((await store.entry('q1'))?.recipients, [{ state: 'pending' }]);
  t.same(await store.due('a.test', Date.now(), 10), [], 'leased: the runner leaves it alone');
  t.equal((await settler.settle(request('q1b', ['one@a.test']))).reply.code, 250);
  t.match((await store.entry('q1b'))?.recipients, [{ attempts: 0 }], 'nobody else waits for it');
  finish(delivered);
  await settler.idle();
  t.equal(await store.entry('q1'), undefined);
  t.equal(slow.deliveries.length, 1);

  const two = await settler.settle(request('q2', ['one@a.test', 'one@b.test']));
  t.equal(two.reply.code, 250);
  t.equal(await store.recover(Date.now()), 2, 'a restart gives leases back');
  t.same(await store.due('a.test', Date.now(), 10), ['q1b', 'q2']);
  finish(unknownUser);
  await settler.idle();
  t.match((await store.entry('q2'))?.recipients, [{ state: 'failed' }]);
});

t.test('a transport that throws or forgets recipients defers', async t => {
  const faulty = {
    name: 'faulty',
    deliver: (_job: unknown, recipients: readonly unknown[]) =>
      recipients.length > 1 ? Promise.resolve([delivered]) : Promise.reject(new Error('bug')),
  };
  const { settler, store } = await setUp(t, routesBy({ 'a.test': faulty }));
  t.match((await settler.settle(request('q1', ['one@a.test']))).reply, { code: 451 });
  t.match((await settler.settle(request('q2', ['one@a.test', 'two@a.test']))).reply, { code: 250 });
  t.match((await store.entry('q2'))?.recipients, [{ recipient: { address: { local: 'two' } } }]);
});

t.test('quarantined mail is kept whole, out of the queue', async t => {
  const { settler, store, kept } = await setUp(t, routesBy({}));
  const from = request('q1', ['one@a.test']);
  const result = await settler.settle({
    ...from,
    deliverable: { ...from.deliverable, kind: 'quarantine', plugin: 'scanner', reason: 'virus', why: 'EICAR' },
  });
  t.equal(result.reply.code, 250);
  t.match(result.recipients, [{ address: 'one@a.test', outcome: 'quarantined', detail: 'EICAR' }]);
  t.equal(await store.entry('q1'), undefined);
  const held = await kept.find('q1');
  t.match(held, { reason: 'virus', plugin: 'scanner', why: 'EICAR', facts: { recipients: from.envelope.recipients } });
  t.same(held && (await ropeBytes(kept.form(held))), text);
});

t.test('the original of an edited message is kept before anybody gets the edited one, and only then', async t => {
  let keptFirst: unknown;
  const parts: { kept?: KeptMailStore } = {};
  const local = fakeTransport('local', async (each, job) => {
    keptFirst = await parts.kept?.find(`${job.id}.original`);
    return each.address.local === 'none' ? unknownUser : delivered;
  });
  const { settler, kept } = await setUp(t, routesBy({ 'a.test': local }));
  parts.kept = kept;
  const bytes = Buffer.from('Subject: as it came\r\n\r\n');
  const edited = (id: string, to: string) => {
    const from = request(id, [to]);
    const original = { message: messageOf(bytes), plugin: 'p', reason: 'attachment', why: 'macro' } as const;
    return settler.settle({ ...from, deliverable: { ...from.deliverable, kept: original } });
  };
  t.equal((await edited('q1', 'one@a.test')).reply.code, 250);
  t.ok(keptFirst);
  t.match(local.deliveries, [{ id: 'q1', bytes: text }]);
  const original = await kept.find('q1.original');
  t.match(original, {
    message: 'q1',
    reason: 'attachment',
    why: 'macro',
    facts: { sender: { text: 'from@example.org' } },
  });
  t.same(original && (await ropeBytes(kept.form(original))), bytes);
  keptFirst = undefined;
  t.equal((await edited('q2', 'none@a.test')).reply.code, 550);
  t.ok(keptFirst);
  t.equal(await kept.find('q2.original'), undefined, 'the client was told no, so nothing of it stays');
});

t.test('no room for the quarantine: 452, and nobody has got it', async t => {
  const local = fakeTransport('local', () => delivered);
  const enospc = () => Promise.reject(Object.assign(new Error('No space'), { code: 'ENOSPC' }));
  const { settler } = await setUp(t, routesBy({ 'a.test': local }), {
    quarantine: { hold: enospc, keep: enospc, conclude: async () => undefined },
  });
  const from = request('q1', ['one@a.test']);
  const hold = await settler.settle({ ...from, deliverable: { ...from.deliverable, kind: 'quarantine' } });
  t.match(hold.reply, { code: 452, enhanced: '4.3.1' });
  t.match(hold.recipients, [{ outcome: 'deferred' }]);
  const original = { message: messageOf(text), plugin: 'p', reason: 'attachment', why: 'macro' } as const;
  const edited = await settler.settle({ ...from, deliverable: { ...from.deliverable, kept: original } });
  t.match(edited.reply, { code: 452, enhanced: '4.3.1' });
  t.same(local.deliveries, []);
});

t.test('large bodies are files: linked from the spool, gone with the entry, swept after a crash', async t => {
  const far = fakeTransport('queued-far', () => delivered);
  const { settler, store, folder } = await setUp(t, routesBy({ 'far.test': far }));
  const spool = path.join(folder, 'spooled');
  await writeFile(spool, `XXXX${'y'.repeat(5000)}ZZ`);
  const body = {
    size: 5006,
    pieces: [Buffer.from('head\r\n'), { file: spool, start: 4, end: 5004 }],
  };
  await settler.settle(request('q1', ['one@far.test'], { body }));
  await settler.settle(request('q2', ['one@far.test'], { body: Buffer.alloc(3000, 'z') }));
  const files = path.join(folder, 'queue');
  t.same(readdirSync(files).sort(), ['q1.0', 'q2.m']);
  for (const [id, expected] of [
    ['q1', `head\r\n${'y'.repeat(5000)}`],
    ['q2', 'z'.repeat(3000)],
  ] as const) {
    const entry = await store.entry(id);
    if (!entry) throw new Error('Not stored');
    t.equal((await ropeBytes(entry.message.form)).toString(), expected);
    await store.change(
      id,
      entry.recipients.map(each => [each, undefined]),
    );
  }
  t.same(readdirSync(files), []);
  await writeFile(path.join(files, 'lost.0'), 'x');
  t.equal(await store.sweepBodies(Date.now()), 0, 'may belong to a commit under way');
  t.equal(await store.sweepBodies(Date.now() + 2 * 3_600_000), 1);
  const missing = { size: 2000, pieces: [{ file: path.join(folder, 'nothing'), start: 0, end: 2000 }] };
  t.match((await settler.settle(request('q3', ['one@far.test'], { body: missing }))).reply, { code: 451 });
  t.equal(existsSync(path.join(files, 'q3.0')), false);
  t.ok(messageOf(missing));
});

t.test('what is stored is promised, whether or not the trouble of its destination can be noted', async t => {
  const down = fakeTransport('down', () => unreachable);
  const { store } = await openStore(t);
  const block = () => Promise.reject(full);
  const { settler } = await setUp(t, routesBy({ 'a.test': down }), { store: { ...store, block } });
  t.equal((await settler.settle(request('q1', ['one@a.test']))).reply.code, 250);
  t.ok(await store.entry('q1'), 'once, for the client does not send it again');
});

t.test('what became of a slow attempt is entered once', async t => {
  let finish = (_outcome: DeliveryOutcome): void => undefined;
  const slow = fakeTransport('slow', () => new Promise<DeliveryOutcome>(resolve => (finish = resolve)));
  const { store } = await openStore(t);
  let changes = 0;
  const counting: QueueStore = {
    ...store,
    block: () => Promise.reject(full),
    change: (...given) => {
      changes += 1;
      return store.change(...given);
    },
  };
  const { settler } = await setUp(t, routesBy({ 'a.test': slow }), { store: counting, directBudgetMs: 20 });
  await settler.settle(request('q1', ['one@a.test']));
  finish(unreachable);
  const clock = setTimeout(() => t.fail('still entering'), 5_000);
  await settler.idle();
  clearTimeout(clock);
  t.equal(changes, 1);
});

t.test('what a plugin delivered is delivered, whatever the transport does to the others', async t => {
  const broken = { name: 'broken', deliver: () => Promise.reject(new Error('cannot read the message')) };
  const chain = {
    delivers: true,
    deliver: async (_request: unknown, to: Recipient) => ({
      outcome: to.address.local === 'mine' ? { kind: 'delivered', plugin: 'rules' } : { kind: 'route' },
      steps: [],
    }),
  } as unknown as Chain;
  const { settler, store } = await setUp(t, routesBy({ 'a.test': withDeliverHook(broken, () => chain) }));
  t.equal((await settler.settle(request('q1', ['mine@a.test', 'other@a.test']))).reply.code, 250);
  t.match((await store.entry('q1'))?.recipients, [{ recipient: { address: { local: 'other' } } }]);
  t.equal((await store.entry('q1'))?.recipients.length, 1, 'not both');
});

t.test('a destination that answers while another one is noted as slow is none of the slow', async t => {
  let noted = (): void => undefined;
  const held = new Promise<void>(resolve => {
    noted = resolve;
  });
  let finish = (): void => undefined;
  const answers = new Promise<DeliveryOutcome>(resolve => {
    finish = () => resolve(delivered);
  });
  let hang = (_outcome: DeliveryOutcome): void => undefined;
  const slow = fakeTransport('slow', () => new Promise<DeliveryOutcome>(resolve => (hang = resolve)));
  const near = fakeTransport('near', () => answers);
  const { store } = await openStore(t);
  const blocked: string[] = [];
  const block: QueueStore['block'] = async (...given) => {
    blocked.push(given[0]);
    finish();
    await held;
    return store.block(...given);
  };
  const { settler, health } = await setUp(t, routesBy({ 'a.test': slow, 'b.test': near }), {
    store: { ...store, block },
    directBudgetMs: 20,
  });
  const settling = settler.settle(request('q1', ['one@a.test', 'one@b.test']));
  await until(() => near.deliveries.length === 1, 'the second to answer');
  await new Promise(resolve => setImmediate(resolve));
  noted();
  await settling;
  t.same(blocked, ['a.test']);
  t.same(health.trouble('b.test'), { failures: 0, until: 0 });
  hang(delivered);
  await settler.idle();
});
