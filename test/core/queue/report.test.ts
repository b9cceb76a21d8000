import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { ropeBytes } from '../../../core/mail/rope.ts';
import { createQueueAdmin } from '../../../core/queue/admin.ts';
import { createDestinationHealth } from '../../../core/queue/destination-health.ts';
import { pendingRecipient, type QueuedMessage, type QueuedRecipient, withoutTimes } from '../../../core/queue/entry.ts';
import { createReporter, type ReportParts } from '../../../core/queue/report.ts';
import { createReportLimit } from '../../../core/queue/report-limit.ts';
import { createScheduler } from '../../../core/queue/scheduler.ts';
import type { Entry, QueueStore } from '../../../core/queue/store.ts';
import { StateError } from '../../../core/state/state.ts';
import { until } from '../../harness/gateway-files.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { address, fakeTransport, policy, rcpt, routesBy, silent, text } from './fixtures.ts';
import { openStore } from './shared-store.ts';

const routes = routesBy({ 'example.org': fakeTransport('a', () => ({ kind: 'delivered', detail: '' })) });

function reporter(store: QueueStore, more: Partial<ReportParts> = {}) {
  let next = 0;
  return createReporter({
    store,
    routes,
    policy,
    clock: systemClock,
    log: silent,
    hostname: 'gateway.test',
    newId: () => `report${++next}`,
    perSenderHour: () => 100,
    ...more,
  });
}

const now = Date.now();
const refused = {
  reply: { code: 550, enhanced: '5.1.1', text: 'Recipient address is unknown' } as const,
  triedAt: now,
};
function made(id: string, recipients: readonly Partial<QueuedRecipient>[], more: Partial<QueuedMessage> = {}): Entry {
  const message: QueuedMessage = {
    id,
    sender: address('from@example.org'),
    envelope: { smtputf8: false, requireTls: false, envid: 'env 1' },
    form: { size: text.length, pieces: [text] },
    receivedAt: now - 5 * 3_600_000,
    expiresAt: now + 86_400_000,
    reports: true,
    ...more,
  };
  const base = { recipient: rcpt('to@a.test'), destination: 'a.test', dueAt: now };
  return {
    message,
    recipients: recipients.map((each, index) => ({ ...pendingRecipient(message, index, base, policy), ...each })),
  };
}

async function run(t: Test, entry: Entry, more: Partial<ReportParts> = {}) {
  const { store } = await openStore(t);
  await store.add(entry);
  const report = reporter(store, more);
  for (const owed of await store.events(now, 10)) await report(owed, now);
  const left = await store.entry(entry.message.id);
  const made = await store.entry('report1');
  const bytes = made ? (await ropeBytes(made.message.form)).toString() : '';
  return { store, left, made, bytes, report };
}

t.test('failures, delays and successes are reported, each once, and as the sender asked', async t => {
  const failed = { state: 'failed', eventAt: now } as const;
  const one = made('q1', [
    { ...failed, notes: refused },
    {
      ...failed,
      recipient: rcpt('x@out.test', { orcpt: { type: 'rfc822', address: 'alias@b.test' } }),
      notes: { ...refused, remote: { host: 'mx.out.test', text: '550 5.1.1 no such user here' } },
    },
    { ...failed, recipient: rcpt('never@a.test', { notify: ['never'] }), notes: refused },
    { ...failed, recipient: rcpt('hidden-target@a.test'), original: 'list@a.test', notes: refused },
    { eventAt: now, recipient: rcpt('slow@a.test'), notes: { why: 'connect: 10.0.0.1 refused' } },
    {
      state: 'delivered',
      eventAt: now,
      recipient: rcpt('ok@a.test', { notify: ['success'] }),
      notes: { relayed: true },
    },
  ]);
  const { store, left, made: report, bytes } = await run(t, one);
  t.match(
    left?.recipients,
    [{ state: 'pending', warned: true, eventAt: one.message.expiresAt }],
    'only the slow one stays',
  );
  t.match(report, {
    message: { sender: null, envelope: { body: '7BIT' } },
    recipients: [{ destination: 'example.org' }],
  });
  t.match(bytes, /Original-Envelope-Id: env 1/);
  t.match(bytes, /Reporting-MTA: dns; gateway\.test/);
  t.match(bytes, /Final-Recipient: rfc822; to@a\.test\r\nAction: failed\r\nStatus: 5\.1\.1/);
  t.match(bytes, /Original-Recipient: rfc822; alias@b\.test\r\n.*\r\n.*\r\n.*\r\nRemote-MTA: dns; mx\.out\.test/);
  t.match(bytes, /list@a\.test/);
  t.notMatch(bytes, /never@|hidden-target@|slow@|ok@/);
  const second = await store.entry('report2');
  const delay = second ? (await ropeBytes(second.message.form)).toString() : '';
  t.match(delay, /Action: delayed/);
  t.match(delay, /Will-Retry-Until/);
  t.notMatch(delay, /10\.0\.0\.1/, 'inner hosts are not named');
  const third = await store.entry('report3');
  t.match(third ? (await ropeBytes(third.message.form)).toString() : '', /Action: relayed/);
  t.same(await store.events(now, 10), [], 'nothing comes twice');
});

