import { pino } from 'pino';
import t from 'tap';
import { z } from '../../../core/config/schema.ts';
import { type Clock, systemClock } from '../../../core/lib/clock.ts';
import type { Envelope, Recipient } from '../../../core/mail/envelope.ts';
import { ChainError, loadChain } from '../../../core/pipeline/load-chain.ts';
import type { ChainEntry } from '../../../core/pipeline/loaded-entry.ts';
import type { Hooks, Host, PluginInstance, Session } from '../../../core/plugin/contract.ts';
import { definePlugin } from '../../../core/plugin/define.ts';
import { sessionResult, transactionResult } from '../../../core/plugin/results.ts';
import { accept, defer, discard, pass, quarantine, reject } from '../../../core/plugin/verdicts.ts';

import { testMessage } from '../../harness/test-message.ts';

const log = pino({ level: 'silent' });
const host = {} as Host;
const deps = (clock: Clock = systemClock) => ({ clock, log, hostFor: () => host });

/** Time stands still until `advance`. */
function heldClock(): Clock & { advance(ms: number): void } {
  let now = 0;
  const calls = new Set<{ at: number; run: () => void }>();
  return {
    now: () => now,
    monotonic: () => now,
    after(ms, run) {
      const call = { at: now + ms, run };
      calls.add(call);
      return () => calls.delete(call);
    },
    advance(ms) {
      now += ms;
      for (const call of [...calls].filter(c => c.at <= now)) {
        calls.delete(call);
        call.run();
      }
    },
  };
}

let serial = 0;
function entry(
  hooks: PluginInstance,
  terms: Partial<ChainEntry> & { writes?: readonly { name: string; scope: 'session' | 'transaction' }[] } = {},
): ChainEntry {
  const { writes, ...rest } = terms;
  const name = terms.name ?? `p${++serial}`;
  return {
    name,
    plugin: definePlugin({
      name,
      doc: 'Test',
      options: z.strictObject({}),
      ...(writes ? { writes } : {}),
      setup: () => hooks,
    }),
    options: {},
    timeoutMs: 1000,
    onError: 'defer',
    ...rest,
  };
}

const session: Session = {
  id: 's1',
  listener: 'smtp',
  role: 'smtp',
  local: { address: '127.0.0.1', port: 25 },
  remote: { address: '192.0.2.1', port: 4711 },
};
const address = (text: string) => {
  const [local = '', domain = ''] = text.split('@');
  return { local, domain, text };
};
const bob: Recipient = { address: address('bob@example.org'), notify: ['failure'] };
const envelope: Envelope = {
  sender: address('alice@example.net'),
  recipients: [bob],
  smtputf8: false,
  requireTls: false,
};
const message = testMessage('From: a@b.test\nX-Old: 1\nSubject: x\n\nbody\n');
const no550 = { code: 550, enhanced: '5.7.1', text: 'No' } as const;
const no451 = { code: 451, enhanced: '4.7.1', text: 'Later' } as const;

t.test('first answer wins in the order of the chain, and nobody accepting a recipient refuses it', async t => {
  const asked: string[] = [];
  const one = (name: string, rcpt: Hooks['rcpt']): ChainEntry =>
    entry(
      {
        rcpt(at, to) {
          asked.push(name);
          return rcpt(at, to);
        },
      },
      { name },
    );
  const chain = await loadChain(
    [
      one('a', () => pass),
      one('b', async (_, to) => (to.address.local === 'bob' ? accept : pass)),
      one('c', (_, to) => (to.address.local === 'eve' ? reject(no550, 'eve') : pass)),
    ],
    deps(),
  );
  const s = chain.openSession(session);
  t.same(await s.mail('q1', envelope), { kind: 'ok', settled: false });
  t.same(await s.rcpt(envelope, bob), { kind: 'ok', settled: true });
  t.same(asked.splice(0), ['a', 'b']);
  t.same(await s.rcpt(envelope, { address: address('eve@example.org') }), {
    kind: 'refused',
    reply: no550,
    plugin: 'c',
    why: 'eve',
  });
  t.match(await s.rcpt(envelope, { address: address('x@example.org') }), {
    kind: 'refused',
    reply: { code: 550, enhanced: '5.7.1' },
    plugin: 'postern',
  });
  t.same(
    s.steps().map(step => `${step.plugin}:${step.verdict}`),
    ['a:continue', 'b:accept', 'a:continue', 'b:continue', 'c:reject', 'a:continue', 'b:continue', 'c:continue'],
  );
  s.endTransaction();
  t.equal(s.steps().length, 0, 'steps of a transaction go with it');
  t.same(chain.describe().find(({ hook }) => hook === 'rcpt')?.plugins, ['a', 'b', 'c']);
  t.match(await s.auth({ mechanism: 'PLAIN', username: 'u', password: 'p' }), {
    kind: 'refused',
    reply: { code: 535, enhanced: '5.7.8' },
  });
  s.end();
  await chain.close();
});

