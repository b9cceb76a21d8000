// Brings directories to the disk. Of many callers that changed the same directory one sync serves all: a caller whose
// change came while a sync ran shares the next one.
import type { Disk } from './disk.ts';

export interface FolderSyncer {
  /** Resolves when all changes made to the directory before the call are on the disk. */
  sync(folder: string): Promise<void>;
}

interface Syncing {
  readonly running: Promise<void>;
  next: Promise<void> | undefined;
}

export function createFolderSyncer(disk: Disk): FolderSyncer {
  const busy = new Map<string, Syncing>();

  async function syncOnce(folder: string): Promise<void> {
    const fd = disk.openRead(folder);
    try {
      await disk.sync(fd);
    } finally {
      disk.close(fd);
    }
  }

  function begin(folder: string): Promise<void> {
    const entry: Syncing = { running: syncOnce(folder), next: undefined };
    busy.set(folder, entry);
    const end = (): void => {
      if (busy.get(folder) === entry) busy.delete(folder);
    };
    entry.running.then(end, end);
    return entry.running;
  }

  return {
    sync(folder) {
      const entry = busy.get(folder);
      if (!entry) return begin(folder);
      const again = (): Promise<void> => begin(folder);
      entry.next ??= entry.running.then(again, again);
      return entry.next;
    },
  };
}
