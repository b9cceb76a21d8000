// A delivery by way of staging needs one sync; what a power cut left there is restored, what a killed process left is not.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { type Disk, realDisk } from '../../../core/mailstore/disk.ts';
import type { MailStore } from '../../../core/mailstore/mailbox.ts';
import { createMaildirStore } from '../../../core/mailstore/maildir-store.ts';
import { keepsOrder } from '../../../core/mailstore/ordered-disk.ts';
import { openStaging, type Staging } from '../../../core/mailstore/staging.ts';
import { mail, rope } from './store-harness.ts';

const bytes = Buffer.from(mail('some'));
const form = rope(bytes);
const stored = [{ kind: 'stored' }];

interface Opened {
  readonly warnings: string[];
  readonly staging: Staging | undefined;
}

async function open(base: string, disk: Disk = realDisk, boot = 'boot-1', ordered = true): Promise<Opened> {
  const warnings: string[] = [];
  const warn = (text: string): void => void warnings.push(text);
  return { warnings, staging: await openStaging({ root: base, disk, boot, ordered: () => ordered, warn }) };
}

const storeOn = (base: string, disk: Disk, staging: Staging | undefined): MailStore =>
  createMaildirStore({ maildirOf: user => path.join(base, user), host: 'mx.test', disk, ...(staging && { staging }) });

const inNew = (base: string, user = 'alice'): readonly string[] => readdirSync(path.join(base, user, 'new'));
const stagedIn = (base: string): readonly string[] =>
  readdirSync(path.join(base, '.staging')).flatMap(entry =>
    readdirSync(path.join(base, '.staging', entry)).map(name => path.join(base, '.staging', entry, name)),
  );

t.test('one sync, a whole message in new/, nothing left in staging', async t => {
  const syncs: string[] = [];
  const disk: Disk = {
    ...realDisk,
    sync(fd) {
      syncs.push('sync');
      return realDisk.sync(fd);
    },
  };
  const base = t.testdir();
  const { staging } = await open(base, disk);
  t.ok(staging);
  const store = storeOn(base, disk, staging);
  syncs.length = 0;
  t.match(await store.deliver(form, [{ user: 'alice' }]), stored);
  t.same(syncs, [], 'the write syncs itself and the directory need not be');
  const [name = ''] = inNew(base);
  t.same(readFileSync(path.join(base, 'alice/new', name)), bytes);
  t.same(stagedIn(base), []);
  t.match(await store.deliver(form, [{ user: 'alice', flags: 1 }]), stored);
  t.match(await store.deliver(form, [{ user: 'alice' }, { user: 'bob' }]), [...stored, ...stored]);
  t.equal(inNew(base).length, 2);
  t.ok(syncs.length >= 2, 'flags and several recipients go the way of two syncs');
  await store.close();
  t.same(readdirSync(path.join(base, '.staging')), [], 'closing takes the folder away');
});

t.test('a power cut that undid the rename loses nothing', async t => {
  const base = t.testdir();
  const { staging } = await open(base);
  const store = storeOn(base, realDisk, staging);
  await store.deliver(form, [{ user: 'alice' }]);
  await store.deliver(form, [{ user: 'alice', mailbox: 'Lists/Größe', create: true }]);
  const folder = readdirSync(path.join(base, 'alice')).find(name => name.startsWith('.Lists.')) ?? '';
  const own = path.join(base, '.staging', readdirSync(path.join(base, '.staging'))[0] ?? '');
  for (const directory of ['alice', `alice/${folder}`])
    for (const name of readdirSync(path.join(base, directory, 'new')))
      renameSync(path.join(base, directory, 'new', name), path.join(own, `${name} ${encodeURIComponent(directory)}`));
  const [torn = ''] = readdirSync(own);
  writeFileSync(path.join(own, torn.replace('Q', 'Q1')), bytes.subarray(0, 10));
  t.same(inNew(base), []);

  const later = await open(base, realDisk, 'boot-2');
  t.same(later.warnings, []);
  for (const directory of ['alice', `alice/${folder}`]) {
    const [name = '', ...more] = readdirSync(path.join(base, directory, 'new'));
    t.same(more, [], 'once, and not the torn one');
    t.same(readFileSync(path.join(base, directory, 'new', name)), bytes);
  }
  t.same(stagedIn(base), []);
  await later.staging?.close();
});

