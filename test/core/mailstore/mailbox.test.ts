import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { Mailbox } from '../../../core/mailstore/mailbox.ts';
import { withCrlf } from '../../../core/mailstore/message-file.ts';
import { random } from '../../harness/random.ts';
import { mail, openStore, rope } from './store-harness.ts';

const text = async (box: Mailbox, at: number): Promise<string> => {
  const record = box.records[at];
  const message = record && (await box.message(record.uid));
  return message ? (await message.bytes()).toString() : '';
};

t.test('a message goes in by delivery and by APPEND, and out again', async t => {
  const { store, at } = openStore(t);
  t.strictSame(await store.deliver(rope(mail('one')), [{ user: 'alice' }]), [{ kind: 'stored' }]);
  t.equal(readdirSync(at('new')).length, 1);
  t.strictSame(readdirSync(at('tmp')), []);
  const user = await store.user('alice');
  const status = await user.status('inbox');
  t.match(status, { messages: 1, unseen: 1, recent: 1, uidNext: 2, size: mail('one').length });
  t.equal(readdirSync(at('new')).length, 1, 'STATUS leaves new mail in new/');
  const box = await user.open('INBOX');
  t.equal(readdirSync(at('new')).length, 0);
  t.strictSame(box.claimRecent(), [1]);
  t.strictSame(box.claimRecent(), []);
  t.equal(await text(box, 0), mail('one'));
  const source = mail('two');
  const uid = await box.append(rope(source), source.length, {
    flags: 1,
    keywords: ['$Forwarded'],
    internalDate: 1_600_000_000_000,
  });
  t.equal(uid, 2);
  t.match(box.records[1], {
    uid: 2,
    flags: 1,
    keywords: ['$Forwarded'],
    size: source.length,
    internalDate: 1_600_000_000_000,
  });
  t.equal(await text(box, 1), source);
  const before = box.highestModseq;
  const view = box.records;
  t.strictSame(
    await box.store(
      [box.records[0]?.uid, uid].map(one => one as typeof uid),
      { mode: 'add', flags: 8, keywords: ['Work'] },
    ),
    {
      modified: [],
    },
  );
  t.equal(view[0]?.flags, 0, 'an old view does not change');
  t.match(box.records, [
    { flags: 8, keywords: ['Work'] },
    { flags: 9, keywords: ['$Forwarded', 'Work'] },
  ]);
  t.match(box.changesSince(before), { changed: [{ uid: 1 }, { uid: 2 }], vanished: [] });
  t.strictSame(await box.store([uid], { mode: 'add', flags: 2, keywords: [] }, before), { modified: [uid] });
  t.strictSame(await box.store([uid], { mode: 'remove', flags: 8, keywords: ['work'] }), { modified: [] });
  t.strictSame(await box.expunge(), [1]);
  t.match(box.changesSince(before), { changed: [{ uid: 2, keywords: ['$Forwarded'] }], vanished: [1] });
  t.match(readFileSync(at('dovecot-uidlist'), 'utf8'), /^3 V\d+ N2 G[0-9a-f]{32}\n1 :\S+\n2 :\S+,S=\d+,W=\d+\n$/);
  t.equal(readFileSync(at('dovecot-keywords'), 'utf8'), '0 $Forwarded\n1 Work\n');
  await box.close();
  await box.close();
  t.match(await user.status('INBOX'), { messages: 1, unseen: 0, recent: 1, uidNext: 3 });
  user.release();
});

t.test('large messages, and those of other programs, keep their bytes while their name changes', async t => {
  const { store, at } = openStore(t);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  const large = mail('large', 40_000);
  const lines = `Subject: unix\n\n${'text\n'.repeat(100_000)}`;
  await store.deliver(rope(large), [{ user: 'alice' }]);
  writeFileSync(at('new', '2000000000.1.x'), lines);
  await box.sync();
  t.match(box.records, [{ size: large.length }, { size: lines.length + 100_002 }]);
  for (const [uid, wanted] of [
    [1, large],
    [2, lines.replaceAll('\n', '\r\n')],
  ] as const) {
    const message = await box.message(uid as never);
    await box.store([uid as never], { mode: 'add', flags: 1, keywords: [] });
    t.equal(message?.headers.get('subject')?.value.length, uid === 1 ? 5 : 4);
    const chunks: Buffer[] = [];
    for await (const chunk of message?.open() ?? []) chunks.push(chunk as Buffer);
    t.ok(Buffer.concat(chunks).toString() === wanted);
    t.equal(message?.size, wanted.length);
  }
  t.equal(readdirSync(at('tmp')).length, 2);
  await box.close();
  t.strictSame(readdirSync(at('tmp')), [], 'nothing is left of reading');
  const r = random(1);
  for (let round = 0; round < 2000; round++) {
    const text = Buffer.from(Array.from({ length: 8 }, () => r.pick(['a', '\r', '\n'])).join(''));
    const cut = r.int(9);
    const [head, tail] = [text.subarray(0, cut), text.subarray(cut)];
    const whole = withCrlf(text).toString();
    if (whole !== text.toString().replace(/\r?\n/g, '\r\n')) t.fail(JSON.stringify(text.toString()));
    const parts = withCrlf(head).toString() + withCrlf(tail, head.at(-1) ?? 0).toString();
    if (parts !== whole) t.fail(`cut at ${cut}: ${JSON.stringify(text.toString())}`);
  }
  user.release();
});

