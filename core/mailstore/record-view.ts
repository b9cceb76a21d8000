// The records of a mailbox as sessions see them. An array is never changed: news make a new array that shares the old
// records. Keyword lists are shared between records of equal keywords, so that a plain record costs its six fields.

import type { FileRow, NarrowRow } from './index-schema.ts';
import type { KeywordNames } from './keyword-file.ts';
import type { MessageRecord, Uid } from './mailbox.ts';

type RecordSource = Pick<FileRow, 'uid' | 'flags' | 'keywords' | 'size' | 'date' | 'modseq'>;

/** Makes records from rows of one mailbox. */
export function createRecordMaker(names: KeywordNames): {
  fromRow(row: RecordSource): MessageRecord;
  fromNarrow(row: NarrowRow): MessageRecord;
} {
  const lists = new Map<number, readonly string[]>();
  const keywordsOf = (mask: number): readonly string[] => {
    const known = lists.get(mask);
    if (known) return known;
    const list = names.filter((name, letter): name is string => name !== undefined && (mask & (1 << letter)) !== 0);
    lists.set(mask, list);
    return list;
  };
  const make = (uid: number, flags: number, mask: number, size: number, date: number, modseq: number) => ({
    uid: uid as Uid,
    flags,
    keywords: keywordsOf(mask),
    size,
    internalDate: date,
    modseq,
  });
  return {
    fromRow: row => make(row.uid, row.flags, row.keywords, row.size, row.date, row.modseq),
    fromNarrow: row => make(...row),
  };
}

/** Position of a UID, or where it would stand, as `-1 - position`. */
export function findUid(records: readonly MessageRecord[], uid: number, end = records.length): number {
  let low = 0;
  let high = end - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const at = records[middle]?.uid ?? 0;
    if (at === uid) return middle;
    if (at < uid) low = middle + 1;
    else high = middle - 1;
  }
  return -1 - low;
}

/** A new array with `upserts` put in and `removed` taken out; the same array when there is nothing to do. */
export function applyToRecords(
  records: readonly MessageRecord[],
  upserts: readonly MessageRecord[],
  removed: ReadonlySet<number>,
): readonly MessageRecord[] {
  if (upserts.length === 0 && removed.size === 0) return records;
  const result = removed.size === 0 ? records.slice() : records.filter(record => !removed.has(record.uid));
  const known = result.length;
  let ordered = true;
  for (const record of upserts) {
    const at = findUid(result, record.uid, known);
    if (at >= 0) result[at] = record;
    else {
      if (record.uid <= (result.at(-1)?.uid ?? 0)) ordered = false;
      result.push(record);
    }
  }
  return ordered ? result : result.sort((a, b) => a.uid - b.uid);
}
