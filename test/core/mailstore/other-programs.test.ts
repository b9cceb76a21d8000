// Other programs change the Maildir at any time; indexes and lists get lost. Nothing of that may renumber a message that
// stayed, lose one, or show one twice.
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { realDisk } from '../../../core/mailstore/disk.ts';
import type { Mailbox } from '../../../core/mailstore/mailbox.ts';
import { until } from '../../harness/gateway-files.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { mail, openStore, rope } from './store-harness.ts';

const view = (box: Mailbox): readonly string[] =>
  box.records.map(({ uid, flags, keywords, size }) => `${uid} ${flags} ${keywords.join(',')} ${size}`);
const uids = (box: Mailbox): readonly number[] => box.records.map(record => record.uid);

t.test('files come, go and change names', async t => {
  const { store, at } = openStore(t);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  const lf = 'Subject: unix\n\nline\nline\r\nmixed\n';
  writeFileSync(at('new', '1000000001.1.host'), lf);
  writeFileSync(at('cur', '1000000000.0.host:2,FSx'), mail('two'));
  writeFileSync(at('cur', 'no-suffix'), mail('three'));
  writeFileSync(at('new', '.hidden'), 'not a message');
  utimesSync(at('cur', 'no-suffix'), 1_500_000_000, 1_500_000_000);
  await box.sync();
  const wire = lf.replace(/\r?\n/g, '\r\n');
  t.match(box.records, [
    { flags: 5, keywords: [] },
    { flags: 0, size: wire.length },
    { flags: 0, internalDate: 1_500_000_000_000 },
  ]);
  t.strictSame(uids(box), [1, 2, 3]);
  const message = await box.message(2 as never);
  t.equal((await message?.bytes())?.toString(), wire, 'LF is served as CRLF');
  const before = box.highestModseq;
  renameSync(at('cur', '1000000000.0.host:2,FSx'), at('cur', '1000000000.0.host:2,RSx'));
  t.match(await box.message(1 as never), { size: mail('two').length }, 'found under the new name');
  t.match(box.changesSince(before), { changed: [{ uid: 1, flags: 3 }], vanished: [] });
  renameSync(at('cur', '1000000000.0.host:2,RSx'), at('cur', '1000000000.0.host:2,x'));
  await box.store([1 as never], { mode: 'add', flags: 8, keywords: [] });
  t.strictSame(
    readdirSync(at('cur')).sort(),
    ['1000000000.0.host:2,Tx', '1000000001.1.host:2,', 'no-suffix'],
    'both changes stay',
  );
  renameSync(at('cur', '1000000000.0.host:2,Tx'), at('cur', '1000000000.0.host:2,x'));
  t.strictSame(await box.expunge(), [], 'the other took \\Deleted away in time');
  unlinkSync(at('cur', 'no-suffix'));
  t.equal(await box.message(3 as never), undefined);
  t.strictSame(uids(box), [1, 2]);
  t.match(box.changesSince(before).vanished, [3]);
  copyFileSync(at('cur', '1000000001.1.host:2,'), at('cur', '1000000001.1.host:2,S'));
  await box.sync();
  t.strictSame(uids(box), [1, 2, 4], 'two files of one base name are two messages');
  t.equal(new Set(readdirSync(at('cur')).map(name => name.split(':')[0])).size, 3);
  await box.close();
  user.release();
});

t.test('messages of one second have their UIDs in the order of delivery, whoever delivered', async t => {
  const { store, at } = openStore(t);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  const inOrder = [
    '999999999.M999999P1.host',
    '1000000000.1234.host',
    '1000000000.M5000P9Q10.host,S=1,W=1',
    '1000000000.V801I2fM12000.host',
    '1000000000.M120000P9Q9.host',
    '1000000000.M120000P9Q10.host',
    '1000000001.M1P1.host',
    'M1.host',
  ];
  for (const name of [...inOrder].sort()) writeFileSync(at('new', name), mail(name));
  await box.sync();
  const subjects = await Promise.all(
    box.records.map(async ({ uid }) => /Subject: (.*)\r/.exec(String(await (await box.message(uid))?.bytes()))?.[1]),
  );
  t.strictSame(subjects, inOrder);
});

t.test('a watcher hears of deliveries and of other programs', async t => {
  // The watch alone does not keep a process running.
  const busy = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(busy));
  const { store, at, again } = openStore(t);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  const next = (): Promise<void> => new Promise(resolve => void box.onChange(resolve));
  let news = next();
  await store.deliver(rope(mail('by us')), [{ user: 'alice' }]);
  await news;
  t.equal(box.records.length, 1);
  news = next();
  await again().deliver(rope(mail('by another process')), [{ user: 'alice' }]);
  await news;
  t.equal(box.records.length, 2);
  news = next();
  const [name = ''] = readdirSync(at('cur'));
  renameSync(at('cur', name), at('cur', `${name}S`));
  await news;
  t.equal(box.records.filter(record => record.flags === 1).length, 1);
  await box.close();
  user.release();
});

