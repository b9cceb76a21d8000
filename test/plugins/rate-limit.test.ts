import { pino } from 'pino';
import t, { type Test } from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { createCounters } from '../../plugins/rate-limit/counters.ts';
import { rateLimit } from '../../plugins/rate-limit/index.ts';
import { admin } from '../../plugins/rate-limit/records.ts';
import { heldClock } from '../harness/held-clock.ts';
import { type ClientFacts, type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { realMemory } from '../harness/real-memory.ts';

const text = 'Subject: x\n\nx\n';
const alice = { remote: '203.0.113.5', identity: 'Alice@example.org' };

async function open(t: Test, limits: readonly object[], more: object = {}, setup: PluginSetup = {}) {
  const memory = setup.memory ?? (await realMemory(t, systemClock));
  const p = await plugin(rateLimit, { limits, ...more }, { ...setup, memory });
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= p.close();
    return closing;
  };
  t.teardown(close);
  return { p, memory, close };
}

/** What MAIL, the recipients and the message are told. */
async function send(
  p: DrivenPlugin,
  client: ClientFacts,
  sender: string | null,
  to: readonly string[] = ['bob@example.org'],
) {
  await p.connect(client);
  const mail = await p.mail(sender);
  const rcpt = [];
  for (const each of to) rcpt.push((await p.rcpt(each)).kind);
  return { mail: mail.kind, reply: mail.reply, evidence: mail.evidence, rcpt, message: (await p.message(text)).kind };
}
const kinds = async (count: number, run: (n: number) => Promise<{ readonly mail: string }>): Promise<string> => {
  let all = '';
  for (let n = 0; n < count; n++) all += (await run(n)).mail === 'defer' ? '-' : '+';
  return all;
};

t.test('messages per address, network and sender; whom a limit does not concern', async t => {
  const { p } = await open(
    t,
    [
      { per: 'address', messages: 3, window: '1h' },
      { per: 'network', messages: 5, window: '1h' },
      { per: 'sender', messages: 6, window: '1h' },
    ],
    { exempt: ['198.51.100.0/24', 'friend@good.example', 'partner.example'] },
    { relayNetworks: ['192.0.2.77'] },
  );
  t.equal(await kinds(5, n => send(p, { remote: '203.0.113.5' }, `a${n}@b.example`)), '+++--');
  t.equal(
    await kinds(3, n => send(p, { remote: '203.0.113.6' }, `b${n}@b.example`)),
    '---',
    'the network has had its five',
  );
  t.equal(await kinds(4, n => send(p, { remote: '2001:db8::1' }, `c${n}@b.example`)), '+++-');
  t.equal(await kinds(1, () => send(p, { remote: '2001:db8::2' }, 'd@b.example')), '-', 'one /64 is one address');
  const v = await send(p, { remote: '203.0.113.5' }, 'e@b.example');
  t.match(v, {
    reply: { code: 450, enhanced: '4.7.1', text: 'Too many messages, please try again later' },
    evidence: { exceeded: /^network 203\.0\.113\.0\/24: \d+ messages in 1h, limit 5|^address/ },
  });
  t.equal(await kinds(9, n => send(p, { remote: '198.51.100.1' }, `f${n}@b.example`)), '+++++++++', 'exempt network');
  t.equal(
    await kinds(8, () => send(p, { remote: '192.0.2.77' }, 'G@b.example')),
    '++++++--',
    'relay networks by sender only',
  );
  t.equal(await kinds(8, () => send(p, { remote: '192.0.2.77' }, null)), '++++++++', 'the null sender is nobody');
  t.equal(await kinds(8, () => send(p, { remote: '192.0.2.77' }, 'friend@good.example')), '++++++++');
  t.equal(await kinds(8, () => send(p, { remote: '192.0.2.77' }, 'x@partner.example')), '++++++++');
});

t.test('recipients over all messages, and messages per recipient; windows end', async t => {
  const { p } = await open(t, [
    { per: 'account', recipients: 5, window: '1h', action: 'reject' },
    { per: 'recipient', messages: 4, window: '2s' },
  ]);
  const many = ['a@x.example', 'b@x.example', 'c@x.example'];
  t.same((await send(p, alice, 'alice@example.org', many)).rcpt, ['continue', 'continue', 'continue']);
  t.same((await send(p, alice, 'alice@example.org', many)).rcpt, ['continue', 'continue', 'reject']);
  const other = { remote: '203.0.113.9' };
  const to = async (): Promise<string> => (await send(p, other, 'x@y.example', ['Busy@example.org'])).rcpt.join();
  const first: string[] = [];
  for (let n = 0; n < 6; n++) first.push(await to());
  // On a machine that is slow enough the window ends in between; then not all come at once.
  t.ok(first.every(kind => kind === 'continue' || kind === 'defer'));
  while ((await to()) !== 'defer');
  while ((await to()) === 'defer');
  t.pass('full, and free again when the window ended');
});

