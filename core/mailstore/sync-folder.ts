// Takes in what happened on disk: new mail gets UIDs, flags follow file names, what is gone is noted. Three `stat`s tell
// that nothing happened; new mail alone costs as much as there is of it; only a change in `cur/` that is not ours makes
// us look at every name. Runs inside `folder.alone`.
import path from 'node:path';
import { withDotlock } from './dotlock.ts';
import { readTail, splitName } from './file-name.ts';
import type { Folder } from './folder.ts';
import type { FileRow } from './index-schema.ts';
import { MailboxError } from './mailbox.ts';
import { measureFiles } from './measure-file.ts';
import type { MergeResult } from './merge-uids.ts';
import { mergeUids } from './merge-uids.ts';
import type { RowChange, StatePatch } from './row-change.ts';
import { listStampOf } from './row-change.ts';
import type { Place, Scan } from './scan-folder.ts';
import { listFiles, moveToCur, scanFolder, trusted } from './scan-folder.ts';
import { appendUids, readUidFile, rewriteUids, uidFile } from './uid-file.ts';
import type { UidList } from './uid-list.ts';

const rowsAtOnce = 5000;

/** `move`: a session that may write is looking, so new mail moves to `cur/`. */
export async function syncFolder(folder: Folder, move: boolean): Promise<void> {
  const { disk, clock } = folder.parts;
  const inNew = disk.stat(path.join(folder.path, 'new'));
  const inCur = disk.stat(path.join(folder.path, 'cur'));
  if (!inNew || !inCur) return missingFolder(folder);
  const { state } = folder;
  const list = listStampOf(disk.stat(uidFile(folder.path)));
  const curSame = state.curStamp !== 0 && state.curStamp === inCur.mtimeMs;
  const due = state.recheckAt !== 0 && clock.now() >= state.recheckAt;
  if (!curSame || due || list !== state.listStamp) return syncAll(folder, move);
  const newSame = state.newStamp !== 0 && state.newStamp === inNew.mtimeMs;
  if (newSame && !(move && folder.index.rowsInNew(state.id).length > 0)) return;
  if (!(await syncNew(folder, move, trusted(inNew.mtimeMs, clock.now())))) await syncAll(folder, move);
}

/** Another program removed the folder, or only a part of it, which Maildir readers mend. */
async function missingFolder(folder: Folder): Promise<void> {
  const { disk } = folder.parts;
  if (folder.directory !== '' && !disk.stat(folder.path)) {
    folder.index.transaction(() => folder.index.removeFolder(folder.directory));
    folder.markDeleted();
    throw new MailboxError('nonexistent', `Mailbox "${folder.name}" was deleted`);
  }
  for (const part of ['tmp', 'new', 'cur']) disk.makeDirectory(path.join(folder.path, part));
  await syncAll(folder, false);
}

/** False where the rest of the folder changed too. `stamp`: the trusted one of `new/` from before. */
async function syncNew(folder: Folder, move: boolean, stamp: number): Promise<boolean> {
  const { disk, newName } = folder.parts;
  const names = await listFiles(disk, path.join(folder.path, 'new'));
  const known = new Map(folder.index.rowsInNew(folder.state.id).map(row => [row.base, row]));
  const work = (): ReadonlyMap<string, Place> => moveToCur(disk, folder.path, names, newName);
  const { result: moved, patch } = move ? folder.changingCur(work) : { result: placesInNew(names), patch: {} };
  if (patch.curStamp === 0) return false;
  for (const base of known.keys()) if (!moved.has(base)) return false;
  const changes = [...known.values()].flatMap(row => changedPlace(row, moved.get(row.base)));
  const newcomers = await measureNew(
    folder,
    [...moved].filter(([base]) => !known.has(base)),
  );
  // Emptied by us just now: what comes in the same tick of the clock must be seen.
  const newStamp = move && names.length > 0 ? 0 : stamp;
  const patched = { ...patch, newStamp };
  if (newcomers.length > 0) return (await admitFiles(folder, newcomers, patched, { changes })) !== undefined;
  folder.commit(changes, patched);
  return true;
}

function placesInNew(names: readonly string[]): ReadonlyMap<string, Place> {
  return new Map(
    names.map(name => {
      const { base, tail } = splitName(name);
      return [base, { tail, inNew: true }];
    }),
  );
}

/** A file that the index does not know yet. */
export type NewFile = Omit<FileRow, 'uid' | 'modseq'>;

