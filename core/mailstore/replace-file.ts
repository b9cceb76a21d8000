// A small file is replaced whole: written beside, synced, renamed over. A reader sees the old or the new, never a part.
import { randomBytes } from 'node:crypto';
import type { Disk } from './disk.ts';
import { hasCode } from './disk.ts';

/** Removes a file of ours that an operation which failed may or may not have left. */
export function removeQuietly(disk: Disk, file: string): void {
  try {
    disk.remove(file);
  } catch (error) {
    // Reported is the failure that led here. A file that cannot be removed from `tmp/` is swept up later.
    if (!hasCode(error, 'ENOENT')) return;
  }
}

export async function replaceFile(disk: Disk, file: string, text: string): Promise<void> {
  const beside = `${file}.tmp.${process.pid}.${randomBytes(6).toString('hex')}`;
  const fd = disk.create(beside, 0o600);
  try {
    try {
      disk.write(fd, [Buffer.from(text)]);
      await disk.sync(fd);
    } finally {
      disk.close(fd);
    }
    disk.rename(beside, file);
  } catch (error) {
    removeQuietly(disk, beside);
    throw error;
  }
}
