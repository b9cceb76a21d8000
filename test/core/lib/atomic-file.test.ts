import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { createDurableFiles, type FileOps, type OpenFile, systemFileOps } from '../../../core/lib/atomic-file.ts';

const newFolder = (): string => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-atomic-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
};

type Step = 'open' | 'write' | 'sync' | 'rename' | 'link' | 'unlink' | 'sync-directory';

/** Real files, with the steps recorded and any of them made to fail. */
function faultyOps(fail: (step: Step, file: string) => string | undefined, log: string[] = []): FileOps {
  const check = (step: Step, file: string): void => {
    log.push(`${step} ${path.basename(file).replace(/\.\d+\.\w+\.\d+\.tmp$/, '.tmp')}`);
    const code = fail(step, file);
    if (code) throw Object.assign(new Error(`${code} in ${step}`), { code });
  };
  return {
    async open(file, flags, mode) {
      const isDirectory = flags === 'r';
      if (!isDirectory) check('open', file);
      const handle = await systemFileOps.open(file, flags, mode);
      return {
        write: async (...args: [Buffer, number, number]) => {
          check('write', file);
          // One byte less than asked: a short write is no failure.
          const [bytes, at, length] = args;
          return handle.write(bytes, at, Math.max(length - 1, 1));
        },
        sync: async () => {
          check(isDirectory ? 'sync-directory' : 'sync', file);
          await handle.sync();
        },
        close: () => handle.close(),
      } as OpenFile;
    },
    async rename(from, to) {
      check('rename', to);
      await systemFileOps.rename(from, to);
    },
    async link(from, to) {
      check('link', to);
      await systemFileOps.link(from, to);
    },
    async unlink(file) {
      check('unlink', file);
      await systemFileOps.unlink(file);
    },
  };
}

t.test('a file is written, synced, named, and its directory synced, in this order', async t => {
  const folder = newFolder();
  const file = path.join(folder, 'a');
  const log: string[] = [];
  const files = createDurableFiles(faultyOps(() => undefined, log));
  await files.write(file, 'hello');
  const directory = `sync-directory ${path.basename(folder)}`;
  t.same(
    log.filter(step => !step.startsWith('write')),
    ['open .a.tmp', 'sync .a.tmp', 'rename a', directory],
  );
  t.equal(readFileSync(file, 'utf8'), 'hello');
  t.equal(statSync(file).mode & 0o777, 0o600);
  await files.write(file, [Buffer.from('b'), Buffer.from('ye')], { mode: 0o640 });
  t.equal(readFileSync(file, 'utf8'), 'bye');
  await t.rejects(files.writeNew(file, 'x'), { code: 'EEXIST' });
  async function* chunks() {
    yield Buffer.from('str');
    yield Buffer.from('eam');
  }
  await files.writeNew(path.join(folder, 'b'), chunks());
  t.equal(readFileSync(path.join(folder, 'b'), 'utf8'), 'stream');
  await files.link(file, path.join(folder, 'c'));
  await files.rename(path.join(folder, 'c'), path.join(folder, 'd'));
  await files.remove(file);
  await files.remove(file);
  t.same(readdirSync(folder).sort(), ['b', 'd']);
});

t.test('whatever fails, neither a new name nor a temporary file is left', async t => {
  for (const step of ['open', 'write', 'sync', 'rename', 'link', 'sync-directory'] as const)
    for (const code of ['ENOSPC', 'EIO']) {
      const folder = newFolder();
      writeFileSync(path.join(folder, 'old'), 'old');
      const files = createDurableFiles(faultyOps(at => (at === step ? code : undefined)));
      const file = path.join(folder, 'new');
      if (step !== 'rename') {
        await t.rejects(files.writeNew(file, 'x'), { code }, `writeNew: ${code} in ${step}`);
        t.same(readdirSync(folder), ['old']);
      }
      if (step !== 'link') {
        await t.rejects(files.write(path.join(folder, 'old'), 'x'), { code }, `write: ${code} in ${step}`);
        t.same(readdirSync(folder), ['old']);
        if (step !== 'sync-directory') t.equal(readFileSync(path.join(folder, 'old'), 'utf8'), 'old');
      }
    }
});

t.test('a source that fails leaves nothing', async t => {
  const folder = newFolder();
  async function* broken() {
    yield Buffer.from('half');
    throw new Error('client gone');
  }
  await t.rejects(createDurableFiles().write(path.join(folder, 'a'), broken()), { message: 'client gone' });
  t.same(readdirSync(folder), []);
});

t.test('a file system without directory fsync is no failure', async t => {
  const folder = newFolder();
  const files = createDurableFiles(faultyOps(step => (step === 'sync-directory' ? 'EINVAL' : undefined)));
  await files.write(path.join(folder, 'a'), 'x');
  t.same(readdirSync(folder), ['a']);
});

t.test('directory syncs are shared, and never with one that began before the call', async t => {
  const folder = newFolder();
  let begun = 0;
  let release: (() => void)[] = [];
  const ops: FileOps = {
    ...systemFileOps,
    open: async () =>
      ({
        sync: () => {
          begun++;
          return new Promise<void>(resolve => release.push(resolve));
        },
        close: async () => undefined,
      }) as unknown as OpenFile,
  };
  const settle = (): void => {
    const waiting = release;
    release = [];
    for (const resolve of waiting) resolve();
  };
  const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));
  const files = createDurableFiles(ops);
  const first = files.syncDirectory(folder);
  await turn();
  const others = Array.from({ length: 100 }, () => files.syncDirectory(`${folder}/`));
  await turn();
  t.equal(begun, 1);
  settle();
  await first;
  await turn();
  t.equal(begun, 2, 'a hundred callers share the second');
  const third = files.syncDirectory(folder);
  settle();
  await Promise.all(others);
  await turn();
  t.equal(begun, 3);
  settle();
  await third;
  const fourth = files.syncDirectory(folder);
  await turn();
  t.equal(begun, 4);
  settle();
  await fourth;
});

t.test('a sync that fails fails for those who waited for it and not for the next', async t => {
  const folder = newFolder();
  let broken = true;
  const files = createDurableFiles(faultyOps(step => (step === 'sync-directory' && broken ? 'EIO' : undefined)));
  const first = files.syncDirectory(folder);
  const second = files.syncDirectory(folder);
  await t.rejects(first, { code: 'EIO' });
  broken = false;
  await second;
  await files.syncDirectory(folder);
});
