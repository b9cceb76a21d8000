// A message written to a new file and synced: after this the bytes are on the disk, under a name that nobody reads yet.
//
// Measured on ext4 (`bench/deliver.ts`): a small message is cheapest as create, one write that syncs by itself (O_DSYNC)
// in the thread pool, close, rename. Never create and delete a file per message: ext4 does not give out an inode number
// again for minutes and searches past all of those at every create (0.5 ms each after some thousands).
import type { Readable } from 'node:stream';
import { inMemory, type Rope, ropeChunks } from '../mail/rope.ts';
import type { Batches } from './batches.ts';
import type { Disk } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';

/** Up to this size a message in memory is one write. Above the largest that reception holds in memory by default. */
const atOnceBytes = 4 * 1024 * 1024;

/** Above this a message would hold up the others of its batch. */
const batchedBytes = 64 * 1024;

/** Stops reading once more than `limit` came, so that a source that lies cannot fill the disk. */
async function writeChunks(disk: Disk, fd: number, source: AsyncIterable<unknown>, limit: number): Promise<number> {
  let written = 0;
  for await (const chunk of source) {
    const bytes = chunk as Buffer;
    written += bytes.length;
    if (written > limit) break;
    await disk.writeLong(fd, bytes);
  }
  return written;
}

async function fill(disk: Disk, fd: number, source: Rope | Readable, size: number, timeMs?: number): Promise<void> {
  const chunks = 'pieces' in source ? ropeChunks(source) : source;
  const written = await writeChunks(disk, fd, chunks, size);
  if (written !== size) throw new Error(`Message has not the ${size} bytes announced`);
  if (timeMs !== undefined) disk.setTimes(fd, timeMs);
  await disk.sync(fd);
}

/**
 * Writes `source` to `file`, which must not exist, and syncs it. On any failure, also when the source does not have
 * `size` bytes, nothing is left. `batches`: small ones are synced together.
 */
export async function writeForm(
  disk: Disk,
  file: string,
  source: Rope | Readable,
  size: number,
  timeMs?: number,
  batches?: Batches,
): Promise<void> {
  const buffers =
    timeMs === undefined && size <= atOnceBytes && 'pieces' in source && source.size === size
      ? inMemory(source)
      : undefined;
  const batch = buffers && size <= batchedBytes ? batches : undefined;
  const create = (): number => (buffers ? disk.createSynced(file, 0o600) : disk.create(file, 0o600));
  const fd = batch ? await batch.open(create) : create();
  try {
    try {
      if (buffers) await disk.writeOff(fd, buffers);
      else await fill(disk, fd, source, size, timeMs);
    } finally {
      batch?.done();
      disk.close(fd);
    }
  } catch (error) {
    removeQuietly(disk, file);
    throw error;
  }
}