t.test('a watcher hears of what another program did in the tick of a change of ours, once a look is due', async t => {
  const clock = heldClock(Date.now());
  const tick = clock.now() - 10_000;
  let looks = 0;
  const stat = (file: string) => {
    const found = realDisk.stat(file);
    if (!found || !file.endsWith('/cur')) return found;
    looks++;
    return { ...found, mtimeMs: tick };
  };
  const { store, at } = openStore(t, { disk: { ...realDisk, stat }, clock });
  const user = await store.user('alice');
  mkdirSync(at('cur'), { recursive: true });
  writeFileSync(at('cur', '1000000001.1.host:2,'), mail('x'));
  const box = await user.open('INBOX');
  box.onChange(() => undefined);
  await box.store([1 as never], { mode: 'add', flags: 1, keywords: [] });
  renameSync(at('cur', '1000000001.1.host:2,S'), at('cur', '1000000001.1.host:2,FS'));
  const before = looks;
  await until(() => looks > before, 'the look after the change');
  await until(() => {
    clock.move(5_000);
    return box.records[0]?.flags === 5;
  }, 'the look that is due');
  await box.close();
  user.release();
});

t.test('two processes on one Maildir', async t => {
  const { store, again, at } = openStore(t);
  const other = again();
  const [userA, userB] = [await store.user('alice'), await other.user('alice')];
  const [a, b] = [await userA.open('INBOX'), await userB.open('INBOX')];
  const bytes = mail('x');
  const work = async (box: Mailbox, flag: number): Promise<void> => {
    for (let i = 0; i < 25; i++) {
      const uid = await box.append(rope(bytes), bytes.length, { flags: flag });
      await box.store([uid], { mode: 'add', flags: 16, keywords: [`k${flag}`] });
      if (i % 5 === 0) {
        await box.store([uid], { mode: 'add', flags: 8, keywords: [] });
        await box.expunge([uid]);
      }
    }
  };
  await Promise.all([work(a, 1), work(b, 2), work(a, 4)]);
  await a.sync();
  await b.sync();
  await a.sync();
  t.equal(a.records.length, 60);
  t.strictSame(view(a), view(b));
  t.equal(a.highestModseq, b.highestModseq);
  t.match(await userA.status('INBOX'), { messages: 60, unseen: 40, size: 60 * bytes.length, uidNext: a.uidNext });
  const list = readFileSync(at('dovecot-uidlist'), 'utf8');
  t.equal(new Set(list.match(/^\d+ :/gm)).size, list.match(/^\d+ :/gm)?.length, 'no UID twice');
  await Promise.all([a.close(), b.close()]);
  userA.release();
  userB.release();
});

t.test('a file that is renamed while we look, in the tick of an earlier change, keeps its UID', async t => {
  let meanwhile: readonly [from: string, to: string] | undefined;
  let stampBefore: number | undefined;
  // As readdir(3) may have it: neither the old nor the new name, and the stamp of the directory is what it was.
  const list = async (folder: string): Promise<string[]> => {
    if (!meanwhile || !folder.endsWith('/cur')) return realDisk.list(folder);
    const [from, to] = meanwhile;
    meanwhile = undefined;
    stampBefore = statSync(folder).mtimeMs;
    renameSync(`${folder}/${from}`, `${folder}/${to}`);
    return (await realDisk.list(folder)).filter(name => name !== to);
  };
  const stat = (file: string) => {
    const found = realDisk.stat(file);
    if (!found || stampBefore === undefined || !file.endsWith('/cur')) return found;
    const mtimeMs = stampBefore;
    stampBefore = undefined;
    return { ...found, mtimeMs };
  };
  const { store, at } = openStore(t, { disk: { ...realDisk, list, stat } });
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  for (const second of [1, 2, 3]) writeFileSync(at('cur', `100000000${second}.1.host:2,`), mail('x'));
  await box.sync();
  renameSync(at('cur', '1000000001.1.host:2,'), at('cur', '1000000001.1.host:2,F'));
  meanwhile = ['1000000002.1.host:2,', '1000000002.1.host:2,S'];
  await box.sync();
  t.equal(meanwhile, undefined, 'it happened');
  await box.sync();
  t.strictSame(
    view(box),
    ['1 4  60', '2 1  60', '3 0  60'].map(line => line.replace('60', String(mail('x').length))),
  );
  unlinkSync(at('cur', '1000000003.1.host:2,'));
  await box.sync();
  t.strictSame(uids(box), [1, 2], 'what is gone is gone');
});

