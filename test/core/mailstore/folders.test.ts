import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { canonicalName, directoryOf, nameOf } from '../../../core/mailstore/folder-name.ts';
import type { UserMail } from '../../../core/mailstore/mailbox.ts';
import { fc } from '../../harness/fuzz.ts';
import { mail, openStore, rope } from './store-harness.ts';

const code = (error: unknown): unknown => (error as { code?: unknown }).code;
const refused = (work: Promise<unknown>): Promise<unknown> => work.then(() => 'done', code);
const names = async (user: UserMail): Promise<readonly string[]> =>
  (await user.list()).map(({ name, selectable }) => (selectable ? name : `(${name})`));

t.test('names and directories', async t => {
  t.equal(directoryOf('inbox'), '');
  t.equal(directoryOf('Inbox/Sub'), '.INBOX.Sub');
  t.equal(directoryOf('Entwürfe/2026'), '.Entw&APw-rfe.2026');
  t.equal(directoryOf('a.b & c'), '.a&AC4-b &- c');
  t.equal(nameOf('.a&AC4-b &- c'), 'a.b & c');
  for (const foreign of [
    '.',
    '..',
    '.a..b',
    '.caf&',
    '.a&b',
    '.&AGEA-',
    '.INBOX',
    '.inbox.x',
    'cur',
    '.a/b',
    '.\ufffd',
  ])
    t.equal(nameOf(foreign), undefined, foreign);
  for (const wrong of ['', '/', 'a/', '/a', 'a//b', '\ud800']) t.throws(() => directoryOf(wrong), { code: 'cannot' });
  t.throws(() => directoryOf('ü'.repeat(100)), { code: 'limit' });
  const part = fc.string({ unit: 'binary', minLength: 1, maxLength: 7 }).filter(text => !text.includes('/'));
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), parts => {
      const name = canonicalName(parts.join('/'));
      const directory = directoryOf(name);
      return nameOf(directory) === (directory === '' ? 'INBOX' : name) && !/[/\0]/.test(directory);
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 20 }), text => {
      const name = nameOf(`.${text}`);
      return name === undefined || directoryOf(name) === `.${text}`;
    }),
    { numRuns: 2000 },
  );
});

t.test('create, list, rename, delete', async t => {
  const { store, at } = openStore(t);
  const user = await store.user('alice');
  t.strictSame(await names(user), ['INBOX']);
  await user.create('a/b.c/d');
  await user.create('Sent', { specialUse: ['\\Sent'] });
  t.strictSame(await names(user), ['INBOX', 'Sent', 'a', 'a/b.c', 'a/b.c/d']);
  t.ok(existsSync(at('.a.b&AC4-c.d', 'maildirfolder')));
  t.equal(await refused(user.create('a')), 'alreadyexists');
  t.equal(await refused(user.create('inbox')), 'alreadyexists');
  t.match(await user.list(), [
    {},
    { name: 'Sent', specialUse: ['\\Sent'], hasChildren: false },
    { name: 'a', hasChildren: true },
  ]);
  const open = await user.open('a/b.c');
  const bytes = mail('kept');
  await open.append(rope(bytes), bytes.length, {});
  const { uidValidity } = open;
  await user.delete('a');
  t.strictSame(await names(user), ['INBOX', 'Sent', '(a)', 'a/b.c', 'a/b.c/d'], 'children stay');
  t.equal(await refused(user.delete('a')), 'cannot');
  t.equal(await refused(user.delete('nowhere')), 'nonexistent');
  t.equal(await refused(user.delete('INBOX')), 'cannot');
  t.equal(await refused(user.open('a')), 'nonexistent');
  await user.rename('a', 'x/y');
  t.strictSame(await names(user), ['INBOX', 'Sent', 'x', '(x/y)', 'x/y/b.c', 'x/y/b.c/d']);
  t.equal(open.name, 'x/y/b.c', 'an open mailbox goes along');
  t.equal(open.uidValidity, uidValidity);
  await open.append(rope(bytes), bytes.length, {});
  await open.close();
  t.match(await user.status('x/y/b.c'), { messages: 2, uidNext: 3, uidValidity });
  t.equal(await refused(user.rename('x', 'x/z')), 'cannot');
  t.equal(await refused(user.rename('x', 'Sent')), 'alreadyexists');
  t.equal(await refused(user.rename('none', 'new')), 'nonexistent');
  await user.rename('Sent', 'Gesendet');
  t.match(
    (await user.list()).find(info => info.name === 'Gesendet'),
    { specialUse: ['\\Sent'] },
  );
  user.release();
});

