// Every step of writing fails once, in every way a disk fails. The caller hears of it, nothing half-done stays in sight,
// and the next try succeeds.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import t from 'tap';
import { type Disk, realDisk } from '../../../core/mailstore/disk.ts';
import type { FolderState } from '../../../core/mailstore/index-schema.ts';
import { MailboxError } from '../../../core/mailstore/mailbox.ts';
import { createMaildirStore } from '../../../core/mailstore/maildir-store.ts';
import { createMessageFiles } from '../../../core/mailstore/message-file.ts';
import { createStructureCache } from '../../../core/mailstore/structure-cache.ts';
import type { UserIndex } from '../../../core/mailstore/user-index.ts';
import { until } from '../../harness/gateway-files.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { root } from '../../harness/root.ts';
import { mail, openStore, rope } from './store-harness.ts';

type Operation =
  | 'create'
  | 'createSynced'
  | 'write'
  | 'writeOff'
  | 'writeLong'
  | 'sync'
  | 'rename'
  | 'link'
  | 'openAppend';
const operations: readonly Operation[] = [
  'create',
  'createSynced',
  'write',
  'writeOff',
  'writeLong',
  'sync',
  'rename',
  'link',
  'openAppend',
];

interface Fault {
  readonly operation: Operation;
  /** The how-manieth call fails, from 0. */
  readonly at: number;
  readonly code: string;
}

/** A disk on which one call fails, once armed. `fired` tells whether it came to that. */
function faultyDisk(): { readonly disk: Disk; arm(fault: Fault | undefined): void; fired(): boolean } {
  let armed: Fault | undefined;
  let count = 0;
  let hit = false;
  const check = (operation: Operation): void => {
    if (armed?.operation !== operation || count++ !== armed.at) return;
    hit = true;
    throw Object.assign(new Error(`${armed.code}: ${operation}`), { code: armed.code });
  };
  const failing = <Args extends readonly unknown[], Result>(
    operation: Operation,
    work: (...args: Args) => Result,
  ): ((...args: Args) => Result) => {
    return (...args) => {
      check(operation);
      return work(...args);
    };
  };
  const failingLater = <Args extends readonly unknown[], Result>(
    operation: Operation,
    work: (...args: Args) => Promise<Result>,
  ): ((...args: Args) => Promise<Result>) => {
    return async (...args) => {
      check(operation);
      return work(...args);
    };
  };
  const disk: Disk = {
    ...realDisk,
    create: failing('create', realDisk.create),
    createSynced: failing('createSynced', realDisk.createSynced),
    write(fd, pieces) {
      // Like a full disk: a part is written, then no more.
      if (armed?.operation === 'write' && count === armed.at && pieces[0])
        realDisk.write(fd, [pieces[0].subarray(0, 3)]);
      check('write');
      realDisk.write(fd, pieces);
    },
    writeOff: failingLater('writeOff', realDisk.writeOff),
    writeLong: failingLater('writeLong', realDisk.writeLong),
    sync: failingLater('sync', realDisk.sync),
    rename: failing('rename', realDisk.rename),
    link: failing('link', realDisk.link),
    openAppend: failing('openAppend', realDisk.openAppend),
  };
  return {
    disk,
    arm(fault) {
      armed = fault;
      count = 0;
      if (fault) hit = false;
    },
    fired: () => hit,
  };
}

const maildirs = (base: string): readonly string[] =>
  ['alice', 'bob', 'carol'].flatMap(user =>
    ['tmp', 'new', 'cur'].flatMap(part => {
      const folder = path.join(base, user, part);
      return existsSync(folder) ? readdirSync(folder).map(name => `${user}/${part} ${name}`) : [];
    }),
  );

t.test('delivery', async t => {
  const { disk, arm, fired } = faultyDisk();
  const { store, base } = openStore(t, { disk });
  const form = rope(mail('some'));
  const long = rope(mail('long', 100_000));
  const everybody = [{ user: 'alice' }, { user: 'bob' }, { user: 'carol' }];
  await store.deliver(form, everybody);
  let faults = 0;
  for (const [what, targets] of [
    [form, everybody.slice(0, 1)],
    [long, everybody.slice(0, 1)],
    [form, everybody],
  ] as const)
    for (const code of ['ENOSPC', 'EDQUOT', 'EIO', 'EACCES', 'EROFS'])
      for (const operation of operations)
        for (let at = 0; at < 8; at++) {
          const before = maildirs(base);
          arm({ operation, at, code });
          const results = await store.deliver(what, targets);
          arm(undefined);
          if (!fired()) break;
          faults++;
          const full = code === 'ENOSPC' || code === 'EDQUOT';
          const after = maildirs(base);
          const stored = results.filter(result => result.kind === 'stored').length;
          t.ok(
            results.every(result => result.kind === 'stored' || (result.kind === 'tempfail' && result.full === full)),
          );
          t.equal(after.length, before.length + stored, `${operation} ${at} ${code}: exactly what was promised`);
          t.notOk(
            after.some(name => name.includes('/tmp ')),
            'nothing is left in tmp/',
          );
        }
  t.ok(faults > 50);
  for (const name of maildirs(base)) {
    const [folder, file] = name.split(' ');
    const { size } = statSync(path.join(base, folder ?? '', file ?? ''));
    if (size !== form.size && size !== long.size) t.fail(`${name} is not whole`);
  }
});

