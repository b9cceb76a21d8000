import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { checkRecipientOptions, openRecipientSources } from '../../../core/compose/recipient-sources.ts';
import { loadConfig } from '../../../core/config/load.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { parseAddressList, parseAddressMap, tableSource } from '../../../core/recipients/address-table.ts';
import { createCallout } from '../../../core/recipients/callout.ts';
import { openCalloutStore } from '../../../core/recipients/callout-store.ts';
import { addressesOf } from '../../../core/recipients/directory.ts';
import { recipientMigrations } from '../../../core/recipients/directory-store.ts';
import { openMapFile } from '../../../core/recipients/map-file.ts';
import { createVerifier } from '../../../core/recipients/verifier.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import type { State } from '../../../core/state/state.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { address, never } from '../relay/peers.ts';

const silent = pino({ level: 'silent' });

t.test('Postfix maps and lists', async t => {
  const table = parseAddressMap(
    [
      '# relay_recipient_maps',
      'Ann@Example.org  x',
      'bob@example.org',
      '  continued',
      'post@',
      '@catch.example OK',
      'no address@x y',
      '"joe smith"@example.org 1',
    ].join('\n'),
  );
  t.same(
    [...table.keys].sort(),
    ['@catch.example', 'ann@example.org', 'bob@example.org', 'joe smith@example.org', 'no', 'post'].sort(),
  );
  t.same(
    parseAddressList(['a b@x', '@', 'x@y@z']).problems.map(({ line }) => line),
    [1, 2],
  );
  const source = tableSource('map', '+', async () => table.keys);
  const cases = [
    ['ann@example.org', 'found'],
    ['ANN+x@example.org', 'found'],
    ['post@any.example', 'found'],
    ['who@catch.example', 'found'],
    ['who@example.org', 'none'],
  ] as const;
  for (const [text, kind] of cases) t.match(await source.verify(address(text), never().signal), { kind }, text);
  t.same(addressesOf(['SMTP:A@b.example', 'smtp:c@b.example', 'X500:/o=x', 'plain@b.example', 'smtp:broken', '']), [
    'a@b.example',
    'c@b.example',
    'plain@b.example',
  ]);
});

t.test('a map is read again when it changes, and keeps its answers when it is gone or faulty', async t => {
  const file = path.join(t.testdir({ map: 'a@x.test\n' }), 'map');
  let now = 0;
  const clock = { ...systemClock, monotonic: () => now };
  const map = openMapFile(file, clock, silent);
  t.same([...((await map.keys()) ?? [])], ['a@x.test']);
  writeFileSync(file, 'a@x.test\nb@x.test ok\n');
  t.equal((await map.keys())?.size, 1, 'not looked at every time');
  now += 2_000;
  t.equal((await map.keys())?.size, 2);
  writeFileSync(file, 'x@@y\n');
  now += 2_000;
  t.equal((await map.keys())?.size, 2, 'a fault changes no answer');
  t.equal(await openMapFile(`${file}.none`, clock, silent).keys(), undefined);
});

t.test('sources together: unknown only where nobody who could know failed', async t => {
  const says = (kind: 'found' | 'none' | 'unavailable') => ({ verify: async () => ({ kind, why: kind }) });
  const cases = [
    [['none', 'found'], undefined, 'defer', 'found'],
    [['none', 'none'], undefined, 'defer', 'none'],
    [['unavailable', 'none'], undefined, 'defer', 'unavailable'],
    [['unavailable', 'none'], undefined, 'accept', 'found'],
    [['none'], 'found', 'defer', 'found'],
    [['unavailable'], 'none', 'defer', 'none'],
    [['none'], 'unavailable', 'defer', 'unavailable'],
  ] as const;
  for (const [sources, callout, unavailable, expected] of cases) {
    const parts = { sources: sources.map(says), unavailable, ...(callout ? { callout: says(callout) } : {}) };
    const answer = await createVerifier(parts).verify(address('a@b.test'), never().signal);
    t.equal(answer.kind, expected, JSON.stringify([sources, callout, unavailable]));
  }
});

t.test('callout: budget, one question at a time, refresh in the background, stale answers', async t => {
  const state = await openSqliteState(path.join(t.testdir(), 'state.db'));
  t.teardown(() => state.close());
  await state.migrate('recipients', recipientMigrations);
  const clock = heldClock();
  let answer: 'taken' | 'unknown' | 'unsure' = 'taken';
  let asked = 0;
  let hold: Promise<void> | undefined;
  const callout = createCallout({
    options: {
      positiveMs: 1_000,
      negativeMs: 1_000,
      staleMs: 10_000,
      budgetMs: 50,
      concurrency: 1,
      acceptsAll: 'defer',
    },
    store: openCalloutStore(state),
    clock,
    log: silent,
    backend: async () => ({
      name: 'hop',
      async ask(addresses) {
        asked += 1;
        await hold;
        return addresses.map(each => ({
          kind: each.local.startsWith('no-such-user') ? 'unknown' : answer,
          why: 'said so',
        }));
      },
    }),
  });
  const verify = async (text: string) => (await callout.verify(address(text), never().signal)).kind;
  /** Resolves when the backend was asked so often. */
  const askedTimes = async (times: number): Promise<void> => {
    while (asked < times) await new Promise(resolve => setImmediate(resolve));
  };
  t.same(await Promise.all([verify('a@x.test'), verify('A@x.test')]), ['found', 'found']);
  t.equal(asked, 1, 'two askers, one question');
  answer = 'unsure';
  clock.move(1_500);
  t.equal(await verify('a@x.test'), 'found', 'asked again in the background');
  await askedTimes(2);
  t.equal(asked, 2);
  t.equal(await verify('a@x.test'), 'found', 'nobody can tell: what was known stays');
  t.equal(await verify('b@x.test'), 'unavailable');
  let release = (): void => undefined;
  hold = new Promise(resolve => {
    release = resolve;
  });
  answer = 'unknown';
  const before = asked;
  const slow = verify('c@x.test');
  await askedTimes(before + 1);
  clock.move(100);
  t.equal(await slow, 'unavailable', 'the budget is used up');
  release();
  hold = undefined;
  await callout.close();
  t.equal(await verify('c@x.test'), 'none', 'the question went on, and its answer was kept');
});

