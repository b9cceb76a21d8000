import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { openDatabase } from '../../../core/state/sqlite-driver.ts';
import type { Migration, State } from '../../../core/state/state.ts';
import { plainNode } from '../../harness/plain-node.ts';

const table: readonly Migration[] = [
  { id: 1, statements: ['CREATE TABLE items (n INTEGER PRIMARY KEY, b BLOB, s TEXT)'] },
];
const insert = (n: number, b: Uint8Array | null = null, s: string | null = null) => ({
  sql: 'INSERT INTO items VALUES (?, ?, ?)',
  params: [n, b, s],
});

async function fresh(
  t: Test,
  options?: Parameters<typeof openSqliteState>[1],
): Promise<{ state: State; file: string }> {
  const file = path.join(t.testdir(), 'data', 'state.db');
  const state = await openSqliteState(file, options);
  t.teardown(() => state.close());
  await state.migrate('test', table);
  return { state, file };
}

t.test('values survive, the file is private, and everything resolved is seen by the next query', async t => {
  const { state, file } = await fresh(t);
  const pooled = Buffer.from('pooled bytes \0\xff', 'latin1');
  const pending = state.write([insert(1, pooled, 'Grüße'), insert(2, new Uint8Array(0), null)]);
  pooled.fill(0);
  t.same(await pending, [1, 1]);
  const [one, two] = await state.query('SELECT * FROM items ORDER BY n');
  t.equal(Buffer.from(one?.['b'] as Uint8Array).toString('latin1'), 'pooled bytes \0\xff', 'copied when called');
  t.equal(one?.['s'], 'Grüße');
  t.match(two, { b: { length: 0 } });
  t.equal(two?.['s'], null);
  t.same(
    await state.write([{ sql: 'DELETE FROM items WHERE n < ?', params: [10] }, { sql: 'DELETE FROM items' }]),
    [2, 0],
  );
  t.equal(statSync(file).mode & 0o077, 0);
});

t.test('a failing write is undone whole and leaves the others of its commit alone', async t => {
  const { state } = await fresh(t);
  const results = await Promise.allSettled([
    state.write([insert(1)]),
    state.write([insert(2), insert(1)]),
    state.write([insert(3), { sql: 'INSERT INTO nowhere VALUES (1)' }]),
    state.write([insert(4)]),
  ]);
  t.match(
    results.map(result => (result.status === 'fulfilled' ? result.value : result.reason)),
    [[1], { name: 'StateError', code: 'constraint' }, { code: 'failed', message: /nowhere/ }, [1]],
  );
  t.same(
    (await state.query('SELECT n FROM items ORDER BY n')).map(row => row['n']),
    [1, 4],
  );
  await t.rejects(state.query('SELECT * FROM nowhere'), { code: 'failed' });
});

t.test('what waits is bounded, and close flushes it', async t => {
  const { state, file } = await fresh(t, { maxQueued: 50, maxQueuedBytes: 100_000 });
  const writes = await Promise.allSettled(Array.from({ length: 80 }, (_, n) => state.write([insert(n)])));
  t.equal(writes.filter(({ status }) => status === 'fulfilled').length, 50);
  t.match(writes.at(-1), { reason: { code: 'overload' } });
  const large = [insert(100, Buffer.alloc(90_000)), insert(101, Buffer.alloc(90_000))].map(one => state.write([one]));
  t.match(await Promise.allSettled(large), [{ status: 'fulfilled' }, { reason: { code: 'overload' } }]);
  const last = Array.from({ length: 40 }, (_, n) => state.write([insert(200 + n)]));
  await state.close();
  await Promise.all(last);
  await t.rejects(state.write([insert(1)]), { code: 'closed' });
  await t.rejects(state.query('SELECT 1'), { code: 'closed' });
  const again = openDatabase(file, { readOnly: true });
  t.equal(again.prepare('SELECT count(*) AS n FROM items WHERE n >= 200').get()?.['n'], 40);
  again.close();
  t.notOk(existsSync(`${file}-wal`) && statSync(`${file}-wal`).size > 0, 'the log went back into the file');
});