t.test('expiry returns the message', async t => {
  const { left, bytes } = await run(
    t,
    made(
      'q1',
      [{ eventAt: now, notes: { reply: { code: 451, enhanced: '4.4.1', text: 'Destination cannot be reached now' } } }],
      { expiresAt: now },
    ),
  );
  t.equal(left, undefined);
  t.match(bytes, /Status: 4\.4\.7/);
  t.match(bytes, /Given up after 5 h: Destination cannot be reached now/);
});

t.test('a report causes no report: the postmaster hears once, forged mail nobody', async t => {
  const failed = [{ state: 'failed', eventAt: now, notes: refused }] as const;
  const postmaster = address('postmaster@example.org');
  const bounced = await run(t, made('q1', failed, { sender: null }), { postmaster });
  t.equal(bounced.left, undefined);
  t.match(bounced.made, { message: { sender: null }, recipients: [{ recipient: { address: postmaster } }] });
  const again = made('q2', [{ ...failed[0], recipient: rcpt('postmaster@example.org') }], { sender: null });
  t.match(await run(t, again, { postmaster }), { left: undefined, made: undefined });
  t.match(await run(t, made('q3', failed, { sender: null })), { left: undefined, made: undefined });
  t.match(await run(t, made('q4', failed, { reports: false }), { postmaster }), { left: undefined, made: undefined });
});

t.test('above the limit reports wait; they are signed; an unreachable sender is for the runner', async t => {
  const failed = [{ state: 'failed', eventAt: now, notes: refused }] as const;
  const limited = await run(t, made('q1', failed), { perSenderHour: () => 0 });
  t.match(limited.left?.recipients, [{ state: 'failed', eventAt: now + 600_000 }]);
  t.equal(limited.made, undefined);
  const signed = await run(t, made('q1', failed, { sender: address('x@nowhere.test') }), {
    sign: async form => ({ size: form.size + 9, pieces: [Buffer.from('Sig: me\r\n'), ...form.pieces] }),
  });
  t.match(signed.bytes, /^Sig: me/);
  t.match(signed.made?.recipients, [{ destination: 'unrouted:nowhere.test' }]);
});