t.test('delivery by link and across file systems', async t => {
  const { disk, arm } = faultyDisk();
  const { store, at, base } = openStore(t, { disk });
  const form = rope(mail('one for all'));
  const targets = [
    { user: 'alice' },
    { user: 'bob' },
    { user: 'carol', mailbox: 'None' },
    { user: 'carol', mailbox: 'a/b', create: true, flags: 1 },
  ];
  t.match(await store.deliver(form, targets), [
    { kind: 'stored' },
    { kind: 'stored' },
    { kind: 'nomailbox' },
    { kind: 'stored' },
  ]);
  const [file = ''] = readdirSync(at('new'));
  t.equal(statSync(at('new', file)).nlink, 3, 'written once');
  t.match(readdirSync(path.join(base, 'carol', '.a.b', 'cur')), [/:2,S$/]);
  arm({ operation: 'link', at: 1, code: 'EXDEV' });
  t.match(await store.deliver(form, targets.slice(0, 2)), [{ kind: 'stored' }, { kind: 'stored' }]);
  arm(undefined);
  const bob = path.join(base, 'bob', 'new');
  t.strictSame(
    // `M<usec>` has no leading zeroes: names of one second are not sorted by time.
    readdirSync(bob)
      .map(name => [statSync(path.join(bob, name)).nlink, readFileSync(path.join(bob, name), 'utf8')] as const)
      .sort(([one], [other]) => other - one),
    [
      [3, mail('one for all')],
      [1, mail('one for all')],
    ],
    'a copy where there can be no link',
  );
  t.strictSame(
    maildirs(base).filter(name => name.includes('/tmp ')),
    [],
  );
});

t.test('sessions', async t => {
  const { disk, arm, fired } = faultyDisk();
  const { store, at } = openStore(t, { disk });
  const user = await store.user('alice');
  await user.create('Other');
  const box = await user.open('INBOX');
  const other = await user.open('Other');
  const bytes = mail('kept');
  for (let i = 0; i < 3; i++) await box.append(rope(bytes), bytes.length, {});
  const uids = box.records.map(record => record.uid);
  let serial = 0;
  const works: readonly (() => Promise<unknown>)[] = [
    () => box.append(rope(bytes), bytes.length, { internalDate: 1 }),
    () => box.append(Readable.from([Buffer.from(bytes)]), bytes.length, { keywords: [`new${serial++ % 20}`] }),
    () => box.copy(uids, other),
    () => box.store(uids, { mode: serial++ % 2 ? 'add' : 'remove', flags: 5, keywords: [] }),
    () => store.deliver(rope(bytes), [{ user: 'alice' }]).then(() => box.sync()),
    () => user.create(`Folder ${serial++}`),
    () => user.subscribe(`Folder ${serial++}`, true),
  ];
  let faults = 0;
  for (const work of works)
    for (const code of ['ENOSPC', 'EIO'])
      for (const operation of operations)
        for (let nth = 0; nth < 6; nth++) {
          arm({ operation, at: nth, code });
          await work().catch(() => undefined);
          arm(undefined);
          if (!fired()) break;
          faults++;
          await box.sync();
          await other.sync();
          for (const [folder, one] of [
            ['', box],
            ['.Other', other],
          ] as const) {
            const files = readdirSync(at(folder, 'cur')).length + readdirSync(at(folder, 'new')).length;
            if (files !== one.records.length)
              t.fail(`${operation} ${nth} ${code}: ${files} files, ${one.records.length} records`);
            const seen = new Set(one.records.map(record => record.uid));
            if (seen.size !== one.records.length) t.fail('a UID twice');
            if (readdirSync(at(folder, 'tmp')).length > 0) t.fail(`${operation} ${nth} ${code}: left in tmp/`);
          }
          if (existsSync(at('dovecot-uidlist.lock'))) t.fail('the lock is left');
        }
  t.ok(faults > 40, `${faults} faults`);
  t.ok(other.records.length % 3 === 0, 'a copy is of all or none');
  for (const record of box.records) {
    const message = await box.message(record.uid);
    if (message?.size !== bytes.length) t.fail('a message is not whole');
  }
  await t.rejects(box.append(Readable.from([Buffer.alloc(100)]), 50, {}), 'longer than announced');
  await t.rejects(box.append(Readable.from([Buffer.alloc(100)]), 500, {}), 'shorter than announced');
  t.strictSame(readdirSync(at('tmp')), []);
  await box.close();
  await other.close();
  user.release();
});

