// Flags and removal. Flags are letters of the file name, so a change is a rename; who renames first wins, and the loser
// looks for the new name. Runs inside `folder.alone`.
import { hasCode } from './disk.ts';
import { readTail, writeTail } from './file-name.ts';
import type { Folder } from './folder.ts';
import type { FileRow } from './index-schema.ts';
import { maskOf } from './keyword-file.ts';
import type { FlagChange, Uid } from './mailbox.ts';
import { flagBits } from './mailbox.ts';
import type { RowChange } from './row-change.ts';
import { syncFolder } from './sync-folder.ts';

/** Others get a turn of the event loop after as many renames. */
const filesAtOnce = 200;

function changedBits(mode: FlagChange['mode'], old: number, bits: number): number {
  if (mode === 'add') return old | bits;
  return mode === 'remove' ? old & ~bits : bits;
}

/** The row after the change; the row itself where it changes nothing. */
function changeRow(row: FileRow, change: FlagChange, mask: number): FileRow {
  const flags = changedBits(change.mode, row.flags, change.flags);
  const keywords = changedBits(change.mode, row.keywords, mask);
  if (flags === row.flags && keywords === row.keywords) return row;
  return { ...row, flags, keywords, tail: writeTail(row.tail, { flags, keywords }), inNew: false, modseq: 0 };
}

interface Outcome {
  readonly changes: readonly RowChange[];
  readonly modified: readonly Uid[];
  /** Files not found under the name we knew. */
  readonly missed: readonly Uid[];
}

function storeSome(
  folder: Folder,
  uids: readonly Uid[],
  change: FlagChange,
  mask: number,
  unchangedSince: number,
): Outcome {
  const changes: RowChange[] = [];
  const modified: Uid[] = [];
  const missed: Uid[] = [];
  for (const uid of uids) {
    const before = folder.index.row(folder.state.id, uid);
    if (!before) continue;
    // RFC 7162 §3.1.3
    if (before.modseq > unchangedSince) {
      modified.push(uid);
      continue;
    }
    const after = changeRow(before, change, mask);
    if (after === before) continue;
    try {
      folder.parts.disk.rename(folder.filePath(before), folder.filePath(after));
      changes.push({ before, after });
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) {
        if (changes.length > 0) folder.commit(changes, { curStamp: 0 });
        throw error;
      }
      missed.push(uid);
    }
  }
  return { changes, modified, missed };
}

async function storeAll(
  folder: Folder,
  uids: readonly Uid[],
  change: FlagChange,
  unchangedSince: number,
): Promise<Pick<Outcome, 'modified' | 'missed'>> {
  const mask = maskOf(folder.keywordNames, change.keywords);
  const modified: Uid[] = [];
  const missed: Uid[] = [];
  for (let at = 0; at < uids.length; at += filesAtOnce) {
    if (at > 0) await new Promise(resolve => setImmediate(resolve));
    const some = uids.slice(at, at + filesAtOnce);
    const { result, patch } = folder.changingCur(() => storeSome(folder, some, change, mask, unchangedSince));
    modified.push(...result.modified);
    missed.push(...result.missed);
    if (result.changes.length > 0) folder.commit(result.changes, patch);
  }
  return { modified, missed };
}

/** Looks at the folder again although its stamps agree: a file was not where it should be. */
export async function lookAgain(folder: Folder): Promise<void> {
  folder.commit([], { curStamp: 0, newStamp: 0 });
  await syncFolder(folder, folder.writers > 0);
}

export async function storeFlags(
  folder: Folder,
  uids: readonly Uid[],
  change: FlagChange,
  unchangedSince = Number.POSITIVE_INFINITY,
): Promise<{ readonly modified: readonly Uid[] }> {
  if (change.mode !== 'remove') await folder.giveLetters(change.keywords);
  const first = await storeAll(folder, uids, change, unchangedSince);
  if (first.missed.length === 0) return { modified: first.modified };
  await lookAgain(folder);
  const second = await storeAll(folder, first.missed, change, unchangedSince);
  return { modified: [...first.modified, ...second.modified].sort((a, b) => a - b) };
}

function removeSome(folder: Folder, uids: readonly number[], mayRemove: (row: FileRow) => boolean) {
  const gone: FileRow[] = [];
  let missed = 0;
  for (const uid of uids) {
    const row = folder.index.row(folder.state.id, uid);
    if (!row || !mayRemove(row)) continue;
    try {
      folder.parts.disk.remove(folder.filePath(row));
      gone.push(row);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) {
        if (gone.length > 0)
          folder.commit(
            gone.map(before => ({ before })),
            { curStamp: 0 },
          );
        throw error;
      }
      missed++;
    }
  }
  return { gone, missed };
}

/**
 * Removes the files of those of `uids` that pass. One that another program renamed or removed meanwhile is looked for
 * once more, with its flags as they are then.
 */
export async function removeMessages(
  folder: Folder,
  uids: readonly number[],
  mayRemove: (row: FileRow) => boolean,
): Promise<readonly FileRow[]> {
  const removed: FileRow[] = [];
  let missed = 0;
  for (let at = 0; at < uids.length; at += filesAtOnce) {
    if (at > 0) await new Promise(resolve => setImmediate(resolve));
    const some = uids.slice(at, at + filesAtOnce);
    const { result, patch } = folder.changingCur(() => removeSome(folder, some, mayRemove));
    removed.push(...result.gone);
    missed += result.missed;
    if (result.gone.length > 0)
      folder.commit(
        result.gone.map(before => ({ before })),
        patch,
      );
  }
  if (missed > 0) {
    await lookAgain(folder);
    const { gone } = removeSome(folder, uids, mayRemove);
    removed.push(...gone);
    folder.commit(
      gone.map(before => ({ before })),
      { curStamp: 0 },
    );
  }
  return removed;
}

export async function expungeMessages(folder: Folder, uids: readonly Uid[] | undefined): Promise<readonly FileRow[]> {
  const deleted = flagBits['\\Deleted'];
  await syncFolder(folder, folder.writers > 0);
  const wanted = uids ?? folder.records.filter(record => record.flags & deleted).map(record => record.uid);
  // The name on disk decides: another program may have taken the flag away.
  return removeMessages(folder, wanted, row => (readTail(row.tail).flags & deleted) !== 0);
}
