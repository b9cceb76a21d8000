// A message written to a new file and synced: after this the bytes are on the disk, under a name that nobody reads yet.
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import type { Rope } from '../mail/rope.ts';
import type { Disk } from './disk.ts';
import { removeQuietly } from './replace-file.ts';

/** Up to this size a message is written at once, without a hop through the thread pool. */
const atOnceBytes = 512 * 1024;
const chunkBytes = 256 * 1024;

async function writeRope(disk: Disk, fd: number, rope: Rope): Promise<number> {
  const buffers = rope.pieces.filter(piece => Buffer.isBuffer(piece));
  if (buffers.length === rope.pieces.length && rope.size <= atOnceBytes) {
    disk.write(fd, buffers);
    return rope.size;
  }
  let written = 0;
  for (const piece of rope.pieces) {
    if (Buffer.isBuffer(piece)) {
      await disk.writeLong(fd, piece);
      written += piece.length;
    } else if (piece.end > piece.start) {
      const { file, start, end } = piece;
      written += await writeStream(
        disk,
        fd,
        createReadStream(file, { start, end: end - 1, highWaterMark: chunkBytes }),
        end - start,
      );
    }
  }
  return written;
}

/** Stops reading once more than `limit` came, so that a source that lies cannot fill the disk. */
async function writeStream(disk: Disk, fd: number, source: Readable, limit: number): Promise<number> {
  let written = 0;
  for await (const chunk of source) {
    const bytes = chunk as Buffer;
    written += bytes.length;
    if (written > limit) break;
    await disk.writeLong(fd, bytes);
  }
  return written;
}

/**
 * Writes `source` to `file`, which must not exist, and syncs it. On any failure, also when the source does not have
 * `size` bytes, nothing is left.
 */
export async function writeForm(
  disk: Disk,
  file: string,
  source: Rope | Readable,
  size: number,
  timeMs?: number,
): Promise<void> {
  const fd = disk.create(file, 0o600);
  try {
    try {
      const written =
        'pieces' in source ? await writeRope(disk, fd, source) : await writeStream(disk, fd, source, size);
      if (written !== size) throw new Error(`Message has not the ${size} bytes announced`);
      if (timeMs !== undefined) disk.setTimes(fd, timeMs);
      await disk.sync(fd);
    } finally {
      disk.close(fd);
    }
  } catch (error) {
    removeQuietly(disk, file);
    throw error;
  }
}
