// Reading and changing `dovecot-uidlist` of one folder, under its lock.
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import type { Disk } from './disk.ts';
import { replaceFile, type StoreParts } from './store-parts.ts';
import type { UidEntry, UidList } from './uid-list.ts';
import { formatEntry, formatUidList, parseUidList } from './uid-list.ts';

export const uidFile = (folder: string): string => path.join(folder, 'dovecot-uidlist');

export function readUidFile(disk: Disk, folder: string): UidList | undefined {
  const text = disk.readText(uidFile(folder));
  return text === undefined ? undefined : parseUidList(text);
}

/** Adds lines; only to a file whose last line is whole. `durable` syncs it, as a UID told to a client must last. */
export async function appendUids(
  disk: Disk,
  folder: string,
  entries: readonly UidEntry[],
  durable: boolean,
): Promise<void> {
  const fd = disk.openAppend(uidFile(folder));
  try {
    disk.write(fd, [Buffer.from(entries.map(formatEntry).join(''))]);
    if (durable) await disk.sync(fd);
  } finally {
    disk.close(fd);
  }
}

export async function rewriteUids(
  parts: StoreParts,
  folder: string,
  list: Omit<UidList, 'appendable' | 'extra'> & { readonly extra?: string | undefined },
): Promise<void> {
  const extra = list.extra || `G${randomBytes(16).toString('hex')}`;
  await replaceFile(parts, uidFile(folder), formatUidList({ ...list, extra }));
}