t.test(
  'a file that comes in the tick of an earlier one, while we look, is seen by the next look however long this one took',
  async t => {
    let nowMs = Math.floor(Date.now() / 1000) * 1000 + 500;
    let meanwhile: { readonly part: string; add(): void } | undefined;
    const list = async (folder: string): Promise<string[]> => {
      const names = await realDisk.list(folder);
      if (meanwhile && folder.endsWith(`/${meanwhile.part}`)) {
        meanwhile.add();
        meanwhile = undefined;
        nowMs += 10_000;
      }
      return names;
    };
    const clock = { ...systemClock, now: () => nowMs };
    const { store, at } = openStore(t, { disk: { ...realDisk, list }, clock });
    const user = await store.user('alice');
    const box = await user.open('INBOX', { readOnly: true });
    for (const [part, wanted] of [
      ['new', 2],
      ['cur', 4],
    ] as const) {
      nowMs += 10_000;
      await box.sync();
      const stamp = nowMs / 1000;
      const add = (serial: number): void => {
        writeFileSync(at(part, `100000000${serial}.1.host`), mail('x'));
        utimesSync(at(part), stamp, stamp);
      };
      add(wanted);
      meanwhile = { part, add: () => add(wanted + 1) };
      await box.sync();
      t.equal(meanwhile, undefined, 'it happened');
      await box.sync();
      t.equal(box.records.length, wanted, part);
    }
    await box.close();
    user.release();
  },
);

t.test('a lost or damaged index is built anew; UIDs stay, modseqs go on above', async t => {
  for (const damage of ['lost', 'garbage', 'cut', 'empty'] as const) {
    const { store, at, again } = openStore(t);
    for (const subject of ['a', 'b', 'c']) await store.deliver(rope(mail(subject)), [{ user: 'alice' }]);
    const user = await store.user('alice');
    const box = await user.open('INBOX');
    box.claimRecent();
    const second = box.records[1]?.uid ?? (0 as never);
    await box.store([second], { mode: 'add', flags: 8, keywords: [] });
    await box.expunge();
    await box.store([box.records[1]?.uid ?? (0 as never)], { mode: 'add', flags: 1, keywords: ['Kept'] });
    const before = { view: view(box), validity: box.uidValidity, next: box.uidNext, modseq: box.highestModseq };
    await box.close();
    user.release();
    await store.close();
    const index = at('postern-index.db');
    const bytes = readFileSync(index);
    rmSync(index);
    if (damage === 'garbage') writeFileSync(index, Buffer.alloc(20_000, 'garbage'));
    if (damage === 'cut') writeFileSync(index, bytes.subarray(0, 5000));
    if (damage === 'empty') writeFileSync(index, '');
    for (const suffix of ['-wal', '-shm']) rmSync(index + suffix, { force: true });
    const reborn = await again().user('alice');
    const box2 = await reborn.open('INBOX');
    t.strictSame(
      { view: view(box2), validity: box2.uidValidity, next: box2.uidNext },
      { view: before.view, validity: before.validity, next: before.next },
      damage,
    );
    t.ok(box2.highestModseq >= before.modseq);
    t.strictSame(box2.changesSince(before.modseq - 1).vanished, [2], 'what vanished follows from what is there');
    t.strictSame(box2.claimRecent(), []);
    await box2.close();
    reborn.release();
  }
});

t.test('the index is damaged while a mailbox is open', async t => {
  const { store, at } = openStore(t, { openIndexes: 1 });
  await store.deliver(rope(mail('a')), [{ user: 'alice' }]);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  const before = view(box);
  // Another user's index takes the one open place, so that alice's is opened again, damaged.
  const bob = await store.user('bob');
  await bob.status('INBOX');
  for (const suffix of ['-wal', '-shm']) rmSync(at(`postern-index.db${suffix}`), { force: true });
  writeFileSync(at('postern-index.db'), Buffer.alloc(20_000, 'garbage'));
  await box.sync();
  t.strictSame(view(box), before);
  const uid = box.records[0]?.uid ?? (0 as never);
  await box.store([uid], { mode: 'add', flags: 1, keywords: [] });
  t.match(box.records, [{ uid: 1, flags: 1 }]);
  await box.close();
  user.release();
  bob.release();
});