/** What the index must know of files; one that is gone meanwhile is left out. */
async function measureNew(folder: Folder, files: readonly (readonly [string, Place])[]): Promise<readonly NewFile[]> {
  const measures = await measureFiles(
    folder.parts.disk,
    files.map(([base, place]) => ({ base, file: folder.filePath({ base, ...place }) })),
  );
  return files.flatMap(([base, place], at) => {
    const measure = measures[at];
    return measure ? [{ base, ...place, ...readTail(place.tail), ...measure }] : [];
  });
}

/**
 * UIDs for files that nobody has listed yet, in order of their names, by appending to the list. Undefined, and nothing
 * done, where the list changed since we last read it. `durable`: the UIDs are told to a client at once.
 */
export async function admitFiles(
  folder: Folder,
  files: readonly NewFile[],
  patch: StatePatch,
  also: { readonly changes?: readonly RowChange[]; readonly durable?: boolean } = {},
): Promise<readonly number[] | undefined> {
  const { disk } = folder.parts;
  const file = uidFile(folder.path);
  const { uidNext } = folder.state;
  return withDotlock(folder.parts, file, async () => {
    folder.refresh();
    const { uidValidity, listStamp } = folder.state;
    // Another process gave UIDs since our caller put the files there: perhaps to these very files.
    if (folder.state.uidNext !== uidNext) return undefined;
    if (listStamp === '' || listStampOf(disk.stat(file)) !== listStamp) return undefined;
    const list = { uidValidity, uidNext, extra: '', entries: [], appendable: true };
    const merged = mergeUids({ list, known: new Map(), newcomers: files.map(({ base }) => base), uidNext });
    await appendUids(disk, folder.path, merged.append, also.durable ?? false);
    const uids = files.map(({ base }) => merged.assigned.get(base) ?? 0);
    const added = files.map((row, at) => ({ after: { ...row, uid: uids[at] ?? 0, modseq: 0 } }));
    const stamps = { uidNext: merged.uidNext, listStamp: listStampOf(disk.stat(file)) };
    folder.commit([...(also.changes ?? []), ...added], { ...patch, ...stamps });
    return uids;
  });
}

function changedPlace(row: FileRow, place: Place | undefined): readonly RowChange[] {
  if (!place || (place.tail === row.tail && place.inNew === row.inNew)) return [];
  const flags = readTail(place.tail);
  const visible = flags.flags !== row.flags || flags.keywords !== row.keywords;
  return [{ before: row, after: { ...row, ...place, ...flags, modseq: visible ? 0 : row.modseq } }];
}

async function allRows(folder: Folder): Promise<Map<string, FileRow>> {
  const rows = new Map<string, FileRow>();
  for (let after = 0; ; ) {
    const some = folder.index.rows(folder.state.id, after, rowsAtOnce);
    for (const row of some) rows.set(row.base, row);
    if (some.length < rowsAtOnce) return rows;
    after = some.at(-1)?.uid ?? after;
    await new Promise(resolve => setImmediate(resolve));
  }
}

/**
 * A file that is renamed while a directory is listed may be in the list under neither name, and where the directory had changed
 * a moment before, its stamp does not tell. So nobody is missing there after one look, nor where two looks differ.
 */
async function lookTwice(folder: Folder, move: boolean, rows: ReadonlyMap<string, FileRow>): Promise<Scan> {
  const first = await scanFolder(folder.parts, folder.path, move);
  if (!first.calm || first.settled || [...rows.keys()].every(base => first.files.has(base))) return first;
  const second = await scanFolder(folder.parts, folder.path, false);
  const differ = [...rows.keys()].some(base => first.files.has(base) && !second.files.has(base));
  return { ...second, moved: first.moved, calm: second.calm && !differ };
}

async function syncAll(folder: Folder, move: boolean): Promise<void> {
  const { disk, clock } = folder.parts;
  const start = clock.monotonic();
  // Measured before the lock is taken: files of unknown size have to be read.
  const rows = await allRows(folder);
  const { highestModseq } = folder.state;
  const scan = await lookTwice(folder, move, rows);
  const strangers = [...scan.files].filter(([base]) => !rows.has(base));
  const measured = new Map((await measureNew(folder, strangers)).map(file => [file.base, file]));
  folder.readKeywordNames();
  await withDotlock(folder.parts, uidFile(folder.path), async () => {
    const list = readUidFile(disk, folder.path);
    folder.refresh();
    if (list && list.uidValidity !== folder.state.uidValidity) folder.restart(list.uidValidity);
    const { uidNext } = folder.state;
    // Listed by another program after we looked: its file must be seen now, or its UID would be below ours later.
    const late = list?.entries.some(({ uid, base }) => uid >= uidNext && !scan.files.has(base)) ?? false;
    const same = folder.state.highestModseq === highestModseq;
    const now = same ? rows : await allRows(folder);
    const seen = late ? await lookTwice(folder, false, now) : scan;
    await mergeScan(folder, list, seen, measured, now);
  });
  folder.lastScanMs = clock.monotonic() - start;
}