t.test('throw, rejection, hang and illegal verdict become the onError of the entry', async t => {
  const clock = heldClock();
  const bad: Record<string, Hooks['mail']> = {
    throw: () => {
      throw new Error('boom');
    },
    'reject promise': () => Promise.reject(new Error('boom')),
    hang: () => new Promise(() => {}),
    'no verdict': () => undefined as never,
    'verdict of another hook': () => quarantine('x') as never,
    'wrong class': () => ({ kind: 'defer', reply: { code: 550, enhanced: '5.1.1', text: 'x' }, why: 'x' }) as never,
    'mixed class': () => reject({ code: 550, enhanced: '4.1.1' as never, text: 'x' }, 'x'),
    'two lines': () => reject({ code: 550, enhanced: '5.1.1', text: 'x\r\n250 ok' }, 'x'),
    'not ASCII': () => reject({ code: 550, enhanced: '5.1.1', text: 'ä' }, 'x'),
    'no why': () => ({ kind: 'reject', reply: no550 }) as never,
    edits: () => ({ kind: 'continue', edits: [] }) as never,
    'undeclared result': at => {
      at.set(transactionResult('x.y'), 1);
      return pass;
    },
  };
  for (const [name, mail] of Object.entries(bad)) {
    for (const onError of ['defer', 'continue'] as const) {
      const chain = await loadChain([entry({ mail }, { onError, name: 'bad' })], deps(clock));
      const s = chain.openSession(session);
      const answer = s.mail('q', envelope);
      clock.advance(1000);
      if (onError === 'defer')
        t.match(await answer, { kind: 'refused', reply: { code: 451, enhanced: '4.3.0' }, plugin: 'bad' }, name);
      else t.same(await answer, { kind: 'ok', settled: false }, name);
      t.match(s.steps(), [{ verdict: 'error', plugin: 'bad', hook: 'mail', why: String }], name);
      s.end();
      await chain.close();
    }
  }
  const chain = await loadChain(
    [
      entry(
        { rcpt: () => Promise.reject(new Error('x')), connect: bad['throw'] as never, auth: bad['throw'] as never },
        { onError: 'continue' },
      ),
    ],
    deps(),
  );
  const s = chain.openSession(session);
  await s.mail('q', envelope);
  t.match(await s.rcpt(envelope, bob), { reply: { code: 451 } }, 'never a final refusal because a plugin broke');
  t.match(await s.auth({ mechanism: 'PLAIN', username: 'u', password: 'p' }), {
    reply: { code: 454, enhanced: '4.7.0' },
  });
});

t.test('signals abort at the deadline, at the end of the transaction and when the client is gone', async t => {
  const clock = heldClock();
  const signals: AbortSignal[] = [];
  const chain = await loadChain(
    [
      entry(
        {
          connect(at) {
            signals.push(at.signal);
            return new Promise(() => {});
          },
          mail(at) {
            signals.push(at.signal);
            return new Promise(() => {});
          },
        },
        { onError: 'continue' },
      ),
    ],
    deps(clock),
  );
  const s = chain.openSession(session);
  const late = s.connect();
  clock.advance(999);
  t.equal(signals[0]?.aborted, false);
  clock.advance(1);
  t.equal(signals[0]?.aborted, true);
  t.same(await late, { kind: 'ok', settled: false });
  const reset = s.mail('q', envelope);
  s.endTransaction();
  t.equal(signals[1]?.aborted, true);
  t.match(await reset, { kind: 'refused', reply: { code: 451 } }, 'continue does not go on for a client that is gone');
  const gone = s.mail('q2', envelope);
  s.end();
  s.end();
  t.equal(signals[2]?.aborted, true);
  t.match(await gone, { kind: 'refused', why: 'Client is gone' });
  t.match(await s.mail('q3', envelope), { kind: 'refused' });
  t.equal(signals[3]?.aborted, true, 'after the end a signal is aborted from the start');
});

