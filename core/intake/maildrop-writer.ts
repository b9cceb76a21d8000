// Puts a message into the maildrop. Resolves once it is durable: bytes and name synced, whether or not a gateway runs.
import { chmod, mkdir, open, rename, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { createDurableFiles, type FileOps, systemFileOps } from '../lib/atomic-file.ts';
import { randomId } from '../lib/random-id.ts';
import { type MaildropEnvelope, maildropFileMode, maildropMode, maildropName, writeEnvelope } from './maildrop-file.ts';

/** Makes the folder with its mode; one that is there keeps what the administrator gave it. */
export async function ensureMaildrop(folder: string): Promise<void> {
  const present = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (present) return;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  // `mkdir` is subject to the umask.
  await chmod(folder, maildropMode);
}

/** @returns the id. Rejects with nothing left behind. */
export async function dropMail(
  folder: string,
  envelope: MaildropEnvelope,
  message: AsyncIterable<Buffer> | Iterable<Buffer>,
  now: number,
  ops: FileOps = systemFileOps,
): Promise<string> {
  const id = randomId(now);
  const durable = createDurableFiles(ops);
  const part = path.join(folder, `${id}.part`);
  async function* bytes(): AsyncGenerator<Buffer> {
    yield writeEnvelope(envelope);
    yield* message;
  }
  await durable.writeSynced(part, bytes(), maildropFileMode);
  try {
    // The umask of the caller may have taken the group's right to read.
    await chmod(part, maildropFileMode);
    const handle = await open(part, 'r');
    await handle.sync().finally(() => handle.close());
    await rename(part, path.join(folder, maildropName(id)));
  } catch (error) {
    await unlink(part).catch(() => undefined);
    throw error;
  }
  await durable.syncDirectory(folder);
  return id;
}