/** Brings list, index and files together. Holds the list's lock. */
async function mergeScan(
  folder: Folder,
  list: UidList | undefined,
  scan: Scan,
  measured: ReadonlyMap<string, NewFile>,
  rows: ReadonlyMap<string, FileRow>,
): Promise<void> {
  const known = new Map<string, number>();
  for (const [base, row] of rows) if (!scan.calm || scan.files.has(base)) known.set(base, row.uid);
  const strangers = [...scan.files].filter(([base]) => !rows.has(base));
  const late = await measureNew(
    folder,
    strangers.filter(([base]) => !measured.has(base)),
  );
  const files = new Map([...measured, ...late.map(file => [file.base, file] as const)]);
  // Seen when we looked, but expunged by another process before we had the lock?
  const newcomers = strangers.flatMap(([base, place]) =>
    files.has(base) && folder.parts.disk.stat(folder.filePath({ base, ...place })) ? [base] : [],
  );
  const merged = mergeUids({ list, known, newcomers, uidNext: folder.state.uidNext });
  await writeList(folder, list?.extra, merged);
  const added = newcomers.flatMap(base => addedRow(files.get(base), scan.files.get(base), merged.assigned.get(base)));
  folder.commit([...keptChanges(folder, rows, scan, merged), ...added], {
    uidNext: merged.uidNext,
    staleLines: merged.staleLines,
    listStamp: listStampOf(folder.parts.disk.stat(uidFile(folder.path))),
    firstRecent: folder.state.firstRecent || firstRecentOf(scan, added, merged.uidNext),
    newStamp: scan.calm ? scan.newStamp : 0,
    curStamp: scan.calm ? scan.curStamp : 0,
    recheckAt: 0,
  });
}

function addedRow(file: NewFile | undefined, place: Place | undefined, uid: number | undefined): readonly RowChange[] {
  if (!file || !place || uid === undefined) return [];
  return [{ after: { ...file, ...place, ...readTail(place.tail), uid, modseq: 0 } }];
}

/**
 * Between our look and the lock another process may have renamed a file and told the index, or added one: what the look
 * says against the index counts only if the disk still says so.
 */
function keptChanges(
  folder: Folder,
  rows: ReadonlyMap<string, FileRow>,
  scan: Scan,
  merged: MergeResult,
): readonly RowChange[] {
  const isThere = (row: Pick<FileRow, 'base' | 'tail' | 'inNew'>): boolean =>
    folder.parts.disk.stat(folder.filePath(row)) !== undefined;
  const changes: RowChange[] = [];
  for (const [base, row] of rows) {
    const place = scan.files.get(base);
    const uid = merged.assigned.get(base);
    if (uid !== undefined) {
      const where = place ?? row;
      changes.push({ before: row, after: { ...row, ...where, ...readTail(where.tail), uid, modseq: 0 } });
    } else if (place) {
      for (const change of changedPlace(row, place)) if (isThere({ base, ...place })) changes.push(change);
    } else if (scan.calm && !isThere(row)) changes.push({ before: row });
  }
  return changes;
}

/** At first contact: what other readers have moved to `cur/` already is not \Recent. */
function firstRecentOf(scan: Scan, added: readonly RowChange[], uidNext: number): number {
  let first = 1;
  for (const { after } of added)
    if (after && !after.inNew && !scan.moved.has(after.base)) first = Math.max(first, after.uid + 1);
  return Math.min(first, uidNext);
}

async function writeList(folder: Folder, extra: string | undefined, merged: MergeResult): Promise<void> {
  if (merged.rewrite) {
    const { uidValidity } = folder.state;
    await rewriteUids(folder.parts, folder.path, {
      uidValidity,
      uidNext: merged.uidNext,
      entries: merged.rewrite,
      extra,
    });
  } else if (merged.append.length > 0) await appendUids(folder.parts.disk, folder.path, merged.append, false);
}
