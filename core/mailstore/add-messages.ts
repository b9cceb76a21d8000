// Messages put into a folder by a session: APPEND, COPY, MOVE. The bytes are on the disk before the name appears in
// `cur/`, the UID's line before the caller hears of it. Copies are hard links. A move is a copy and then a removal, so a
// crash between the two leaves the message twice, never not at all.
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Rope } from '../mail/rope.ts';
import { lookAgain, removeMessages } from './change-messages.ts';
import { hasCode } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';
import { physicalSize, writeTail } from './file-name.ts';
import type { Folder } from './folder.ts';
import type { FileRow } from './index-schema.ts';
import { maskOf } from './keyword-file.ts';
import type { AppendOptions, Uid } from './mailbox.ts';
import { MailboxError } from './mailbox.ts';
import type { StatePatch } from './row-change.ts';
import { admitFiles, type NewFile, syncFolder } from './sync-folder.ts';
import { writeForm } from './write-form.ts';

/**
 * Gives UIDs to files that were put into `cur/`. The list may have changed since the last sync; then a sync finds them.
 * Undefined for a file that another program took away at once.
 */
async function admit(
  folder: Folder,
  files: readonly NewFile[],
  placed: StatePatch,
): Promise<readonly (Uid | undefined)[]> {
  // From here on: another process that is quicker gives the UIDs.
  const { id, uidNext } = folder.state;
  const given = placed.curStamp === 0 ? undefined : await admitFiles(folder, files, placed, { durable: true });
  if (given) return given.map(uid => uid as Uid);
  await lookAgain(folder);
  const rows = folder.index.rows(id, uidNext - 1, Number.MAX_SAFE_INTEGER);
  const uids = new Map(rows.map(row => [row.base, row.uid as Uid]));
  return files.map(({ base }) => uids.get(base));
}

/** UIDs are given in the order of names: those of one batch must sort as they were given. */
const orderedBases = (prefix: string, count: number): readonly string[] =>
  Array.from({ length: count }, (_, at) => prefix.replace('Q', `R${String(at).padStart(7, '0')}Q`));

export async function appendMessage(
  folder: Folder,
  source: Rope | Readable,
  size: number,
  options: AppendOptions,
): Promise<Uid> {
  const { disk, newName, durable, clock } = folder.parts;
  const base = `${newName()},S=${size},W=${size}`;
  const temporary = path.join(folder.path, 'tmp', base);
  await writeForm(disk, temporary, source, size, options.internalDate);
  try {
    return await folder.alone(async () => {
      await syncFolder(folder, folder.writers > 0);
      await folder.giveLetters(options.keywords ?? []);
      const flags = { flags: options.flags ?? 0, keywords: maskOf(folder.keywordNames, options.keywords ?? []) };
      const date = Math.round(options.internalDate ?? clock.now());
      const file = { base, tail: writeTail('', flags), inNew: false, ...flags, size, date };
      const { patch } = folder.changingCur(() => disk.rename(temporary, folder.filePath(file)));
      await durable.syncDirectory(path.join(folder.path, 'cur'));
      const [uid] = await admit(folder, [file], patch);
      if (uid === undefined) throw new MailboxError('unavailable', 'Message was removed by another program at once');
      return uid;
    });
  } catch (error) {
    removeQuietly(disk, temporary);
    throw error;
  }
}

interface CopyPlan {
  readonly source: FileRow;
  readonly file: NewFile;
}

function planCopies(from: Folder, to: Folder, uids: readonly Uid[], keywordsOf: (mask: number) => readonly string[]) {
  const rows = uids.flatMap(uid => from.index.row(from.state.id, uid) ?? []);
  const bases = orderedBases(to.parts.newName(), rows.length);
  return rows.map((source, at): CopyPlan => {
    const flags = { flags: source.flags, keywords: maskOf(to.keywordNames, keywordsOf(source.keywords)) };
    const bytes = physicalSize(source.base) ?? to.parts.disk.stat(from.filePath(source))?.size;
    const base = `${bases[at]}${bytes === undefined ? '' : `,S=${bytes}`},W=${source.size}`;
    const { size, date } = source;
    return { source, file: { base, tail: writeTail('', flags), inNew: false, ...flags, size, date } };
  });
}