t.test('a folder made again has another UIDVALIDITY; a session on the old one hears of it', async t => {
  const { store } = openStore(t);
  const user = await store.user('alice');
  await user.create('Trash');
  const old = await user.open('Trash');
  const told = new Promise<void>(resolve => old.onChange(resolve));
  await user.delete('Trash');
  await told;
  t.ok(old.deleted);
  t.equal(await refused(old.sync()), 'nonexistent');
  t.equal(await refused(old.store([], { mode: 'add', flags: 1, keywords: [] })), 'nonexistent');
  await old.close();
  await user.create('Trash');
  const next = await user.open('Trash');
  t.ok(next.uidValidity > old.uidValidity || old.uidValidity === 0);
  await next.close();
  user.release();
});

t.test('renaming INBOX moves its messages', async t => {
  const { store } = openStore(t);
  await store.deliver(rope(mail('one')), [{ user: 'alice' }]);
  const user = await store.user('alice');
  await user.create('INBOX/child');
  const inbox = await user.open('INBOX');
  await inbox.store(
    inbox.records.map(record => record.uid),
    { mode: 'add', flags: 5, keywords: ['Kept'] },
  );
  await user.rename('INBOX', 'Old/2026');
  t.equal(inbox.records.length, 0);
  t.match(inbox.changesSince(0).vanished, [1]);
  const moved = await user.open('Old/2026');
  t.match(moved.records, [{ uid: 1, flags: 5, keywords: ['Kept'] }]);
  t.strictSame(await names(user), ['INBOX', 'INBOX/child', 'Old', 'Old/2026']);
  await inbox.close();
  await moved.close();
  user.release();
});

t.test('subscriptions live in Dovecot’s file, of either version', async t => {
  const { store, at } = openStore(t);
  const user = await store.user('alice');
  await user.subscribe('inbox', true);
  await user.subscribe('gone.for ever/ü', true);
  await user.subscribe('x', true);
  await user.subscribe('x', false);
  t.equal(readFileSync(at('subscriptions'), 'utf8'), 'V\t2\n\nINBOX\ngone&AC4-for ever\t&APw-\n');
  t.strictSame(await user.subscriptions(), ['INBOX', 'gone.for ever/ü']);
  writeFileSync(at('subscriptions'), 'INBOX\nA.B\n');
  mkdirSync(at('.A.B', 'cur'), { recursive: true });
  t.match(await user.list(), [
    { name: 'INBOX', subscribed: true },
    { name: 'A', subscribed: false },
    { name: 'A/B', subscribed: true },
  ]);
  user.release();
});

t.test('quota', async t => {
  const { store, at } = openStore(t);
  const bytes = mail('some');
  const limit = bytes.length * 2 + 10;
  const user = await store.user('alice', { quotaBytes: limit });
  t.strictSame(await user.quota(), { usedBytes: 0, usedMessages: 0, limitBytes: limit });
  t.match(await store.deliver(rope(bytes), [{ user: 'alice' }]), [{ kind: 'stored' }]);
  const box = await user.open('INBOX');
  await box.append(rope(bytes), bytes.length, {});
  t.strictSame(await user.quota(), { usedBytes: bytes.length * 2, usedMessages: 2, limitBytes: limit });
  t.match(await store.deliver(rope(bytes), [{ user: 'alice' }, { user: 'bob' }]), [
    { kind: 'overquota' },
    { kind: 'stored' },
  ]);
  t.match(await store.deliver(rope(bytes), [{ user: 'bob', quotaBytes: 10 }]), [{ kind: 'overquota' }]);
  t.equal(await refused(box.append(rope(bytes), bytes.length, {})), 'overquota');
  t.equal(await refused(box.copy([box.records[0]?.uid ?? (0 as never)], box)), 'overquota');
  t.match(readFileSync(at('maildirsize'), 'utf8'), new RegExp(`^${limit}S\n0 0\n${bytes.length} 1\n`));
  await box.store([box.records[0]?.uid ?? (0 as never)], { mode: 'add', flags: 8, keywords: [] });
  await box.expunge();
  t.match(await user.quota(), { usedBytes: bytes.length, usedMessages: 1 });
  writeFileSync(at('maildirsize'), `${limit}S\n999999 3\n`);
  t.match(await user.quota(), { usedBytes: bytes.length, usedMessages: 1 }, 'counted anew when it says full');
  await box.close();
  user.release();
});
