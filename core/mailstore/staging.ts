// Where a message is durable before its name in a Maildir is: a folder beside the Maildirs, one for each running process.
// A new file there is written and synced, and then renamed into `new/`; that rename is not waited for. After a power cut
// the file is under one of the two names (`ordered-disk.ts`), and what is still here is put where its name says. So one
// sync is enough for a delivery, and other programs still see only whole, durable messages in `new/`.
//
// Name of the folder: boot of the machine, process, chance. What an earlier process of the same boot left was never
// acknowledged (it would have been renamed, and memory outlives a process): removed. What another boot left may have been:
// restored if it is whole. Where the order of the file system is not certain there is no staging, and the directory is
// synced as everywhere else.
import { randomInt } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Batches } from './batches.ts';
import type { Disk, FileStat } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';
import { physicalSize } from './file-name.ts';
import { keepsOrder } from './ordered-disk.ts';

export interface Staging {
  readonly batches: Batches;
  /** The name for a message on its way to `new/` of `folder`, with its `tmp/`; undefined where that has to be made durable itself. */
  fileFor(folder: string, tmp: FileStat | undefined, base: string): string | undefined;
  /** There is a mount in between after all: nothing more goes here. */
  giveUp(): void;
  close(): Promise<void>;
}

export interface StagingOptions {
  /** Folder that holds all Maildirs; staging lies in it, so that permissions and file system are theirs. */
  readonly root: string;
  readonly disk: Disk;
  /** Of files that cannot be put where they belong. */
  warn(text: string, details: Readonly<Record<string, unknown>>): void;
  /** For tests. */
  readonly boot?: string;
  readonly ordered?: (folder: string) => boolean;
}

const folderName = '.staging';
/** The size of the thread pool. */
const batchSize = 16;
/** Longest file name of ext4 and xfs, bytes. */
const longestName = 255;
const bootFile = '/proc/sys/kernel/random/boot_id';

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** The folder in a name: relative to the root, and not out of it. */
function folderIn(root: string, name: string): string | undefined {
  try {
    const relative = decodeURIComponent(name.slice(name.indexOf(' ') + 1));
    const folder = path.resolve(root, relative);
    return folder.startsWith(`${root}${path.sep}`) ? folder : undefined;
  } catch {
    return undefined;
  }
}

/** Puts what another boot left where it belongs. Answers how many files could not be. */
async function restore(options: StagingOptions, staged: string): Promise<number> {
  const { disk, root } = options;
  const changed = new Set<string>();
  let kept = 0;
  for (const name of await disk.list(staged)) {
    const file = path.join(staged, name);
    const base = name.split(' ', 1)[0] ?? '';
    const size = disk.stat(file)?.size;
    // Cut off while it was written: nobody was told that it had arrived.
    if (size === undefined || size !== physicalSize(base)) {
      removeQuietly(disk, file);
      continue;
    }
    const folder = folderIn(root, name);
    if (folder === undefined || !disk.stat(path.join(folder, 'new'))) {
      kept++;
      options.warn('A message that was delivered before a crash has no mailbox any more', { file });
      continue;
    }
    try {
      disk.rename(file, path.join(folder, 'new', base));
      changed.add(path.join(folder, 'new'));
    } catch (error) {
      kept++;
      options.warn('A message that was delivered before a crash cannot be restored', { file, err: error });
    }
  }
  for (const folder of changed) await syncFolder(disk, folder);
  return kept;
}

async function syncFolder(disk: Disk, folder: string): Promise<void> {
  const fd = disk.openRead(folder);
  try {
    await disk.sync(fd);
  } finally {
    disk.close(fd);
  }
}

/** What processes that are gone left. */
async function recover(options: StagingOptions, all: string, boot: string): Promise<void> {
  const { disk } = options;
  for (const entry of await disk.list(all)) {
    const [ofBoot, pid] = entry.split('.');
    const staged = path.join(all, entry);
    // Our own number is a predecessor's: in a container every gateway may be pid 1.
    if (ofBoot === boot && Number(pid) !== process.pid && alive(Number(pid))) continue;
    const kept = ofBoot === boot ? 0 : await restore(options, staged);
    if (kept === 0) await disk.removeTree(staged);
  }
}

/** Resolves to undefined where delivery has to do without. What cannot be restored now is tried at the next start. */
export async function openStaging(options: StagingOptions): Promise<Staging | undefined> {
  const { disk, root } = options;
  const boot = options.boot ?? (existsSync(bootFile) ? readFileSync(bootFile, 'latin1').trim() : '');
  const all = path.join(root, folderName);
  const own = path.join(all, `${boot}.${process.pid}.${randomInt(2 ** 40)}`);
  try {
    if (disk.stat(all)) await recover(options, all, boot);
    disk.makeDirectory(root);
    if (boot === '' || !(options.ordered ?? keepsOrder)(root)) return undefined;
    disk.makeDirectory(own);
    for (const folder of [all, root]) await syncFolder(disk, folder);
  } catch (error) {
    options.warn('Delivery goes without staging', { folder: all, err: error });
    return undefined;
  }
  const { dev } = disk.stat(own) ?? {};
  const inRoot = root.endsWith(path.sep) ? root : `${root}${path.sep}`;
  let over = false;
  return {
    batches: new Batches(batchSize),
    fileFor(folder, tmp, base) {
      if (over) return undefined;
      // Another file system; or one whose new files belong to the folder's group, which a rename would not give.
      if (!tmp || tmp.dev !== dev || tmp.givesGroup) return undefined;
      if (!folder.startsWith(inRoot)) return undefined;
      const name = `${base} ${encodeURIComponent(folder.slice(inRoot.length))}`;
      return Buffer.byteLength(name) <= longestName ? `${own}/${name}` : undefined;
    },
    giveUp() {
      over = true;
    },
    close: () => disk.removeTree(own),
  };
}
