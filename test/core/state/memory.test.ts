import path from 'node:path';
import t, { type Test } from 'tap';
import { openSieveMemory } from '../../../core/compose/sieve-memory.ts';
import { openMemory } from '../../../core/state/memory.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import type { State } from '../../../core/state/state.ts';
import { heldClock } from '../../harness/held-clock.ts';

async function openState(t: Test, file: string): Promise<State> {
  const state = await openSqliteState(file);
  t.teardown(() => state.close());
  return state;
}
const dayMs = 86_400_000;

t.test('values are there after a restart, until they expire, and only for their owner', async t => {
  const file = path.join(t.testdir(), 'state.db');
  const clock = heldClock();
  const first = await openState(t, file);
  const grey = (await openMemory(first, clock)).of('plugin:greylist');
  await grey.set('known a', 'one', dayMs);
  await grey.set('known b', 'Grüße', 2 * dayMs);
  await grey.set('known b', 'again', 2 * dayMs);
  await grey.set('known', 'prefix itself', dayMs);
  await grey.set('wait a', 'x', dayMs);
  await first.close();

  const second = await openState(t, file);
  const memory = await openMemory(second, clock);
  const again = memory.of('plugin:greylist');
  t.equal(await again.get('known a'), 'one');
  t.equal(await again.get('known b'), 'again');
  t.equal(await again.get('known c'), undefined);
  t.equal(await memory.of('plugin:other').get('known a'), undefined, 'nobody else sees it');
  t.same(
    (await again.list('known ', 10)).map(({ key, value }) => [key, value]),
    [
      ['known a', 'one'],
      ['known b', 'again'],
    ],
  );
  t.equal((await again.list('', 2)).length, 2, 'no more than asked for');
  t.equal((await again.list('', 10))[0]?.expiresAt, clock.now() + dayMs);
  t.same(await memory.of('plugin:other').list('', 10), []);

  clock.move(dayMs);
  t.equal(await again.get('known a'), undefined, 'expired');
  t.equal(await again.delete('known a'), false, 'what is expired was not there');
  t.equal(await again.delete('known b'), true);
  t.same(await again.list('', 10), []);
});

t.test('rows go when they are expired or too many; nothing grows without bound', async t => {
  const clock = heldClock();
  const state = await openState(t, ':memory:');
  const memory = await openMemory(state, clock, { maxEntries: 3 });
  const one = memory.of('one');
  for (let n = 0; n < 6; n++) await one.set(`k${n}`, 'v', (n + 1) * dayMs);
  await memory.of('two').set('k', 'v', 1000);
  const rows = async () => Number((await state.query('SELECT count(*) AS n FROM memory'))[0]?.['n']);
  t.equal(await rows(), 7);
  clock.move(dayMs);
  await one.set('k6', 'v', 9 * dayMs);
  t.same(
    (await one.list('', 10)).map(({ key }) => key),
    ['k3', 'k4', 'k5', 'k6'],
    'those that would have lived longest, and the new one',
  );
  t.equal(await rows(), 4, 'expired ones of all owners are gone');
  await t.rejects(one.set('k'.repeat(1001), 'v', dayMs), RangeError);
  await t.rejects(one.set('k', 'v'.repeat(65_537), dayMs), RangeError);
});

t.test('of those who claim a key at once one gets it, until it expires or is given back', async t => {
  const clock = heldClock();
  const state = await openState(t, ':memory:');
  const memory = await openMemory(state, clock);
  const one = memory.of('one');
  const claims = async () => (await Promise.all([1, 2, 3].map(() => one.claim('k', dayMs)))).filter(Boolean).length;
  t.equal(await claims(), 1);
  t.equal(await memory.of('two').claim('k', dayMs), true, 'another owner');
  clock.move(dayMs - 1);
  t.equal(await claims(), 0, 'and those who come later do not move its end');
  clock.move(1);
  t.equal(await claims(), 1, 'expired, and the row is still there');
  await one.delete('k');
  t.equal(await claims(), 1);
  clock.move(2 * dayMs);
  t.equal(await claims(), 1, 'expired rows are swept in the same write');
});

t.test('a store that fails says so', async t => {
  const state = await openState(t, ':memory:');
  const one = (await openMemory(state, heldClock())).of('one');
  await state.close();
  const calls: readonly (() => Promise<unknown>)[] = [
    () => one.get('k'),
    () => one.set('k', 'v', 1),
    () => one.delete('k'),
    () => one.list('', 1),
  ];
  for (const call of calls)
    await t.rejects(
      call().then(() => {}),
      { name: 'StateError', code: 'closed' },
    );
});

t.test('what rules remembered under a release before is still remembered', async t => {
  const clock = heldClock();
  const state = await openState(t, ':memory:');
  await state.migrate('sieve-memory', [
    {
      id: 1,
      statements: [
        'CREATE TABLE sieve_memory (account TEXT NOT NULL, name TEXT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (account, name))',
        'CREATE INDEX sieve_memory_expiry ON sieve_memory (expires_at)',
      ],
    },
  ]);
  await state.write([
    {
      sql: 'INSERT INTO sieve_memory VALUES (?, ?, ?)',
      params: ['bob@example.org', 'vacation:x', clock.now() + dayMs],
    },
  ]);
  const sieve = await openSieveMemory(state, await openMemory(state, clock));
  const bob = sieve.of('bob@example.org');
  t.equal(await bob.seen('vacation:x'), true);
  t.equal(await sieve.of('eve@example.org').seen('vacation:x'), false);
  await bob.remember('duplicate:y', 60);
  t.equal(await bob.seen('duplicate:y'), true);
  clock.move(60_000);
  t.equal(await bob.seen('duplicate:y'), false);
});