t.test('what a killed process of this boot left was never acknowledged', async t => {
  const base = t.testdir({ alice: { new: {}, tmp: {}, cur: {} } });
  const name = `1.M1P1Q1.mx,S=${bytes.length},W=${bytes.length} alice`;
  for (const pid of [2 ** 22 + 1, process.ppid]) {
    mkdirSync(path.join(base, `.staging/boot-1.${pid}.7`), { recursive: true });
    writeFileSync(path.join(base, `.staging/boot-1.${pid}.7`, name), bytes);
  }
  const { staging } = await open(base);
  t.same(inNew(base), []);
  t.notOk(existsSync(path.join(base, `.staging/boot-1.${2 ** 22 + 1}.7`)), 'of a process that is gone');
  t.ok(existsSync(path.join(base, `.staging/boot-1.${process.ppid}.7`, name)), 'of one that lives');
  await staging?.close();
});

t.test('what cannot be restored is kept and told', async t => {
  const base = t.testdir({ '.staging': { 'boot-0.1.1': {} } });
  const left = path.join(base, '.staging/boot-0.1.1');
  for (const where of ['nobody', '..%2F..%2Fetc', '%E0%A4%A'])
    writeFileSync(path.join(left, `1.M1P1Q1.mx,S=${bytes.length} ${where}`), bytes);
  const { staging, warnings } = await open(base);
  t.equal(warnings.length, 3);
  t.equal(readdirSync(left).length, 3);
  await staging?.close();
});

t.test('where one sync is not enough, or not certain to be, there are two', async t => {
  const base = t.testdir({ shared: { new: {}, tmp: {}, cur: {} } });
  t.equal((await open(base, realDisk, 'boot-1', false)).staging, undefined, 'unknown file system');
  const { staging } = await open(base);
  const fileFor = (user: string, name: string) =>
    staging?.fileFor(path.join(base, user), realDisk.stat(path.join(base, user, 'tmp')), name);
  t.ok(fileFor('shared', 'x'));
  chmodSync(path.join(base, 'shared/tmp'), 0o2700);
  t.equal(fileFor('shared', 'x'), undefined, 'group of the folder');
  t.equal(fileFor('shared', 'x'.repeat(250)), undefined, 'name too long');
  t.equal(staging?.fileFor('/proc', realDisk.stat(base), 'x'), undefined, 'outside');
  const disk: Disk = {
    ...realDisk,
    rename(from, to) {
      if (from.includes('.staging')) throw Object.assign(new Error('EXDEV'), { code: 'EXDEV' });
      realDisk.rename(from, to);
    },
  };
  const store = storeOn(base, disk, staging);
  t.match(await store.deliver(form, [{ user: 'alice' }]), stored, 'a mount in between');
  t.equal(inNew(base).length, 1);
  t.same(stagedIn(base), []);
  t.equal(fileFor('alice', 'x'), undefined, 'and it is not tried again');
});

t.test('a disk that fails leaves nothing', async t => {
  const base = t.testdir();
  const { staging } = await open(base);
  for (const [operation, code, full] of [
    ['createSynced', 'ENOSPC', true],
    ['writeOff', 'EDQUOT', true],
    ['rename', 'EIO', false],
  ] as const) {
    const disk: Disk = {
      ...realDisk,
      [operation]() {
        throw Object.assign(new Error(code), { code });
      },
    };
    const store = storeOn(base, disk, staging);
    t.match(await store.deliver(form, [{ user: 'alice' }]), [{ kind: 'tempfail', full }], operation);
    t.same([...inNew(base), ...stagedIn(base)], []);
  }
});

t.test('file systems', async t => {
  t.equal(keepsOrder('/proc'), false);
  t.equal(keepsOrder('/dev/shm/not/there'), false);
  t.type(keepsOrder(t.testdir()), 'boolean');
});
