// The tables of a user's index, and their rows as values.

/** What the index knows of a mailbox as a whole. Stamps tell whether the disk changed since. */
export interface FolderState {
  readonly id: number;
  readonly uidValidity: number;
  readonly uidNext: number;
  readonly highestModseq: number;
  /** What vanished before this modseq is not known. */
  readonly floorModseq: number;
  /** From this UID on messages are \Recent. */
  readonly firstRecent: number;
  /** mtime in ms of `new/` and `cur/`; 0 = do not trust. */
  readonly newStamp: number;
  readonly curStamp: number;
  /** inode, size and mtime of `dovecot-uidlist`. */
  readonly listStamp: string;
  /** When `cur/` must be read again although the stamp agrees, ms since the epoch; 0 = never. */
  readonly recheckAt: number;
  /** Lines of `dovecot-uidlist` whose message is gone. */
  readonly staleLines: number;
  readonly messages: number;
  readonly unseen: number;
  readonly bytes: number;
}

/** One message file. */
export interface FileRow {
  readonly uid: number;
  readonly base: string;
  readonly tail: string;
  readonly inNew: boolean;
  readonly flags: number;
  /** Bit mask of letters. */
  readonly keywords: number;
  readonly size: number;
  readonly date: number;
  readonly modseq: number;
}
export type NarrowRow = readonly [
  uid: number,
  flags: number,
  keywords: number,
  size: number,
  date: number,
  modseq: number,
];

export interface Delta {
  readonly upserts: readonly FileRow[];
  readonly removed: readonly number[];
  readonly modseq: number;
}

export interface CacheEntry {
  readonly id: number;
  readonly uid: number;
  readonly key: string;
  readonly value: string;
}

export const schemaVersion = 1;
export const schema = `
CREATE TABLE folder (
  id INTEGER PRIMARY KEY, directory TEXT NOT NULL UNIQUE, uidValidity INTEGER NOT NULL, uidNext INTEGER NOT NULL,
  highestModseq INTEGER NOT NULL, floorModseq INTEGER NOT NULL, firstRecent INTEGER NOT NULL, newStamp REAL NOT NULL,
  curStamp REAL NOT NULL, listStamp TEXT NOT NULL, recheckAt INTEGER NOT NULL, staleLines INTEGER NOT NULL,
  messages INTEGER NOT NULL, unseen INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE message (
  folder INTEGER NOT NULL, uid INTEGER NOT NULL, flags INTEGER NOT NULL, keywords INTEGER NOT NULL,
  size INTEGER NOT NULL, date INTEGER NOT NULL, modseq INTEGER NOT NULL, inNew INTEGER NOT NULL, base TEXT NOT NULL,
  tail TEXT NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE INDEX message_in_new ON message (folder) WHERE inNew = 1;
CREATE TABLE vanished (
  folder INTEGER NOT NULL, modseq INTEGER NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (folder, modseq, uid)) WITHOUT ROWID;
CREATE TABLE cache (
  folder INTEGER NOT NULL, uid INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (folder, uid, key));
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
PRAGMA user_version = ${schemaVersion};
`;

export const folderColumns = [
  'uidValidity',
  'uidNext',
  'highestModseq',
  'floorModseq',
  'firstRecent',
  'newStamp',
  'curStamp',
  'listStamp',
  'recheckAt',
  'staleLines',
  'messages',
  'unseen',
  'bytes',
] as const;
export const rowColumns = 'uid, flags, keywords, size, date, modseq, inNew, base, tail';
export type RowTuple = readonly [number, number, number, number, number, number, number, string, string];

export const toRow = ([uid, flags, keywords, size, date, modseq, inNew, base, tail]: RowTuple): FileRow => ({
  uid,
  base,
  tail,
  inNew: inNew === 1,
  flags,
  keywords,
  size,
  date,
  modseq,
});