t.test('what an operator can do', async t => {
  const { store } = await openStore(t);
  const admin = createQueueAdmin(store, policy, () => now);
  const fresh = { receivedAt: now };
  const two = (id: string): Entry =>
    made(id, [{ dueAt: now + 60_000 }, { recipient: rcpt('b@b_x.test'), destination: 'b' }], fresh);
  await Promise.all(Array.from({ length: 120 }, (_, n) => store.add(two(`q${String(n).padStart(3, '0')}`))));
  await store.add(made('r1', [{}], { sender: null, ...fresh }));
  t.same(await admin.counts(), { pending: 241, held: 0, delivered: 0, failed: 0 });
  const page = await admin.list({ recipientDomain: 'b_x.test' }, 100);
  t.equal(page.length, 100);
  t.equal((await admin.list({ recipientDomain: 'b_x.test' }, 100, page.at(-1)?.id)).length, 20);
  t.equal((await admin.list({ recipientDomain: 'byx.test' }, 100)).length, 0);
  t.match(await admin.list({ sender: '' }, 10), [{ id: 'r1', sender: '' }]);
  t.equal((await admin.list({ sender: 'from@example.org' }, 500)).length, 120);
  t.match(await admin.destinations(10), [
    { name: 'a.test', recipients: 121, held: false },
    { name: 'b', recipients: 120 },
  ]);

  t.equal(await admin.hold({ destination: 'b' }), 120);
  t.match(await admin.counts(), { pending: 121, held: 120 });
  t.same(await store.due('b', now + 1e9, 10), []);
  t.equal(await admin.release({ id: 'q000' }), 1);
  t.same(await store.due('b', now, 10), ['q000']);
  t.equal(await admin.requeue({ id: 'q001' }), 1);
  t.same(await store.due('a.test', now, 10), ['q001', 'r1']);
  t.equal(await admin.reroute({ id: 'q001' }, '[192.0.2.1]'), 1);
  t.match(await admin.show('q001'), { recipients: [{ notes: { via: '[192.0.2.1]' } }, { state: 'held' }] });
  t.equal(await admin.delete({ state: 'held' }), 119);
  t.equal(await admin.bounce({ id: 'q002' }, 'Sent in error'), 1);
  t.match(
    (await store.events(now, 10)).map(each => each.recipients),
    [[{ state: 'failed', notes: { note: 'Sent in error' } }]],
  );

  await store.block('a.test', 3, now + 60_000, 'down');
  t.match(await admin.destinations(1), [{ failures: 3, why: 'down', blockedUntil: now + 60_000 }]);
  t.equal(await admin.flush(), 121);
  t.match(await store.ready(now, 10), [{ name: 'a.test', failures: 0 }, { name: 'b' }]);
  await admin.holdDestination('a.test');
  await store.add(made('new', [{}]));
  t.same(
    (await store.ready(now + 1e9, 10)).map(each => each.name).sort(),
    ['b', 'reroute:[192.0.2.1]'],
    'new mail waits as well',
  );
  await admin.releaseDestination('a.test');
  t.equal((await store.ready(now, 10)).length, 3);
});

t.test('a clock that is set back does not eat up what may be sent', async t => {
  const hour = 3_600_000;
  const limit = createReportLimit(() => 1);
  t.ok(limit.allows('a@b', 1, 100 * hour));
  limit.note('a@b', 1, 100 * hour);
  t.notOk(limit.allows('a@b', 1, 10 * hour));
  t.ok(limit.allows('a@b', 1, 11 * hour));
  t.notOk(limit.allows('a@b', 2, 11 * hour));
});

t.test('senders who are sent nothing do not make it forget one who has had enough', async t => {
  const limit = createReportLimit(() => 1);
  limit.note('a@b', 1, now);
  for (let n = 0; n < 10_001; n += 1) limit.note(`${n}@forged`, 0, now);
  t.notOk(limit.allows('a@b', 1, now));
});

/** A queue whose message files are lost, and what else is to be in it. */
async function withLostFiles(t: Test, lost: readonly Entry[]) {
  const { store, folder } = await openStore(t, { inRowLimit: 10 });
  await Promise.all(lost.map(entry => store.add(entry)));
  for (const name of await readdir(path.join(folder, 'queue'))) await rm(path.join(folder, 'queue', name));
  return { store, admin: createQueueAdmin(store, policy, () => now) };
}
/** A message that failed, and whose sender has yet to hear of it. */
function owed(id: string, eventAt: number, more: Partial<QueuedMessage> = {}): Entry {
  const { message, recipients } = made(id, [{ state: 'failed', notes: refused }], more);
  return { message, recipients: recipients.map(each => ({ ...withoutTimes(each), eventAt })) };
}

