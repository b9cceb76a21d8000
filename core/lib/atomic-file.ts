// Durability is this one file. What it promises: once a promise here resolves, the bytes and the name survive a power
// cut; when it rejects, neither the new name nor a temporary file is left behind. The order is always: write the body,
// fsync it, give it its name (rename or link), fsync the directory. A failed fsync is never tried again on the same
// file: the kernel may have dropped the pages and would then report success for bytes that are gone.
import { type FileHandle, link, open, rename, unlink } from 'node:fs/promises';
import path from 'node:path';

export type OpenFile = Pick<FileHandle, 'write' | 'sync' | 'close'>;

/** The system calls in use; a test hands in others to make the disk full or broken. */
export interface FileOps {
  open(file: string, flags: string, mode?: number): Promise<OpenFile>;
  rename(from: string, to: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  unlink(file: string): Promise<void>;
}
export const systemFileOps: FileOps = { open, rename, link, unlink };

export type Bytes = Buffer | string | Iterable<Buffer> | AsyncIterable<Buffer>;

export interface WriteOptions {
  /** Permission bits; default 0o600. */
  readonly mode?: number;
  /** Where the bytes lie until they are complete; same file system. Default: beside the target, a hidden name. */
  readonly temporary?: string;
}

export interface DurableFiles {
  /** Writes `file` or replaces it: readers see the old content or the new, never a part. */
  write(file: string, bytes: Bytes, options?: WriteOptions): Promise<void>;
  /** As `write`, but rejects with code EEXIST where the name is taken (never overwrites, even in a race). */
  writeNew(file: string, bytes: Bytes, options?: WriteOptions): Promise<void>;
  /** Creates `file` (EEXIST where it is there), writes and fsyncs it. Its name is durable only after `syncDirectory`. */
  writeSynced(file: string, bytes: Bytes, mode?: number): Promise<void>;
  /** Renames, over an existing file too, and makes that durable in both directories. */
  rename(from: string, to: string): Promise<void>;
  /** A second name for a file that is synced already; durable. EEXIST where the name is taken. */
  link(from: string, to: string): Promise<void>;
  /** Removes a name durably. A name that is gone already is no error. */
  remove(file: string): Promise<void>;
  /**
   * Makes all that was renamed, linked or removed in `directory` before this call durable. Calls that come while a
   * sync of the same directory is under way share the one that begins after it.
   */
  syncDirectory(directory: string): Promise<void>;
}

async function writeAll(file: OpenFile, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at);
    at += bytesWritten;
  }
}

async function writeSource(file: OpenFile, source: Bytes): Promise<void> {
  if (typeof source === 'string') await writeAll(file, Buffer.from(source, 'utf8'));
  else if (Buffer.isBuffer(source)) await writeAll(file, source);
  else for await (const chunk of source) await writeAll(file, chunk);
}

/** Removal on the way out of a failure: the failure itself is what the caller must hear. */
const discard = (ops: FileOps, file: string): Promise<void> => ops.unlink(file).catch(() => undefined);

const codeOf = (error: unknown): unknown => (error as NodeJS.ErrnoException | undefined)?.code;

/** fsync of a directory; some network file systems have none and answer EINVAL, which cannot be helped. */
async function syncNow(ops: FileOps, directory: string): Promise<void> {
  const handle = await ops.open(directory, 'r');
  try {
    await handle.sync();
  } catch (error) {
    if (codeOf(error) !== 'EINVAL') throw error;
  } finally {
    await handle.close();
  }
}

interface PendingSync {
  running: Promise<void>;
  next?: Promise<void>;
}

function createDirectorySync(ops: FileOps): (directory: string) => Promise<void> {
  const pending = new Map<string, PendingSync>();
  const start = (directory: string): Promise<void> => {
    const running = syncNow(ops, directory);
    const entry: PendingSync = { running };
    pending.set(directory, entry);
    const settled = (): void => {
      if (!entry.next) pending.delete(directory);
    };
    running.then(settled, settled);
    return running;
  };
  return directory => {
    const key = path.resolve(directory);
    const entry = pending.get(key);
    if (!entry) return start(key);
    // The one under way may have passed the caller's rename already; that it failed says nothing about the next.
    entry.next ??= entry.running.catch(() => undefined).then(() => start(key));
    return entry.next;
  };
}

/** One per process is best (the directory syncs are shared through it); several are harmless. */
export function createDurableFiles(ops: FileOps = systemFileOps): DurableFiles {
  const syncDirectory = createDirectorySync(ops);
  let serial = 0;

  const writeSynced = async (file: string, bytes: Bytes, mode = 0o600): Promise<void> => {
    const handle = await ops.open(file, 'wx', mode);
    try {
      try {
        await writeSource(handle, bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      await discard(ops, file);
      throw error;
    }
  };

  const temporaryFor = (file: string): string =>
    path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.${Date.now().toString(36)}.${serial++}.tmp`);

  const writeThrough = async (file: string, bytes: Bytes, options: WriteOptions, replace: boolean): Promise<void> => {
    const temporary = options.temporary ?? temporaryFor(file);
    await writeSynced(temporary, bytes, options.mode);
    try {
      if (replace) await ops.rename(temporary, file);
      else await ops.link(temporary, file);
    } catch (error) {
      await discard(ops, temporary);
      throw error;
    }
    if (!replace) await discard(ops, temporary);
    try {
      await syncDirectory(path.dirname(file));
    } catch (error) {
      // A new name must not appear after the caller was told that it failed; a replaced file cannot be brought back.
      if (!replace) await discard(ops, file);
      throw error;
    }
  };

  return {
    write: (file, bytes, options = {}) => writeThrough(file, bytes, options, true),
    writeNew: (file, bytes, options = {}) => writeThrough(file, bytes, options, false),
    writeSynced,
    async rename(from, to) {
      await ops.rename(from, to);
      const folders = new Set([path.dirname(path.resolve(from)), path.dirname(path.resolve(to))]);
      await Promise.all([...folders].map(syncDirectory));
    },
    async link(from, to) {
      await ops.link(from, to);
      await syncDirectory(path.dirname(to));
    },
    async remove(file) {
      try {
        await ops.unlink(file);
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
      }
      await syncDirectory(path.dirname(file));
    },
    syncDirectory,
  };
}
