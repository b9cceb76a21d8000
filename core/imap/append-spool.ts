// Messages on their way in with APPEND: memory up to a threshold, else a file of their own, removed when the command is
// through. Files carry the number of their process; those of processes that are gone are removed when a server starts.
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Rope } from '../mail/rope.ts';

const prefix = 'imap-append-';

export interface Spooled {
  readonly rope: Rope;
  /** Harmless when repeated. */
  remove(): Promise<void>;
}

export interface AppendSpool {
  /** Makes the folder, removes what earlier processes left. */
  prepare(): Promise<void>;
  /** Takes `size` bytes from `next`, which is asked for at most `left` bytes at a time. */
  take(size: number, next: (left: number) => Promise<Buffer>): Promise<Spooled>;
}

export function appendSpool(folder: string, memoryBytes: number): AppendSpool {
  return {
    async prepare() {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      for (const name of await readdir(folder)) if (isOrphan(name)) await rm(path.join(folder, name), { force: true });
    },
    take: (size, next) => (size <= memoryBytes ? toMemory(size, next) : toFile(folder, size, next)),
  };
}

/** Other listeners of this process, and other processes, may be at work in the same folder. */
function isOrphan(name: string): boolean {
  const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : Number.NaN;
  if (Number.isNaN(pid) || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

async function toMemory(size: number, next: (left: number) => Promise<Buffer>): Promise<Spooled> {
  const bytes = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; ) at += (await next(size - at)).copy(bytes, at);
  return { rope: { size, pieces: [bytes] }, remove: async () => undefined };
}

async function toFile(folder: string, size: number, next: (left: number) => Promise<Buffer>): Promise<Spooled> {
  const file = path.join(folder, `${prefix}${process.pid}-${randomBytes(12).toString('hex')}`);
  const handle = await open(file, 'wx', 0o600);
  try {
    for (let at = 0; at < size; ) {
      const chunk = await next(size - at);
      await handle.writeFile(chunk);
      at += chunk.length;
    }
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  return { rope: { size, pieces: [{ file, start: 0, end: size }] }, remove: () => rm(file, { force: true }) };
}