t.test('what a next hop said while an older answer was read stands', async t => {
  const state = await openSqliteState(':memory:');
  t.teardown(() => state.close());
  await state.migrate('recipients', recipientMigrations);
  const earlier = openCalloutStore(state);
  await earlier.set('a@x.test', false, 1);
  await earlier.setNature('hop', true, 1);
  let proceed = (): void => undefined;
  const hold = new Promise<void>(resolve => {
    proceed = resolve;
  });
  const store = openCalloutStore({
    migrate: (...given) => state.migrate(...given),
    write: statements => state.write(statements),
    async query(...given) {
      const rows = await state.query(...given);
      await hold;
      return rows;
    },
    close: () => state.close(),
  });
  const reading = [store.get('a@x.test'), store.nature('hop')];
  await state.query('SELECT 1');
  await store.set('a@x.test', true, 2);
  await store.setNature('hop', false, 2);
  proceed();
  await Promise.all(reading);
  t.same(await store.get('a@x.test'), { known: true, checkedAt: 2 });
  t.same(await store.nature('hop'), { acceptsAll: false, checkedAt: 2 });
});

t.test('configuration: what cannot be is said with its place', async t => {
  const file = path.join(t.testdir(), 'postern.yaml');
  writeFileSync(
    file,
    `listeners: [{ name: smtp, role: smtp, port: 0 }]
chain: []
domains:
  - { name: a.test, recipients: { list: [x] } }
  - { name: b.test, kind: relay, recipients: { directory: nowhere } }
  - { name: c.test, kind: relay, recipients: { list: ['a b'] , maps: [absent] } }
  - { name: d.test, kind: relay, recipients: {} }
directories:
  - { name: corp, urls: ['ldap://dc.corp.test'], bindDn: 'cn=x', password: { env: SECRET } }
  - { name: corp, urls: ['ldaps://dc.corp.test'], bindDn: 'cn=x' }
  - { name: nobody }
  - { name: both, urls: ['ldaps://dc.corp.test'], domain: corp.test }
  - { name: found, domain: corp.test, bindDn: 'cn=x', password: { env: THERE } }
`,
  );
  const problems = checkRecipientOptions(loadConfig(file, path.dirname(file)), { THERE: 'x' }).map(
    ({ line, message }) => `${line} ${message}`,
  );
  for (const pattern of [
    /^4 Only 'relay' domains/,
    /^5 There is no directory 'nowhere'/,
    /^6 .*Cannot read the map/,
    /^7 Name a source/,
    /^9 .*SECRET/,
    /^9 .*unencrypted/,
    /^10 There are two/,
    /^10 'bindDn' and 'password'/,
    /^11 Name the servers/,
    /^12 Either 'urls' or 'domain'/,
  ])
    t.ok(
      problems.some(each => pattern.test(each)),
      `${pattern} in ${problems.join('; ')}`,
    );
  t.notOk(problems.some(each => each.startsWith('13 ')));
});

t.test('nothing is swept after the close', async t => {
  const file = path.join(t.testdir(), 'postern.yaml');
  writeFileSync(
    file,
    `listeners: [{ name: smtp, role: smtp, port: 0 }]
chain: []
domains: [{ name: b.test, kind: relay, recipients: { callout: {} } }]
`,
  );
  const state = await openSqliteState(path.join(path.dirname(file), 'state.db'));
  t.teardown(() => state.close());
  const waiting = new Set<() => void>();
  const clock = {
    ...systemClock,
    after(_ms: number, run: () => void) {
      waiting.add(run);
      return () => void waiting.delete(run);
    },
  };
  let go = (): void => undefined;
  const gate = new Promise<void>(resolve => {
    go = resolve;
  });
  let sweeps = 0;
  const slow: State = {
    ...state,
    migrate: (...given) => state.migrate(...given),
    query: (...given) => state.query(...given),
    async write(statements) {
      sweeps += 1;
      await gate;
      return state.write(statements);
    },
  };
  const sources = await openRecipientSources({
    state: slow,
    clock,
    log: pino({ level: 'silent' }),
    dns: undefined as never,
    env: {},
    routes: () => undefined as never,
  });
  const plan = await sources.plan(loadConfig(file, path.dirname(file)));
  const active = plan.activate();
  await new Promise(resolve => setImmediate(resolve));
  t.equal(sweeps, 1, 'under way');
  await sources.close();
  go();
  await active;
  t.equal(waiting.size, 0);
});
