import t, { type Test } from 'tap';
import type { ChainEntry } from '../../core/pipeline/loaded-entry.ts';
import { type Memory, type Plugin, pass, type ResultKey } from '../../core/plugin/index.ts';
import { dnsblTotal } from '../../plugins/dnsbl/results.ts';
import { greylist } from '../../plugins/greylist/index.ts';
import { isBelow } from '../../plugins/greylist/providers.ts';
import { admin } from '../../plugins/greylist/records.ts';
import { mailAuth } from '../../plugins/mail-auth/index.ts';
import { dkim } from '../../plugins/mail-auth/results.ts';
import { scoreTotal } from '../../plugins/score/results.ts';
import { type HeldClock, heldClock } from '../harness/held-clock.ts';
import { type ClientFacts, type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { realMemory } from '../harness/real-memory.ts';

const minute = 60_000;
const day = 86_400_000;
const text = 'From: a@b.example\nSubject: x\n\nx\n';
const dns = { 'b.example': { TXT: ['v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all'] } };
const entry = (name: string, tested: Plugin<unknown>, options: object = {}): ChainEntry => ({
  name,
  plugin: tested,
  options,
  timeoutMs: 10_000,
  onError: 'defer',
});
const auth = entry('mail-auth', mailAuth as Plugin<unknown>, { temperror: 'pass' });

interface Opened {
  readonly p: DrivenPlugin;
  readonly clock: HeldClock;
  readonly memory: Memory;
  /** A message from a client; what greylisting said. */
  send(client: ClientFacts, sender: string | null, ...to: string[]): ReturnType<DrivenPlugin['message']>;
}

async function open(t: Test, options: object = {}, setup: PluginSetup = {}): Promise<Opened> {
  const clock = (setup.clock as HeldClock | undefined) ?? heldClock();
  const memory = setup.memory ?? (await realMemory(t, clock));
  const p = await plugin(greylist, options, { dns, before: [auth], timeoutMs: 60_000, ...setup, clock, memory });
  t.teardown(() => p.close());
  return {
    p,
    clock,
    memory,
    async send(client, sender, ...to) {
      await p.connect(client);
      await p.helo('client.example');
      await p.mail(sender);
      for (const each of to.length > 0 ? to : ['bob@example.org']) await p.rcpt(each);
      return p.message(text);
    },
  };
}
const deferred = { kind: 'defer', reply: { code: 451, enhanced: '4.7.1', text: /^Greylisted, please try again/ } };

t.test('a proved domain: new, too early, back in time, known from the whole network, forgotten at last', async t => {
  const { send, clock } = await open(t);
  t.match(await send({ remote: '192.0.2.1' }, 'a@b.example'), { ...deferred, evidence: { greylist: 'deferred' } });
  clock.move(4 * minute);
  t.match(await send({ remote: '192.0.2.1' }, 'a@b.example'), deferred, 'too early, and it does not begin anew');
  clock.move(minute);
  t.match(await send({ remote: '192.0.2.9' }, 'other@b.example'), {
    kind: 'continue',
    evidence: { greylist: 'passed', because: 'came back after 300 s' },
  });
  t.match(await send({ remote: '192.0.2.20' }, 'c@b.example', 'carol@example.org'), {
    kind: 'continue',
    evidence: { greylist: 'known' },
  });
  t.match(await send({ remote: '198.51.100.1' }, 'a@b.example'), deferred, 'another network');
  for (let days = 0; days < 3; days++) {
    clock.move(30 * day);
    t.match(await send({ remote: '192.0.2.1' }, 'a@b.example'), { kind: 'continue' }, 'kept by use');
  }
  clock.move(36 * day);
  t.match(await send({ remote: '192.0.2.1' }, 'a@b.example'), deferred, 'forgotten');
  clock.move(2 * day + minute);
  t.match(await send({ remote: '192.0.2.1' }, 'a@b.example'), deferred, 'too late');
});

t.test('without proof: sender and recipient, steady though the sender changes with each message', async t => {
  const { send, clock } = await open(t);
  const client = { remote: '203.0.113.1' };
  t.match(await send(client, 'bounce-123+x=y@lists.example', 'bob@example.org', 'carol@example.org'), deferred);
  clock.move(5 * minute);
  t.match(await send(client, 'bounce-456+z@lists.example', 'Carol@example.org'), { kind: 'continue' });
  t.match(await send(client, 'bounce-7@lists.example', 'dave@example.org'), deferred, 'another recipient');
  t.match(await send(client, 'eve@lists.example', 'carol@example.org'), deferred, 'another sender');
  t.match(await send({ remote: '203.0.113.77' }, 'bounce-9@lists.example', 'carol@example.org'), { kind: 'continue' });
  t.match(await send(client, null), deferred, 'the null sender too');
  clock.move(5 * minute);
  t.match(await send(client, null), { kind: 'continue' });
  t.match(await send({ remote: '2001:db8:1:2::1' }, 'a@c.example'), deferred);
  clock.move(5 * minute);
  t.match(await send({ remote: '2001:db8:1:2::ffff' }, 'a@c.example'), { kind: 'continue' }, 'the same /64');
  t.match(await send({ remote: '2001:db8:1:3::1' }, 'a@c.example'), deferred);
});

t.test(
  'spared: users, own networks, providers, exempt ones, postmaster, allow lists, low scores, reputation',
  async t => {
    const told = <T>(key: ResultKey<T>, value: T): ChainEntry =>
      entry('told', {
        ...(mailAuth as Plugin<unknown>),
        name: 'told',
        writes: [key],
        setup: () => ({
          message(at) {
            at.set(key, value);
            return pass;
          },
        }),
      });
    const { send } = await open(
      t,
      { exempt: ['203.0.113.8/29'], exemptDomains: ['partner.example'] },
      { relayNetworks: ['203.0.113.99'] },
    );
    const client = { remote: '203.0.113.1' };
    for (const facts of [
      { ...client, identity: 'bob@example.org' },
      { remote: '203.0.113.99' },
      { remote: '203.0.113.9' },
      { remote: '10.0.0.1' },
      { ...client, role: 'lmtp' as const },
    ])
      t.not((await send(facts, 'x@y.example')).kind, 'defer', JSON.stringify(facts));
    t.match(await send({ ...client, name: 'mail-oi1.google.com' }, 'x@y.example'), {
      kind: 'continue',
      evidence: { because: /google.com comes back/ },
    });
    t.match(await send({ ...client, name: 'mx.partner.example' }, 'x@y.example'), { kind: 'continue' });
    t.match(await send({ ...client, name: 'google.com.evil.example' }, 'x@y.example'), deferred);
    t.match(await send(client, 'x@google.com'), deferred, 'what is not proved counts for nothing');
    t.match(await send(client, 'x@y.example', 'bob@example.org', 'postmaster@example.org'), { kind: 'continue' });
    t.equal(isBelow(['a.b.example'], new Set(['b.example'])), 'a.b.example');
    t.equal(isBelow(['ab.example'], new Set(['b.example'])), undefined);

    const listed = { hits: [], allowed: ['list.dnswl.test'], unavailable: [], score: 0 };
    const allowed = await open(t, {}, { before: [auth, told(dnsblTotal, listed)] });
    t.match(await allowed.send(client, 'x@y.example'), { kind: 'continue', evidence: { because: /dnswl/ } });
    const strict = await open(t, { allowListed: false }, { before: [auth, told(dnsblTotal, listed)] });
    t.match(await strict.send(client, 'x@y.example'), deferred);
    const clean = { total: 1.5, lines: [], disposition: 'clean' as const };
    const low = await open(t, { belowScore: 2 }, { before: [auth, told(scoreTotal, clean)] });
    t.match(await low.send(client, 'x@y.example'), { kind: 'continue', evidence: { because: 'sum 1.5 is harmless' } });
    const high = await open(t, { belowScore: 1.5 }, { before: [auth, told(scoreTotal, clean)] });
    t.match(await high.send(client, 'x@y.example'), deferred);
    const signature = { result: 'pass', domain: 'mailer.example', selector: 's', identity: '@mailer.example' } as const;
    const signed = told(dkim, [{ ...signature, algorithm: 'rsa-sha256', signature: 'abc' }]);
    const reputed = await open(t, { trustAfter: 2 }, { before: [signed] });
    for (const remote of ['203.0.113.1', '198.51.100.1']) {
      t.match(await reputed.send({ remote }, 'x@y.example'), deferred);
      reputed.clock.move(5 * minute);
      t.match(await reputed.send({ remote }, 'x@y.example'), { kind: 'continue', evidence: { greylist: 'passed' } });
    }
    t.match(
      await reputed.send({ remote: '192.0.2.1' }, 'new@y.example', 'new@example.org'),
      { kind: 'continue', evidence: { because: 'good reputation of mailer.example' } },
      'wherever it comes from',
    );
  },
);

t.test('at the recipient: before the transfer, by SPF', async t => {
  const { p, clock } = await open(t, { when: 'rcpt' });
  const ask = async (remote: string, to: string) => {
    await p.connect({ remote });
    await p.mail('a@b.example');
    return p.rcpt(to);
  };
  t.match(await ask('192.0.2.1', 'bob@example.org'), deferred);
  t.match(await ask('192.0.2.1', 'postmaster@example.org'), { kind: 'continue' });
  clock.move(5 * minute);
  t.match(await ask('192.0.2.1', 'carol@example.org'), { kind: 'continue' }, 'one domain is one client');
  t.match(await p.message(text), { kind: 'not asked' });
});

t.test('an operator sees who waits and lets them pass; all of it survives a restart', async t => {
  const file = `${t.testdir()}/state.db`;
  const clock = heldClock();
  const first = await open(t, {}, { clock, memory: await realMemory(t, clock, file) });
  await first.send({ remote: '192.0.2.1' }, 'a@b.example');
  await first.send({ remote: '203.0.113.1' }, 'x@y.example');
  await first.send({ remote: '203.0.113.1' }, 'x@z.example', 'carol@example.org');
  await first.send({ remote: '2001:db8::1' }, 'x@z.example');
  const { memory } = first;
  t.match(await admin.list(memory, clock.now(), 100), [
    { state: 'waiting', network: '192.0.2.0/24', identity: '@b.example', client: '192.0.2.1', tries: 1 },
    { state: 'waiting', network: /^20010db8/, client: '2001:db8::1' },
    { state: 'waiting', network: '203.0.113.0/24', identity: 'x@y.example bob@example.org' },
    { state: 'waiting', network: '203.0.113.0/24', identity: 'x@z.example carol@example.org' },
  ]);
  const again = await open(t, {}, { clock, memory: await realMemory(t, clock, file) });
  clock.move(minute);
  for (const [what, released] of [
    ['nobody@example.org', 0],
    ['10.0.0.1', 0],
    ['example', 0],
    ['192.0.2.200', 1],
    ['y.example', 1],
    ['Carol@example.org', 1],
    ['2001:db8::2', 1],
    ['192.0.2.200', 0],
  ] as const)
    t.equal(await admin.release(memory, clock.now(), what), released, what);
  t.match(await again.send({ remote: '192.0.2.77' }, 'q@b.example'), {
    kind: 'continue',
    evidence: { greylist: 'known' },
  });
  t.match(await again.send({ remote: '203.0.113.1' }, 'x@y.example'), { kind: 'continue' });
  t.match(await again.send({ remote: '203.0.113.1' }, 'x@z.example', 'carol@example.org'), { kind: 'continue' });
  t.match(
    (await admin.list(memory, clock.now(), 100)).map(({ state }) => state),
    ['released', 'released', 'released', 'released'],
  );
});

t.test('a state store that fails is the entry’s onError; DNS that fails is no proof', async t => {
  const { p, send, clock } = await open(t);
  p.host.setUnavailable('stopped');
  const v = await send({ remote: '203.0.113.1' }, 'x@y.example');
  t.match(v, { kind: 'error', outcome: { kind: 'refused', reply: { code: 451 } } });
  t.notMatch(JSON.stringify(v.reply), /stopped/, 'the client does not hear why');
  p.host.setUnavailable(undefined);
  const going = await open(t, {}, { onError: 'continue' });
  going.p.host.setUnavailable('stopped');
  t.match(await going.send({ remote: '203.0.113.1' }, 'x@y.example'), { kind: 'error', outcome: { kind: 'deliver' } });
  p.host.dnsServer?.setFault('servfail');
  t.match(await send({ remote: '203.0.113.1' }, 'x@y.example'), deferred);
  clock.move(5 * minute);
  t.match(await send({ remote: '203.0.113.1' }, 'x@y.example'), { kind: 'continue' });
});
