// `core/lib/atomic-file.ts` over the mail store's disk, so that one place says what durable means and a test's faults reach
// it too. Delivery alone has its own path (`write-form.ts`), of the same order but with fewer hops.
import { createDurableFiles, type DurableFiles, type OpenFile } from '../lib/atomic-file.ts';
import type { Disk } from './disk.ts';
import { hasCode } from './disk.ts';

function openFile(disk: Disk, fd: number): OpenFile {
  const write = async (bytes: Buffer, at: number, length: number) => {
    disk.write(fd, [bytes.subarray(at, at + length)]);
    return { bytesWritten: length, buffer: bytes };
  };
  return {
    write: write as unknown as OpenFile['write'],
    sync: () => disk.sync(fd),
    close: async () => disk.close(fd),
  };
}

export function durableFilesOn(disk: Disk): DurableFiles {
  return createDurableFiles({
    open: async (file, flags, mode) =>
      openFile(disk, flags === 'r' ? disk.openRead(file) : disk.create(file, mode ?? 0o600)),
    rename: async (from, to) => disk.rename(from, to),
    link: async (from, to) => disk.link(from, to),
    unlink: async file => disk.remove(file),
  });
}

/** Removes a file of ours that an operation which failed may or may not have left. */
export function removeQuietly(disk: Disk, file: string): void {
  try {
    disk.remove(file);
  } catch (error) {
    // Reported is the failure that led here. What cannot be removed from `tmp/` is swept up later.
    if (!hasCode(error, 'ENOENT')) return;
  }
}
