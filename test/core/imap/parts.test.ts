// Small parts alone: mailbox patterns, address lists, the append spool.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { parseAddresses } from '../../../core/imap/address-list.ts';
import { appendSpool } from '../../../core/imap/append-spool.ts';
import { listPattern } from '../../../core/imap/list-pattern.ts';
import { numberSpans, spansHold } from '../../../core/imap/number-spans.ts';
import { ropeBytes } from '../../../core/mail/rope.ts';
import { fc } from '../../harness/fuzz.ts';

t.test('mailbox patterns', async t => {
  t.ok(listPattern('', '%').matches('Foo'));
  t.notOk(listPattern('', '%').matches('Foo/Bar'));
  t.ok(listPattern('', '%/%').matches('Foo/Bar'));
  t.ok(listPattern('Foo/', '*').matches('Foo/Bar/Baz'));
  t.ok(listPattern('', 'inbox').matches('INBOX'));
  t.ok(listPattern('', 'i%').matches('INBOX'));
  t.notOk(listPattern('', 'foo').matches('Foo'));
  const word = fc.array(fc.constantFrom('a', 'b', '/', '*', '%', '.'), { maxLength: 12 }).map(parts => parts.join(''));
  const name = fc.array(fc.constantFrom('a', 'b', '/', '.'), { maxLength: 12 }).map(parts => parts.join(''));
  fc.assert(
    fc.property(word, name, (pattern, text) => {
      const source = pattern.replace(/[.]/g, '\\.').replace(/\*/g, '.*').replace(/%/g, '[^/]*');
      assert.equal(listPattern('', pattern).matches(text), new RegExp(`^${source}$`).test(text));
    }),
    { numRuns: 1000 },
  );
  // What would take a backtracking matcher for ever.
  t.notOk(listPattern('', `${'*a'.repeat(400)}b`).matches('a'.repeat(900)));
});

t.test('number spans', async t => {
  const range = fc.record({ first: fc.nat(30), last: fc.nat(30) }, { noNullPrototype: true });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 8 }), fc.nat(35), (set, wanted) => {
      const real = (value: number): number => (value === 0 ? 20 : value);
      const named = set.some(
        ({ first, last }) => wanted >= Math.min(real(first), real(last)) && wanted <= Math.max(real(first), real(last)),
      );
      assert.equal(spansHold(numberSpans(set, 20), wanted), named);
    }),
    { numRuns: 1000 },
  );
  t.pass('fuzzed');
});

t.test('address lists', async t => {
  const plain = (text: string) => parseAddresses(text).map(({ name, mailbox, host }) => [name, mailbox, host]);
  t.strictSame(plain('a@b.c'), [[undefined, 'a', 'b.c']]);
  t.strictSame(plain('"Doe, John" <john@example.org>, (comment) x@y (Mary)'), [
    ['Doe, John', 'john', 'example.org'],
    ['Mary', 'x', 'y'],
  ]);
  t.strictSame(plain('Team: a@b, c@d;, e@f'), [
    [undefined, 'Team', undefined],
    [undefined, 'a', 'b'],
    [undefined, 'c', 'd'],
    [undefined, undefined, undefined],
    [undefined, 'e', 'f'],
  ]);
  t.strictSame(plain('undisclosed-recipients:;'), [
    [undefined, 'undisclosed-recipients', undefined],
    [undefined, undefined, undefined],
  ]);
  t.match(parseAddresses('<@a.b,@c.d:e@f>'), [{ route: '@a.b,@c.d', mailbox: 'e', host: 'f' }]);
  t.strictSame(plain('"a b"@[IPv6:::1]'), [[undefined, 'a b', '[IPv6:::1]']]);
  t.strictSame(plain(''), []);
  t.strictSame(plain(' ,, '), []);
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('a', '@', '<', '>', ',', ';', ':', '"', '(', ')', '\\', '[', ']', '.', ' '), {
        maxLength: 60,
      }),
      parts => parseAddresses(parts.join('')).length <= 2 * parts.length + 2,
    ),
    { numRuns: 1000 },
  );
  const before = performance.now();
  for (const unit of ['(', '"', '<', 'a,', '[', '\\', ':;']) parseAddresses(unit.repeat(100_000));
  t.comment(`hostile fields: ${Math.round(performance.now() - before)} ms`);
});

t.test('the append spool', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-spool-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const dead = spawnSync(process.execPath, ['-e', '']).pid;
  writeFileSync(path.join(folder, `imap-append-${dead}-aa`), 'x');
  writeFileSync(path.join(folder, `imap-append-${process.pid}-bb`), 'x');
  writeFileSync(path.join(folder, 'not-ours'), 'x');
  const spool = appendSpool(folder, 4);
  await spool.prepare();
  t.strictSame(readdirSync(folder).sort(), [`imap-append-${process.pid}-bb`, 'not-ours'], 'orphans are removed');
  const source = (text: string) => {
    let at = 0;
    return async (left: number): Promise<Buffer> => {
      const piece = Buffer.from(text.slice(at, at + Math.min(left, 3)));
      at += piece.length;
      return piece;
    };
  };
  const small = await spool.take(4, source('abcdef'));
  t.equal((await ropeBytes(small.rope)).toString(), 'abcd');
  const large = await spool.take(8, source('abcdefghij'));
  t.equal((await ropeBytes(large.rope)).toString(), 'abcdefgh');
  t.equal(readdirSync(folder).length, 3);
  await large.remove();
  await large.remove();
  await t.rejects(
    spool.take(8, () => Promise.reject(new Error('gone'))),
    { message: 'gone' },
  );
  t.equal(readdirSync(folder).length, 2, 'nothing half-written stays');
});
