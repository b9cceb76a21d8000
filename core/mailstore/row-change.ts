// Changes of messages as values, and what follows from them for the folder as a whole.
import type { FileStat } from './disk.ts';
import type { FileRow, FolderState } from './index-schema.ts';

/** What happened to one message: new (no `before`), gone (no `after`), or changed. */
export interface RowChange {
  readonly before?: FileRow;
  readonly after?: FileRow;
}

/** What may be set with a commit; counts and modseqs follow from the changes. */
export type StatePatch = Partial<
  Pick<FolderState, 'uidNext' | 'firstRecent' | 'newStamp' | 'curStamp' | 'listStamp' | 'recheckAt' | 'staleLines'>
>;

/** Identity of a UID list as it was when read. */
export const listStampOf = (stat: FileStat | undefined): string =>
  stat ? `${stat.ino}/${stat.size}/${stat.mtimeMs}` : '';

/** Above all earlier ones also when the index was lost, as long as the clock does not go back. */
export const nextModseq = (highest: number, nowMs: number): number => Math.max(highest + 1, nowMs);

/** Counts after the changes. */
export function addCounts(state: FolderState, changes: readonly RowChange[]): FolderState {
  let { messages, unseen, bytes } = state;
  const count = (row: FileRow | undefined, sign: 1 | -1): void => {
    if (!row) return;
    messages += sign;
    bytes += sign * row.size;
    if (!(row.flags & 1)) unseen += sign;
  };
  for (const change of changes) {
    count(change.before, -1);
    count(change.after, 1);
  }
  return { ...state, messages, unseen, bytes };
}