t.test('message: edits chain, quarantine sticks, refusal wins, all edits or none', async t => {
  const seen: unknown[] = [];
  const run = async (...hooks: Hooks['message'][]) => {
    const chain = await loadChain(
      hooks.map(hook => entry({ message: hook })),
      deps(),
    );
    const s = chain.openSession(session);
    await s.mail('q1', envelope);
    const outcome = await s.message(envelope, message);
    const steps = s.steps();
    s.end();
    await chain.close();
    return { outcome, steps };
  };
  const spy: Hooks['message'] = at => {
    seen.push(at.envelope.recipients.map(r => r.address.text));
    return pass;
  };
  const alias = () => ({
    ...pass,
    edits: [
      { kind: 'add-recipient', address: 'carol@example.org', original: 'bob@example.org' },
      { kind: 'add-recipient', address: 'CAROL@example.org', original: 'bob@example.org' },
      { kind: 'remove-recipient', address: 'bob@example.org' },
    ] as const,
  });
  const nested = async () => ({
    ...accept,
    edits: [
      { kind: 'add-recipient', address: 'dave@example.org', original: 'carol@example.org' },
      { kind: 'remove-recipient', address: 'carol@example.org' },
      { kind: 'set-sender', address: null },
    ] as const,
  });
  const expanded = await run(
    alias,
    spy,
    () => quarantine('first'),
    () => quarantine('second'),
    nested,
    spy,
  );
  t.same(seen, [['carol@example.org']], 'later plugins see earlier edits; accept ends the chain');
  t.match(expanded.outcome, {
    kind: 'quarantine',
    why: 'first',
    sender: null,
    recipients: [{ address: { text: 'dave@example.org' }, notify: ['failure'] }],
  });
  t.equal(
    expanded.outcome.kind === 'quarantine' && expanded.outcome.originals.get('dave@example.org'),
    'bob@example.org',
  );
  t.match(expanded.steps[0]?.evidence, {
    edits: ['add-recipient carol@example.org', 'add-recipient CAROL@example.org', 'remove-recipient bob@example.org'],
  });

  t.match(
    (
      await run(
        () => quarantine('x'),
        () => reject(no550, 'y'),
      )
    ).outcome,
    { kind: 'refused', why: 'y' },
  );
  t.match(
    (
      await run(
        () => quarantine('x'),
        () => discard('y'),
      )
    ).outcome,
    { kind: 'discard', why: 'y' },
  );
  t.match((await run(() => defer(no451, 'y'))).outcome, { kind: 'refused', reply: no451 });
  const rewritten = await run(
    () => ({
      ...pass,
      edits: [
        { kind: 'add-header', name: 'X-New', value: 'folded\r\n value' },
        { kind: 'remove-header', name: 'X-Old' },
        { kind: 'replace-body', body: Buffer.from('other\r\n') },
      ],
    }),
    at => (at.message.headers.has('X-Old') ? discard('old') : pass),
  );
  t.equal(rewritten.outcome.kind, 'deliver');
  if (rewritten.outcome.kind === 'deliver')
    t.equal(
      (await rewritten.outcome.message.bytes()).toString(),
      'X-New: folded\r\n value\r\nFrom: a@b.test\r\nSubject: x\r\n\r\nother\r\n',
    );
  const kept = await run(
    () => ({ ...pass, edits: [{ kind: 'add-header', name: 'X-First', value: '1' }] }),
    () => ({
      ...pass,
      edits: [
        { kind: 'replace-body', body: Buffer.from('note\r\n') },
        { kind: 'quarantine-original', why: 'macro' },
      ],
    }),
    () => ({ ...pass, edits: [{ kind: 'quarantine-original', why: 'later' }] }),
  );
  t.match(kept.outcome, { kind: 'deliver', kept: { why: 'macro' } });
  t.match(kept.steps[1]?.evidence, { edits: ['replace-body 6 bytes', 'quarantine-original: macro'] });
  if (kept.outcome.kind === 'deliver') {
    const original = await kept.outcome.kept?.message.bytes();
    t.match(original?.toString(), /^X-First: 1\r\n.*\r\n\r\n(?!note)/s, 'as it stood before the answer that asked');
    t.match((await kept.outcome.message.bytes()).toString(), /\r\n\r\nnote\r\n$/);
  }
  const impossible = [
    [{ kind: 'quarantine-original' }],
    [{ kind: 'remove-recipient', address: 'bob@example.org' }],
    [{ kind: 'add-header', name: 'X-A', value: 'a\r\nBcc: b' }],
    [{ kind: 'add-header', name: 'X A', value: 'a' }],
    [{ kind: 'add-recipient', address: 'nobody' }],
    [
      { kind: 'set-sender', address: 'me@example.org' },
      { kind: 'add-recipient', address: '@' },
    ],
    [{ kind: 'set-recipient-sender', recipient: 'bob@example.org', address: null }],
    [{ kind: 'set-recipient-sender', recipient: '@', address: 'me@example.org' }],
    [{ kind: 'explode' }],
  ];
  for (const edits of impossible)
    t.match(
      (await run(() => ({ ...pass, edits }) as never)).outcome,
      { kind: 'refused', reply: { code: 451 } },
      JSON.stringify(edits),
    );
});

