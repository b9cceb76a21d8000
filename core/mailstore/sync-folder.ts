// Takes in what happened on disk: new mail gets UIDs, flags follow file names, what is gone is noted. Three `stat`s tell
// that nothing happened; new mail alone costs as much as there is of it; only a change in `cur/` that is not ours makes
// us look at every name. Runs inside `folder.alone`.
import path from 'node:path';
import { withDotlock } from './dotlock.ts';
import { readTail } from './file-name.ts';
import type { Folder, RowChange, StatePatch } from './folder.ts';
import { listStampOf } from './folder.ts';
import { MailboxError } from './mailbox.ts';
import { measureFiles } from './measure-file.ts';
import type { MergeResult } from './merge-uids.ts';
import { mergeUids } from './merge-uids.ts';
import type { Place, Scan } from './scan-folder.ts';
import { listFiles, moveToCur, scanFolder } from './scan-folder.ts';
import { appendUids, readUidFile, rewriteUids, uidFile } from './uid-file.ts';
import type { FileRow } from './user-index.ts';

const rowsAtOnce = 5000;

/** A stamp so young that a change in the same tick of the file system's clock would not show is not trusted. */
export function trusted(mtimeMs: number, nowMs: number): number {
  const tickMs = mtimeMs % 1000 === 0 ? 2000 : 20;
  return nowMs - mtimeMs >= tickMs ? mtimeMs : 0;
}

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
  if (!(await syncNew(folder, move, inNew.mtimeMs))) await syncAll(folder, move);
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

/** False where the rest of the folder changed too. */
async function syncNew(folder: Folder, move: boolean, newMtimeMs: number): Promise<boolean> {
  const { disk, newName, clock } = folder.parts;
  const newPath = path.join(folder.path, 'new');
  const names = await listFiles(disk, newPath);
  const known = new Map(folder.index.rowsInNew(folder.state.id).map(row => [row.base, row]));
  const work = (): ReadonlyMap<string, Place> => moveToCur(disk, folder.path, names, newName);
  const { result: moved, patch } = move ? folder.changingCur(work) : { result: new Map<string, Place>(), patch: {} };
  if (patch.curStamp === 0) return false;
  const places = new Map<string, Place>(moved);
  if (!move)
    for (const name of names) {
      const colon = name.indexOf(':');
      const base = colon < 0 ? name : name.slice(0, colon);
      places.set(base, { tail: name.slice(base.length), inNew: true });
    }
  for (const base of known.keys()) if (!places.has(base)) return false;
  const changes = [...known.values()].flatMap(row => changedPlace(row, places.get(row.base)));
  const newcomers = [...places.keys()].filter(base => !known.has(base));
  const uids = newcomers.length > 0 ? await giveUids(folder, newcomers) : { patch: {}, assigned: new Map() };
  if (!uids) return false;
  // Emptied by us just now, or seen as it is: either way younger changes show in the stamp.
  const newStamp = move && names.length > 0 ? 0 : trusted(newMtimeMs, clock.now());
  const added = await describe(folder, uids.assigned, places);
  folder.commit([...changes, ...added], { ...patch, ...uids.patch, newStamp });
  return true;
}

interface Given {
  readonly assigned: ReadonlyMap<string, number>;
  readonly patch: StatePatch;
}

/** UIDs for files that nobody has listed yet; undefined where the list changed since we last read it. */
export async function giveUids(folder: Folder, bases: readonly string[], durable = false): Promise<Given | undefined> {
  const { disk } = folder.parts;
  const file = uidFile(folder.path);
  return withDotlock(folder.parts, file, async () => {
    const { state } = folder;
    if (state.listStamp === '' || listStampOf(disk.stat(file)) !== state.listStamp) return undefined;
    const list = { uidValidity: state.uidValidity, uidNext: state.uidNext, extra: '', entries: [], appendable: true };
    const merged = mergeUids({ list, known: new Map(), newcomers: bases, uidNext: state.uidNext });
    await appendUids(disk, folder.path, merged.append, durable);
    return { assigned: merged.assigned, patch: { uidNext: merged.uidNext, listStamp: listStampOf(disk.stat(file)) } };
  });
}

function changedPlace(row: FileRow, place: Place | undefined): readonly RowChange[] {
  if (!place || (place.tail === row.tail && place.inNew === row.inNew)) return [];
  const flags = readTail(place.tail);
  const visible = flags.flags !== row.flags || flags.keywords !== row.keywords;
  return [{ before: row, after: { ...row, ...place, ...flags, modseq: visible ? 0 : row.modseq } }];
}

/** Rows for files that got a UID; a file that is gone meanwhile is left out. */
async function describe(
  folder: Folder,
  assigned: ReadonlyMap<string, number>,
  places: ReadonlyMap<string, Place>,
  before: ReadonlyMap<string, FileRow> = new Map(),
): Promise<readonly RowChange[]> {
  const bases = [...assigned.keys()];
  const measures = await measureFiles(
    folder.parts.disk,
    bases.map(base => ({ base, file: folder.filePath({ base, tail: '', inNew: false, ...places.get(base) }) })),
  );
  return bases.flatMap((base, at) => {
    const place = places.get(base);
    const measure = measures[at];
    const uid = assigned.get(base);
    if (!place || !measure || uid === undefined) return [];
    const known = before.get(base);
    return [
      {
        ...(known && { before: known }),
        after: { uid, base, ...place, ...readTail(place.tail), ...measure, modseq: 0 },
      },
    ];
  });
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

async function syncAll(folder: Folder, move: boolean): Promise<void> {
  const { disk, newName, clock } = folder.parts;
  const start = clock.monotonic();
  const scan = await scanFolder(disk, folder.path, move, newName);
  const file = uidFile(folder.path);
  const { rows, merged, listStamp, validity } = await withDotlock(folder.parts, file, async () => {
    const list = readUidFile(disk, folder.path);
    const validity = list?.uidValidity ?? folder.state.uidValidity;
    if (validity !== folder.state.uidValidity) folder.restart(validity);
    const rows = await allRows(folder);
    const known = new Map<string, number>();
    for (const [base, row] of rows) if (!scan.calm || scan.files.has(base)) known.set(base, row.uid);
    const newcomers = [...scan.files.keys()].filter(base => !rows.has(base));
    const merged = mergeUids({ list, known, newcomers, uidNext: folder.state.uidNext });
    await writeList(folder, list?.extra, merged);
    return { rows, merged, validity, listStamp: listStampOf(disk.stat(file)) };
  });
  folder.readKeywordNames();
  const added = await describe(folder, merged.assigned, scan.files, rows);
  const changes = [...keptChanges(rows, scan, merged), ...added];
  const { firstRecent } = folder.state;
  const now = clock.now();
  folder.commit(changes, {
    uidNext: merged.uidNext,
    staleLines: merged.staleLines,
    listStamp,
    firstRecent: firstRecent || firstRecentOf(scan, added, merged.uidNext),
    newStamp: scan.calm ? trusted(scan.newMtimeMs, now) : 0,
    curStamp: scan.calm ? trusted(scan.curMtimeMs, now) : 0,
    recheckAt: 0,
  });
  folder.lastScanMs = clock.monotonic() - start;
  void validity;
}

function keptChanges(rows: ReadonlyMap<string, FileRow>, scan: Scan, merged: MergeResult): readonly RowChange[] {
  const changes: RowChange[] = [];
  for (const [base, row] of rows) {
    const place = scan.files.get(base);
    if (place) {
      if (!merged.assigned.has(base)) changes.push(...changedPlace(row, place));
    } else if (scan.calm) changes.push({ before: row });
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