t.test('an account over its limit: held, told of once, kept over a restart, released', async t => {
  const file = `${t.testdir()}/state.db`;
  const limits = [{ per: 'account', messages: 2, window: '1h', action: 'hold' }];
  const first = await open(t, limits, {}, { memory: await realMemory(t, systemClock, file) });
  const from = (p: DrivenPlugin, client: ClientFacts = alice) => send(p, client, 'alice@example.org');
  t.match([await from(first.p), await from(first.p)], [{ message: 'continue' }, { message: 'continue' }]);
  const third = await from(first.p);
  t.match(third, {
    mail: 'continue',
    message: 'quarantine',
    evidence: { exceeded: /account alice@example.org: 3 messages in 1h/ },
  });
  t.match(await from(first.p), { message: 'quarantine' });
  t.match(await from(first.p, { remote: '203.0.113.5', identity: 'bob@example.org' }), { message: 'continue' });
  const { submitted } = first.p.host;
  t.equal(submitted.length, 1, 'told once');
  t.match(submitted[0], { sender: null, recipients: ['postmaster@example.org'], origin: 'rate-limit' });
  const alert = submitted[0]?.bytes.toString() ?? '';
  t.match(alert, /^Subject: Mail of an account is held: alice@example\.org\r$/m);
  t.match(alert, /^Auto-Submitted: auto-generated\r$/m);
  t.match(alert, /3 messages in 1h, limit 2/);
  t.match(alert, /postern rate-limit release alice@example\.org/);
  t.same(await first.p.status(), { holds: 1, over: 0 });
  await first.close();

  const second = await open(t, limits, {}, { memory: await realMemory(t, systemClock, file) });
  t.match(await from(second.p), { message: 'quarantine' }, 'held over a restart');
  const now = systemClock.now();
  t.match(await admin.list(second.memory, now, 10), [
    { state: 'held', of: 'account', who: 'alice@example.org', what: /limit 2/ },
  ]);
  t.equal(await admin.release(second.memory, now, 'carol@example.org'), 0);
  t.equal(await admin.release(second.memory, systemClock.now(), 'Alice@example.org'), 1);
  t.match(
    [await from(second.p), await from(second.p)],
    [{ message: 'continue' }, { message: 'continue' }],
    'counted anew',
  );
  t.match(await from(second.p), { message: 'quarantine' });
  t.equal(await admin.release(second.memory, systemClock.now(), 'alice@example.org'), 1, 'and once more');
  t.match(await from(second.p), { message: 'continue' });
});

t.test('released within the millisecond in which the window began, and again', async t => {
  const clock = heldClock();
  const { p, memory } = await open(t, [{ per: 'address', messages: 1, window: '1h' }], {}, { clock });
  const two = (): Promise<string> => kinds(2, () => send(p, { remote: '203.0.113.5' }, 'a@b.example'));
  t.equal(await two(), '+-');
  for (let n = 0; n < 3; n++) {
    t.equal(await admin.release(memory, clock.now(), '203.0.113.5/32'), 1);
    t.equal(await two(), '+-');
  }
});

t.test('released while the gateway is down: what was counted before is forgotten', async t => {
  const file = `${t.testdir()}/state.db`;
  const limits = [{ per: 'sender', messages: 1, window: '1d' }];
  const first = await open(t, limits, {}, { memory: await realMemory(t, systemClock, file) });
  t.equal(await kinds(2, () => send(first.p, {}, 'a@b.example')), '+-');
  await first.close();
  t.equal(await admin.release(await realMemory(t, systemClock, file), systemClock.now(), 'a@b.example'), 1);
  const second = await open(t, limits, {}, { memory: await realMemory(t, systemClock, file) });
  t.equal(await kinds(2, () => send(second.p, {}, 'a@b.example')), '+-');
});

t.test('counts of long windows survive a restart, those of short ones do not', async t => {
  const file = `${t.testdir()}/state.db`;
  const limits = (window: string) => [{ per: 'sender', messages: 3, window }];
  for (const [window, after] of [
    ['1d', '+--'],
    ['30m', '+++'],
  ] as const) {
    const first = await open(t, limits(window), {}, { memory: await realMemory(t, systemClock, file) });
    t.equal(await kinds(2, () => send(first.p, {}, `${window}@b.example`)), '++');
    await first.close();
    const second = await open(t, limits(window), {}, { memory: await realMemory(t, systemClock, file) });
    t.equal(await kinds(3, () => send(second.p, {}, `${window}@b.example`)), after, window);
    await second.close();
  }
});

t.test('who is over a limit is told of also where the store failed at first', async t => {
  for (const action of ['hold', 'defer'] as const) {
    const real = await realMemory(t, systemClock);
    let fails = 1;
    const memory: typeof real = {
      ...real,
      async set(key, ...given) {
        if (/^(?:hold|over) /.test(key) && fails-- > 0) throw new Error('The store is busy');
        return real.set(key, ...given);
      },
    };
    const { p } = await open(t, [{ per: 'account', messages: 1, window: '1h', action }], {}, { memory });
    const from = async () => (await send(p, alice, 'alice@example.org')).mail;
    t.same([await from(), await from(), p.host.submitted.length], ['continue', 'error', 0]);
    await from();
    await from();
    t.equal(p.host.submitted.length, 1, 'told once');
    const status = await p.status();
    t.match(status, action === 'hold' ? { holds: 1 } : { over: 1 });
  }
});