t.test('a lost, damaged or changed UID list', async t => {
  const { store, at } = openStore(t);
  for (const subject of ['a', 'b', 'c']) await store.deliver(rope(mail(subject)), [{ user: 'alice' }]);
  const user = await store.user('alice');
  const box = await user.open('INBOX');
  const list = at('dovecot-uidlist');
  const { uidValidity } = box;
  const before = view(box);
  for (const damage of [undefined, '', 'garbage\nmore', readFileSync(list, 'utf8').slice(0, -20)]) {
    if (damage === undefined) rmSync(list);
    else writeFileSync(list, damage);
    await box.sync();
    t.equal(box.uidValidity, uidValidity);
    t.strictSame(view(box), before, 'as the index had it');
    t.match(readFileSync(list, 'utf8'), new RegExp(`^3 V${uidValidity} N4 G\\w+\n1 :\\S+\n2 :\\S+\n3 :\\S+\n$`));
  }
  const lines = readFileSync(list, 'utf8').split('\n');
  writeFileSync(
    list,
    [lines[0]?.replace(/V\d+/, 'V77'), `10${lines[1]?.slice(1)}`, `11${lines[3]?.slice(1)}`, ''].join('\n'),
  );
  const modseq = box.highestModseq;
  await box.sync();
  t.equal(box.uidValidity, 77, 'another program began anew');
  t.strictSame(uids(box), [10, 11, 12]);
  t.ok(box.highestModseq > modseq);
  writeFileSync(list, readFileSync(list, 'utf8').replace(/^12 /m, '40 W55 '));
  await box.sync();
  t.strictSame(uids(box), [10, 11, 40], 'another program gave another UID');
  t.equal(box.uidNext, 41);
  await store.deliver(rope(mail('d')), [{ user: 'alice' }]);
  await box.sync();
  t.strictSame(uids(box), [10, 11, 40, 41]);
  t.match(readFileSync(list, 'utf8'), /\n40 W55 :/);
  await box.close();
  user.release();
});

t.test('what is at once at rest costs nothing; what other programs leave behind is mended', async t => {
  const lists: string[] = [];
  const counted = (folder: string): Promise<string[]> => {
    lists.push(folder);
    return realDisk.list(folder);
  };
  const disk = { ...realDisk, list: counted };
  const { store, at, again } = openStore(t, { disk });
  const user = await store.user('alice');
  const count = 10_000;
  const file = at('first');
  writeFileSync(file, mail('same'));
  for (let i = 0; i < count; i++)
    linkSync(file, at('cur', `${1_000_000_000 + i}.M1P1.h,S=${mail('same').length},W=${mail('same').length}:2,S`));
  const old = 1_700_000_000;
  utimesSync(at('cur'), old, old);
  utimesSync(at('new'), old, old);
  const box = await user.open('INBOX');
  t.equal(box.records.length, count);
  t.ok(box.records.every((record, i) => record.uid === i + 1));
  lists.length = 0;
  await box.sync();
  const second = await user.open('INBOX');
  t.strictSame(await user.status('INBOX').then(status => status.messages), count);
  t.strictSame(lists, [], 'nothing is listed where nothing changed');
  await store.deliver(rope(mail('new')), [{ user: 'alice' }]);
  await box.store([5 as never, 6 as never], { mode: 'add', flags: 4, keywords: [] });
  await box.sync();
  t.equal(second.records.length, count + 1, 'shared by all sessions');
  t.strictSame(new Set(lists), new Set([at('new')]), 'new mail and our own changes do not list cur/');
  const all = box.records.map(record => record.uid);
  await box.store(all, { mode: 'replace', flags: 8, keywords: [] });
  t.equal((await box.expunge(all.slice(0, 9000))).length, 9000);
  t.equal((await box.copy(all.slice(9000), second)).to.length, 1001);
  t.strictSame(
    uids(box),
    Array.from({ length: 2002 }, (_, i) => 9001 + i),
  );
  t.ok(statSync(at('dovecot-uidlist')).size > 0);
  rmSync(at('new'), { recursive: true });
  await box.sync();
  t.ok(statSync(at('new')).isDirectory());
  writeFileSync(at('dovecot-uidlist.lock'), '999999999:mx.test');
  await store.deliver(rope(mail('new')), [{ user: 'alice' }]);
  await box.sync();
  t.equal(box.records.length, 2003, 'the lock of a dead process does not hold');
  mkdirSync(at('postern-deleted.x'));
  writeFileSync(at('tmp', 'half-written'), 'x');
  await user.list();
  t.ok(readdirSync(at()).includes('postern-deleted.x'), 'perhaps somebody is at it');
  const later = { ...systemClock, now: () => Date.now() + 2 * 86_400_000 };
  const tomorrow = await again({ clock: later }).user('alice');
  await tomorrow.list();
  await (await tomorrow.open('INBOX')).close();
  tomorrow.release();
  t.notOk(readdirSync(at()).includes('postern-deleted.x'));
  t.strictSame(readdirSync(at('tmp')), []);
  await box.close();
  await second.close();
  user.release();
});