t.test('migrations run once and in order, data is copied before, a newer schema refuses', async t => {
  const { state, file } = await fresh(t);
  await state.write([insert(1)]);
  const second: Migration = { id: 2, statements: ["ALTER TABLE items ADD COLUMN extra TEXT DEFAULT 'new'"] };
  const broken: Migration = { id: 3, statements: ['CREATE TABLE half (n)', 'CREATE TABEL'] };
  await t.rejects(state.migrate('test', [...table, second, broken]), { code: 'failed' });
  t.match(await state.query('SELECT * FROM items'), [{ n: 1, extra: 'new' }], 'the step before the broken one holds');
  await t.rejects(state.query('SELECT * FROM half'), { code: 'failed' }, 'the broken one left nothing');
  await state.migrate('test', [...table, second]);
  await state.migrate('other', [{ id: 7, statements: ['CREATE TABLE another (n)'] }]);
  t.same(
    readdirSync(path.dirname(file)).filter(name => name.includes('before')),
    ['state.db.before-test-2'],
  );
  const copy = openDatabase(`${file}.before-test-2`, { readOnly: true });
  t.same({ ...copy.prepare('SELECT * FROM items').get() }, { n: 1, b: null, s: null });
  copy.close();
  await t.rejects(state.migrate('test', table), { code: 'newer', message: /version 2, this release knows 1/ });
  await t.rejects(state.migrate('wrong', [second, second]), { message: /out of order/ });
});

t.test('a file that is no database is refused with a clear error', async t => {
  const file = path.join(t.testdir(), 'state.db');
  writeFileSync(file, 'This is not a database, it only looks long enough to be one.'.repeat(100));
  await t.rejects(openSqliteState(file), { name: 'StateError', code: 'corrupt' });
});

t.test('another connection may use the file: a held lock is waited for, then reported', async t => {
  const { state, file } = await fresh(t, { busyTimeoutMs: 100 });
  const other = openDatabase(file);
  other.exec('BEGIN IMMEDIATE');
  await t.rejects(state.write([insert(1)]), { code: 'busy' });
  t.same(await state.query('SELECT * FROM items'), [], 'readers do not care');
  other.prepare('INSERT INTO items VALUES (9, NULL, NULL)').run();
  other.exec('COMMIT');
  await state.write([insert(1)]);
  t.same(
    (await state.query('SELECT n FROM items ORDER BY n')).map(row => row['n']),
    [1, 9],
  );
  other.close();
});

t.test('kill -9 at random moments loses nothing that was resolved, and no write is there by half', async t => {
  const file = path.join(t.testdir(), 'state.db');
  const resolved = new Set<number>();
  for (let round = 0; round < 4; round++) {
    const child = spawn(
      ...plainNode(path.join(import.meta.dirname, 'crash-writer.js'), file, String(round * 1_000_000)),
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const ended = once(child, 'exit');
    const until = 200 + Math.floor(Math.random() * 2000);
    let count = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      resolved.add(Number(line));
      if (++count === until) child.kill('SIGKILL');
    }
    // Its output ends before its locks do.
    await ended;
  }
  const database = openDatabase(file);
  const stored = new Set(
    database
      .prepare('SELECT n FROM rows')
      .all()
      .map(row => Number(row['n'])),
  );
  const others = new Set(
    database
      .prepare('SELECT n FROM others')
      .all()
      .map(row => Number(row['n'])),
  );
  t.same(
    [...resolved].filter(n => !stored.has(n)),
    [],
    `all of ${resolved.size} resolved writes are there`,
  );
  t.same(stored, others, 'both rows of each write, or none');
  t.equal(database.prepare('PRAGMA integrity_check').get()?.['integrity_check'], 'ok');
  database.close();
});