t.test('cached values are computed once, and go with their message', async t => {
  const { store } = openStore(t);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  for (const subject of ['one', 'two']) await store.deliver(rope(mail(subject)), [{ user: 'alice' }]);
  await box.sync();
  let computed = 0;
  const subjectOf = (uid: number): Promise<{ readonly subject?: string } | undefined> =>
    box.cached(uid as never, 'v1', async message => {
      computed++;
      return { subject: message.headers.get('subject')?.value ?? '' };
    });
  t.strictSame(await subjectOf(1), { subject: 'one' });
  t.strictSame(await subjectOf(1), { subject: 'one' });
  t.equal(computed, 1);
  await box.close();
  const again = await user.open('INBOX');
  t.strictSame(await again.cached(1 as never, 'v1', async () => 'not asked'), { subject: 'one' });
  t.equal(await again.cached(9 as never, 'v1', async () => 'no such message'), undefined);
  await again.store([1 as never], { mode: 'add', flags: 8, keywords: [] });
  await again.expunge();
  t.equal(await again.cached(1 as never, 'v1', async () => 'gone'), undefined);
  await again.close();
  user.release();
});

t.test('reading only', async t => {
  const { store, at } = openStore(t);
  await store.deliver(rope(mail('one')), [{ user: 'alice' }]);
  const user = await store.user('alice');
  const box = await user.open('INBOX', { readOnly: true });
  t.strictSame(box.claimRecent(), [1]);
  t.strictSame(box.claimRecent(), [1], 'shown, not claimed');
  t.equal(readdirSync(at('new')).length, 1);
  t.throws(() => box.store([1 as never], { mode: 'add', flags: 1, keywords: [] }), { code: 'cannot' });
  await t.rejects(box.expunge(), { code: 'cannot' });
  const writing = await user.open('INBOX');
  t.strictSame(writing.claimRecent(), [1]);
  t.strictSame(box.claimRecent(), []);
  for (const one of [box, writing]) await one.close();
  user.release();
});

t.test('keywords: spelt as first seen, at most 26', async t => {
  const { store } = openStore(t);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  const bytes = mail('x');
  const uid = await box.append(rope(bytes), bytes.length, { keywords: ['ToDo'] });
  await box.store([uid], {
    mode: 'add',
    flags: 0,
    keywords: ['TODO', ...Array.from({ length: 25 }, (_, i) => `k${i}`)],
  });
  t.equal(box.records[0]?.keywords.length, 26);
  t.ok(box.records[0]?.keywords.includes('ToDo'));
  t.notOk(box.keywordsOpen);
  await t.rejects(box.store([uid], { mode: 'add', flags: 0, keywords: ['more'] }), { code: 'limit' });
  await box.store([uid], { mode: 'replace', flags: 1, keywords: ['todo'] });
  t.match(box.records, [{ flags: 1, keywords: ['ToDo'] }]);
  await box.close();
  user.release();
});

t.test('a disk that is full: mail can be read and removed, the index waits in memory', async t => {
  const { store, at, again } = openStore(t);
  for (const subject of ['one', 'two']) await store.deliver(rope(mail(subject)), [{ user: 'alice' }]);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  await box.close();
  user.release();
  await store.close();
  for (const suffix of ['', '-wal', '-shm']) rmSync(at(`postern-index.db${suffix}`), { force: true });
  // What SQLite meets where it cannot write: here a directory in the place of the file.
  mkdirSync(at('postern-index.db'));
  const later = await again().user('alice');
  const reading = await later.open('INBOX');
  t.strictSame(
    reading.records.map(record => record.uid),
    [1, 2],
  );
  await reading.store([1 as never], { mode: 'add', flags: 8, keywords: [] });
  t.strictSame(await reading.expunge(), [1]);
  await reading.close();
  later.release();
});
