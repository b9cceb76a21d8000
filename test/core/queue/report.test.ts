import t, { type Test } from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { ropeBytes } from '../../../core/mail/rope.ts';
import { createQueueAdmin } from '../../../core/queue/admin.ts';
import { pendingRecipient, type QueuedMessage, type QueuedRecipient } from '../../../core/queue/entry.ts';
import { createReporter, type ReportParts } from '../../../core/queue/report.ts';
import { createReportLimit } from '../../../core/queue/report-limit.ts';
import type { Entry, QueueStore } from '../../../core/queue/store.ts';
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
  const limited = await run(t, made('q1', failed), { perSenderHour: 0 });
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
  const limit = createReportLimit(1);
  t.ok(limit.take('a@b', 100 * hour));
  t.notOk(limit.take('a@b', 10 * hour));
  t.ok(limit.take('a@b', 11 * hour));
});