t.test('mode observe records and decides nothing, not even through its annotations', async t => {
  const found = transactionResult<string>('watch.found');
  const seen: unknown[] = [];
  const read: PluginInstance = {
    message(at) {
      seen.push(at.get(found));
      return pass;
    },
  };
  const chain = await loadChain(
    [
      entry(
        {
          rcpt: () => reject(no550, 'would refuse'),
          message(at) {
            at.set(found, 'x');
            at.evidence({ score: 7 });
            return { ...quarantine('would'), edits: [{ kind: 'remove-recipient', address: 'other@example.org' }] };
          },
        },
        { mode: 'observe', name: 'watch', writes: [found] },
      ),
      entry({ rcpt: () => accept, ...read }),
      entry(read, { mode: 'observe' }),
    ],
    deps(),
  );
  const s = chain.openSession(session);
  await s.mail('q', envelope);
  t.same(await s.rcpt(envelope, bob), { kind: 'ok', settled: true });
  t.match(await s.message(envelope, message), { kind: 'deliver', recipients: [bob] });
  t.same(seen, [undefined, 'x']);
  t.match(s.steps()[0], { plugin: 'watch', verdict: 'reject', why: 'would refuse', observed: true });
  t.match(
    s.steps().find(step => step.hook === 'message'),
    { verdict: 'quarantine', evidence: { score: 7 }, observed: true },
  );
});

t.test('annotations live as long as their scope; a failing hook leaves none', async t => {
  const seen = sessionResult<string>('x.seen');
  const here = transactionResult<number>('x.here');
  const got: unknown[] = [];
  let n = 0;
  const chain = await loadChain(
    [
      entry(
        {
          mail(at) {
            at.set(here, ++n);
            at.set(seen, `mail ${n}`);
            if (n === 2) throw new Error('after setting');
            return pass;
          },
        },
        { writes: [seen, here], onError: 'continue' },
      ),
      entry({
        mail(at) {
          got.push([at.get(seen), at.get(here)]);
          return pass;
        },
      }),
    ],
    deps(),
  );
  const s = chain.openSession(session);
  for (let i = 1; i <= 3; i++) await s.mail(`q${i}`, envelope);
  t.same(got, [
    ['mail 1', 1],
    ['mail 1', undefined],
    ['mail 3', 3],
  ]);
});

