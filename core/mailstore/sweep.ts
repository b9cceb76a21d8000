// What processes that were killed have left behind is taken away, once it is certain that nobody works on it.
import path from 'node:path';
import { removeQuietly } from './durable-disk.ts';
import type { StoreParts } from './store-parts.ts';

/** Files that our locks are links to, and folders that are being deleted; the rest of the name is unique. */
export const tokenPrefix = 'postern-lock.';
export const deletedPrefix = 'postern-deleted.';
const leftoverMs = 24 * 60 * 60 * 1000;
/** As Maildir asks for files in `tmp/`. */
const abandonedMs = 36 * 60 * 60 * 1000;

export async function sweepTmp(parts: StoreParts, folder: string): Promise<void> {
  const { disk, clock } = parts;
  const tmp = path.join(folder, 'tmp');
  for (const name of await disk.list(tmp)) {
    const file = path.join(tmp, name);
    const stat = disk.stat(file);
    if (stat && !stat.isDirectory && clock.now() - stat.ctimeMs > abandonedMs) removeQuietly(disk, file);
  }
}

/** An entry of the Maildir's root. Others are left alone. */
export async function sweepLeftover(parts: StoreParts, root: string, entry: string): Promise<void> {
  if (!entry.startsWith(tokenPrefix) && !entry.startsWith(deletedPrefix)) return;
  const { disk, clock, owner } = parts;
  const file = path.join(root, entry);
  const stat = disk.stat(file);
  if (!stat || file === owner.token || clock.now() - stat.ctimeMs < leftoverMs) return;
  if (stat.isDirectory) await disk.removeTree(file);
  else removeQuietly(disk, file);
}