t.test('a writer is killed at any moment', { timeout: 300_000 }, async t => {
  const base = mkdtempSync(path.join(tmpdir(), 'postern-killed-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  mkdirSync(base, { recursive: true });
  const promised = new Set<string>();
  const uidOf = new Map<string, number>();
  for (let round = 0; round < 8; round++) {
    // Two processes on one Maildir, killed one after the other.
    const children = ['a', 'b'].map(name => {
      const child = fork(path.join(root, 'build/test/core/mailstore/busy-writer.js'), [base, `${round}${name}`], {
        execArgv: [],
        stdio: 'inherit',
      });
      child.on('message', (message: readonly [string, number]) => {
        promised.add(message[0]);
        if (message[1] > 0) uidOf.set(message[0], message[1]);
      });
      return { child, ended: once(child, 'exit') };
    });
    await Promise.all(children.map(({ child }) => once(child, 'message')));
    for (const { child, ended } of children) {
      await new Promise(resolve => setTimeout(resolve, 20 + round * 23));
      child.kill('SIGKILL');
      await ended;
    }
    const store = createMaildirStore({ maildirOf: name => path.join(base, name), host: 'mx.test' });
    const user = await store.user('alice');
    const box = await user.open('INBOX');
    const found = new Map<string, number>();
    for (const record of box.records) {
      const bytes = await (await box.message(record.uid))?.bytes();
      const subject = /Subject: (\S+)\r\n/.exec(bytes?.toString() ?? '')?.[1] ?? '';
      if (bytes?.toString() !== mail(subject)) t.fail(`${subject} is not whole`);
      if (found.has(subject)) t.fail(`${subject} is there twice`);
      found.set(subject, record.uid);
    }
    t.strictSame(
      [...promised].filter(subject => !found.has(subject)),
      [],
      `round ${round}: ${promised.size} promised, none lost`,
    );
    t.strictSame(
      [...uidOf].filter(([subject, uid]) => found.get(subject) !== uid),
      [],
      'UIDs are what was told',
    );
    for (const [subject, uid] of found) uidOf.set(subject, uid);
    await box.close();
    user.release();
    await store.close();
  }
  t.comment(`${promised.size} messages promised over 16 kills`);
});

t.test('two who open one large message at the same time both read it', async t => {
  const folder = t.testdir({ message: mail('large', 20_000), lf: mail('large', 20_000).replaceAll('\r\n', '\n') });
  const size = Buffer.byteLength(mail('large', 20_000));
  const tmp = path.join(folder, 'tmp');
  mkdirSync(tmp);
  let serial = 0;
  const files = createMessageFiles(
    realDisk,
    () => tmp,
    () => `${serial++}`,
  );
  for (const [uid, name] of ['message', 'lf'].entries()) {
    const file = path.join(folder, name);
    const both = await Promise.all([files.open(uid, file, size), files.open(uid, file, size)]);
    for (const message of both) t.equal((await message?.bytes())?.length, size);
  }
  t.equal(readdirSync(tmp).length, 2, 'one file each');
  const gone = path.join(folder, 'gone');
  const late = createMessageFiles(
    { ...realDisk, stat: () => realDisk.stat(path.join(folder, 'lf')) },
    () => tmp,
    () => `late${serial++}`,
  );
  t.equal(await late.open(3, gone, size), undefined);
  files.clear();
  t.same(readdirSync(tmp), [], 'nothing is left of what could not be read');
});

t.test('one who idles hears of new mail although the first look for it failed', async t => {
  let broken = false;
  let failures = 0;
  const clock = heldClock(Date.now());
  const disk: Disk = {
    ...realDisk,
    list(folder) {
      if (!broken) return realDisk.list(folder);
      failures += 1;
      return Promise.reject(Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' }));
    },
  };
  const { store } = openStore(t, { disk, clock });
  const user = await store.user('alice');
  const inbox = await user.open('INBOX');
  let heard = 0;
  const end = inbox.onChange(() => {
    heard += 1;
  });
  broken = true;
  await store.deliver(rope(mail('one')), [{ user: 'alice' }]);
  // By the delivery, and by the watch.
  await until(() => failures >= 2, 'the looks to fail');
  broken = false;
  clock.move(5000);
  await until(() => heard > 0, 'the news');
  t.equal(inbox.records.length, 1);
  end();
  await inbox.close();
  user.release();
});

t.test('what was parsed is let go where the index is just being replaced', async t => {
  let replaced = false;
  const index = {
    row: () => ({}),
    cached: () => undefined,
    putCached: () => undefined,
  } as unknown as UserIndex;
  const cache = createStructureCache(index, () => {
    if (replaced) throw new MailboxError('unavailable', 'Mailbox is not loaded');
    return { id: 1, uidValidity: 1 } as FolderState;
  });
  cache.put(1, 'key', 'value');
  replaced = true;
  // By its timer: nobody would catch it there.
  t.doesNotThrow(() => cache.flush());
});