t.test('loading: every problem with its path, order of annotations, failing setup closes the rest', async t => {
  const key = sessionResult('a.b');
  const schema = z.strictObject({ level: z.number().default(1) });
  const plugin = definePlugin({ name: 'x', doc: 'x', options: schema, reads: [key], setup: () => ({}) });
  const base = { plugin, timeoutMs: 1, onError: 'defer' } as const;
  const failed = await t.rejects(
    loadChain(
      [
        { ...base, name: 'x', options: { level: 'high', lvl: 1 }, path: ['chain', 0, 'x'] },
        { ...base, name: 'x', options: {} },
      ],
      deps(),
    ),
    ChainError,
  );
  const { problems } = failed as unknown as ChainError;
  t.match(problems, [
    { entry: 'x', path: ['chain', 0, 'x'], message: /'a.b'/ },
    { path: ['chain', 0, 'x', 'level'] },
    { path: ['chain', 0, 'x'], message: /lvl/ },
    { entry: 'x', message: /two entries/ },
    { entry: 'x', message: /'a.b'/ },
  ]);

  const closed: string[] = [];
  const closing = (name: string): ChainEntry => entry({ close: async () => void closed.push(name) }, { name });
  const broken: ChainEntry = {
    ...entry({}, { name: 'broken' }),
    plugin: definePlugin({
      name: 'b',
      doc: 'b',
      options: z.strictObject({}),
      setup: () => Promise.reject(new Error('no engine')),
    }),
  };
  await t.rejects(loadChain([closing('a'), closing('b'), broken], deps()), {
    name: 'ChainError',
    message: /broken: Setup failed: no engine/,
  });
  t.same(closed.splice(0), ['b', 'a']);

  const chain = await loadChain(
    [
      closing('a'),
      entry({ close: () => Promise.reject(new Error('x')), status: async () => ({ up: true }) }, { name: 'm' }),
      closing('b'),
    ],
    deps(),
  );
  const s = chain.openSession(session);
  t.match((await chain.status())[1], { name: 'm', values: { up: true } });
  const done = chain.close();
  t.equal(chain.close(), done);
  t.throws(() => chain.openSession(session), /closing/);
  t.same(closed, [], 'waits for the last session');
  s.end();
  await done;
  t.same(closed, ['b', 'a']);
});

t.test('loading: what is set up after its time is closed', async t => {
  const clock = heldClock();
  let ready = (_: PluginInstance): void => undefined;
  const slow = definePlugin({
    name: 'slow',
    doc: 'x',
    options: z.strictObject({}),
    setup: () =>
      new Promise<PluginInstance>(resolve => {
        ready = resolve;
      }),
  });
  const loading = loadChain([{ ...entry({}), plugin: slow }], { ...deps(clock), setupMs: 1000 });
  await new Promise(setImmediate);
  clock.advance(1000);
  await t.rejects(loading, /Setup failed: Deadline of 1000 ms passed/);
  const closed = new Promise<void>(resolve => ready({ close: async () => resolve() }));
  await closed;
});

t.test('a chain that closes waits for what is being signed', async t => {
  const done: string[] = [];
  let signed = (): void => undefined;
  const chain = await loadChain(
    [
      entry({
        sign: () =>
          new Promise(resolve => {
            signed = () => {
              done.push('signed');
              resolve([]);
            };
          }),
        close: async () => void done.push('closed'),
      }),
    ],
    deps(),
  );
  const signing = chain.sign(message);
  const closing = chain.close();
  await new Promise(setImmediate);
  signed();
  await Promise.all([signing, closing]);
  t.same(done, ['signed', 'closed']);
});

t.test('deliver: a plugin may take a recipient; otherwise by route', async t => {
  const chain = await loadChain(
    [entry({ deliver: (_, to) => (to.address.local === 'bob' ? accept : pass) }, { name: 'taker' })],
    deps(),
  );
  t.equal(chain.delivers, true);
  const request = { id: 'q', session, helo: 'x', envelope, message };
  t.match(await chain.deliver(request, bob), {
    outcome: { kind: 'delivered', plugin: 'taker' },
    steps: [{ hook: 'deliver', verdict: 'accept' }],
  });
  t.match(await chain.deliver(request, { address: address('eve@example.org') }), { outcome: { kind: 'route' } });
  await chain.close();
});