t.test('reports that cannot be made hold up no others, nor do they use up what their sender may be sent', async t => {
  const lost = Array.from({ length: 120 }, (_, n) => owed(`lost${n}`, now - 1000));
  const { store, admin } = await withLostFiles(t, lost);
  await store.add(owed('q1', now));
  const scheduler = createScheduler({
    store,
    routes,
    health: createDestinationHealth(policy),
    report: reporter(store),
    policy,
    // Nothing is tried a second time.
    clock: heldClock(now),
    log: silent,
  });
  t.teardown(() => scheduler.stop());
  scheduler.start();
  await until(async () => (await store.entry('q1')) === undefined, 'the report behind them');
  const left = await admin.list({ state: 'failed' }, 200);
  t.equal(left.length, lost.length);
  t.match(new Set(left.map(each => each.recipients[0]?.why?.slice(0, 29))), new Set(['Not reported, 1 tries: ENOENT']));
  t.same(await store.events(now + 40_000, 10), [], 'put off');
});

t.test('a report that cannot be made for hours goes without the message; what can never be made stays', async t => {
  const { store, admin } = await withLostFiles(t, [
    owed('q1', now, { envelope: { smtputf8: false, requireTls: false, ret: 'FULL' } }),
  ]);
  let at = now;
  const tryNext = async (report: ReturnType<typeof reporter>): Promise<void> => {
    at = (await store.nextEvent()) ?? at;
    for (const entry of await store.events(at, 10)) await report(entry, at);
  };
  const report = reporter(store);
  for (let tries = 0; tries < 10; tries += 1) await tryNext(report);
  t.match(await store.entry('q1'), { recipients: [{ state: 'failed' }] });
  await tryNext(report);
  t.equal(await store.entry('q1'), undefined);
  t.ok(at - now < 7 * 3_600_000, 'within hours');
  const told = await store.entry('report11');
  t.match(told && String(await ropeBytes(told.message.form)), /Final-Recipient: rfc822; to@a\.test\r\nAction: failed/);
  await admin.delete({ id: 'report11' });

  await store.add(owed('q2', now));
  const unsigned = reporter(store, { sign: () => Promise.reject(new Error('No key')) });
  for (let tries = 0; tries < 30; tries += 1) {
    await tryNext(unsigned);
    const waitMs = ((await store.nextEvent()) ?? 0) - at;
    t.ok(waitMs > 40_000 && waitMs <= 1.2 * policy.maxRetryMs, `${waitMs} ms`);
  }
  t.match(await admin.list({ id: 'q2' }, 1), [
    { recipients: [{ state: 'failed', why: 'Not reported, 30 tries: No key' }] },
  ]);
  await tryNext(reporter(store));
  t.equal(await store.entry('q2'), undefined);
});

t.test('a delay that is told at last is told once', async t => {
  const slow = made('q1', [{ eventAt: now, notes: { why: 'no answer' } }]);
  const failing = await run(t, slow, { sign: () => Promise.reject(new Error('No key')) });
  t.match(failing.left?.recipients, [{ state: 'pending', warned: false, notes: { unreported: { tries: 1 } } }]);
  const { store } = failing;
  const later = (await store.nextEvent()) ?? now;
  for (const owed of await store.events(later, 10)) await reporter(store)(owed, later);
  const told = (await store.entry('q1'))?.recipients[0];
  t.match(told, { state: 'pending', warned: true, eventAt: slow.message.expiresAt });
  t.same(told?.notes, { why: 'no answer' });
  // Whether it was stored is not known: nothing is written over it.
  const { store: other } = await openStore(t);
  await other.add(slow);
  const change: QueueStore['change'] = async (...given) => {
    await other.change(...given);
    throw new StateError('unavailable', 'The state thread ended');
  };
  for (const owed of await other.events(now, 10)) await t.rejects(reporter({ ...other, change })(owed, now));
  t.match(await other.entry('q1'), { recipients: [{ warned: true, eventAt: slow.message.expiresAt }] });
});