t.test('counts that could not be saved are saved at the end', async t => {
  const clock = heldClock();
  const real = await realMemory(t, clock);
  let fails = 1;
  let tried = 0;
  const memory: typeof real = {
    ...real,
    async set(...given) {
      tried += 1;
      if (fails-- > 0) throw new Error('The store is busy');
      return real.set(...given);
    },
  };
  const setting = { name: 'x', windowMs: 86_400_000, maxKeys: 100 };
  const log = pino({ level: 'silent' });
  const first = createCounters({ ...setting, host: { clock, memory, log } });
  await first.add('a', 2);
  clock.move(10_000);
  while (tried === 0) await new Promise(setImmediate);
  await first.close();
  const second = createCounters({ ...setting, host: { clock, memory: real, log } });
  t.teardown(() => second.close());
  t.match(await second.add('a', 1), { used: 3 });
});

t.test('the end waits for counts that are just being saved', async t => {
  const clock = heldClock();
  const real = await realMemory(t, clock);
  let proceed: (() => void) | undefined;
  const gate = new Promise<void>(resolve => {
    proceed = resolve;
  });
  const slow = { ...real, set: (...entry: Parameters<typeof real.set>) => gate.then(() => real.set(...entry)) };
  const setting = { name: 'x', windowMs: 86_400_000, maxKeys: 100 };
  const log = pino({ level: 'silent' });
  const first = createCounters({ ...setting, host: { clock, memory: slow, log } });
  await first.add('a', 2);
  clock.move(10_000);
  let isClosed = false;
  const closing = first.close().then(() => {
    isClosed = true;
  });
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  t.notOk(isClosed);
  proceed?.();
  await closing;
  const second = createCounters({ ...setting, host: { clock, memory: real, log } });
  t.teardown(() => second.close());
  t.match(await second.add('a', 1), { used: 3 });
});

t.test('an address is let go on by an operator; the alert of an account that is only deferred', async t => {
  const { p, memory } = await open(
    t,
    [
      { per: 'address', messages: 1, window: '1d' },
      { per: 'account', messages: 1, window: '1d' },
    ],
    { alertTo: ['ops@example.org'] },
  );
  t.equal(await kinds(3, () => send(p, { remote: '203.0.113.5' }, 'a@b.example')), '+--');
  t.match(await admin.list(memory, systemClock.now(), 10), [{ state: 'over', of: 'address', who: '203.0.113.5/32' }]);
  t.equal(await admin.release(memory, systemClock.now(), '203.0.113.5/32'), 1);
  t.equal(await kinds(2, () => send(p, { remote: '203.0.113.5' }, 'a@b.example')), '+-');
  t.equal(await kinds(3, () => send(p, alice, 'alice@example.org')), '+--');
  t.match(p.host.submitted, [{ recipients: ['ops@example.org'] }]);
  t.match(p.host.submitted[0]?.bytes.toString(), /Account over its limit: alice@example\.org/);
  const quiet = await open(t, [{ per: 'account', messages: 1, window: '1d' }], { alert: false });
  await kinds(3, () => send(quiet.p, alice, 'alice@example.org'));
  t.same(quiet.p.host.submitted, []);
});

t.test('memory is bounded; a store that fails is the entry’s onError', async t => {
  const { p } = await open(t, [{ per: 'sender', messages: 1, window: '1h' }], { maxKeys: 100 });
  t.equal(await kinds(2, () => send(p, {}, 'first@b.example')), '+-');
  t.equal(await kinds(120, n => send(p, {}, `s${n}@b.example`)), '+'.repeat(120));
  t.equal(await kinds(1, () => send(p, {}, 's119@b.example')), '-', 'those seen lately are counted on');
  t.equal(await kinds(1, () => send(p, {}, 'first@b.example')), '+', 'that unseen for longest is forgotten');
  p.host.setUnavailable('stopped');
  await p.connect({});
  t.match(await p.mail('new@b.example'), { kind: 'error', outcome: { reply: { code: 451 } } });
  p.host.setUnavailable(undefined);
  t.match(await p.mail('new@b.example'), { kind: 'continue' }, 'and works again');
});

t.test('limits that make no sense are refused with a sentence', async t => {
  for (const [limit, message] of [
    [{ per: 'address', window: '1h' }, /needs 'messages' or 'recipients'/],
    [{ per: 'recipient', recipients: 3, window: '1h' }, /counts 'messages'/],
    [{ per: 'sender', messages: 3, window: '1h', action: 'hold' }, /for limits per account/],
    [{ per: 'sender', messages: 3, window: '10ms' }, /from 1s to 14d/],
    [{ per: 'sender', messages: 3, window: '30d' }, /from 1s to 14d/],
    [{ per: 'client', messages: 3, window: '1h' }, /address/],
  ] as const)
    await t.rejects(plugin(rateLimit, { limits: [limit] }), { name: 'ChainError', message });
});