const keywordsIn = (folder: Folder, mask: number): readonly string[] =>
  folder.keywordNames.filter((name, letter): name is string => name !== undefined && (mask & (1 << letter)) !== 0);

/** Links all, or none when one fails for another reason than that its message is gone. */
function linkAll(from: Folder, to: Folder, plans: readonly CopyPlan[]) {
  const { disk } = to.parts;
  const linked: CopyPlan[] = [];
  const missed: Uid[] = [];
  try {
    for (const plan of plans) {
      try {
        disk.link(from.filePath(plan.source), to.filePath(plan.file));
        linked.push(plan);
      } catch (error) {
        if (!hasCode(error, 'ENOENT')) throw error;
        missed.push(plan.source.uid as Uid);
      }
    }
  } catch (error) {
    for (const { file } of linked) removeQuietly(disk, to.filePath(file));
    throw error;
  }
  return { linked, missed };
}

/** Both folders in turn, always in the same order, so that two copies in opposite directions do not wait for ever. */
function aloneInBoth<T>(a: Folder, b: Folder, work: () => Promise<T>): Promise<T> {
  if (a === b) return a.alone(work);
  const [first, second] = a.directory < b.directory ? [a, b] : [b, a];
  return first.alone(() => second.alone(work));
}

/** UIDs of sources and copies, in the same order. */
export interface Copied {
  readonly from: readonly Uid[];
  readonly to: readonly Uid[];
}

async function copyNow(from: Folder, to: Folder, uids: readonly Uid[]): Promise<Copied> {
  await syncFolder(to, to.writers > 0);
  const masks = new Set(uids.map(uid => from.index.row(from.state.id, uid)?.keywords ?? 0));
  await to.giveLetters([...new Set([...masks].flatMap(mask => keywordsIn(from, mask)))]);
  const keywordsOf = (mask: number): readonly string[] => keywordsIn(from, mask);
  let placed = to.changingCur(() => linkAll(from, to, planCopies(from, to, uids, keywordsOf)));
  if (placed.result.missed.length > 0) {
    // Renamed by another program: all again under the new names, so that the copies keep the order.
    for (const { file } of placed.result.linked) removeQuietly(to.parts.disk, to.filePath(file));
    await lookAgain(from);
    placed = to.changingCur(() => linkAll(from, to, planCopies(from, to, uids, keywordsOf)));
  }
  const { linked } = placed.result;
  if (linked.length === 0) return { from: [], to: [] };
  await to.parts.durable.syncDirectory(path.join(to.path, 'cur'));
  const files = linked.map(plan => plan.file);
  const given = await admit(to, files, placed.patch);
  const pairs = linked.flatMap(({ source }, at) => {
    const uid = given[at];
    return uid === undefined ? [] : [{ from: source.uid as Uid, to: uid }];
  });
  return { from: pairs.map(pair => pair.from), to: pairs.map(pair => pair.to) };
}

export function copyMessages(from: Folder, to: Folder, uids: readonly Uid[]): Promise<Copied> {
  return aloneInBoth(from, to, () => copyNow(from, to, uids));
}

/** RFC 6851: as a copy and an expunge that cannot come apart for the client. */
export function moveMessages(from: Folder, to: Folder, uids: readonly Uid[]): Promise<Copied> {
  return aloneInBoth(from, to, async () => {
    const copied = await copyNow(from, to, uids);
    await removeMessages(from, copied.from, () => true);
    await from.parts.durable.syncDirectory(path.join(from.path, 'cur'));
    return copied;
  });
}
