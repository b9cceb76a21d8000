// The index of one user: what is derived from the Maildir and kept so that it need not be derived again. One SQLite
// database beside the Maildir, shared by all processes. It may be deleted at any time: UIDs live in `dovecot-uidlist`,
// flags in file names. Lost are only modseqs (they go on above, being clock based), the record of what vanished, and
// parsed structures. Commits survive a crash of the process; a power loss may undo the last ones, which the next
// scan of the Maildir repairs. Every method is synchronous and short, or bounded by a limit the caller gives.
import { rmSync } from 'node:fs';
import type { Database, PreparedStatement } from '../state/sqlite-driver.ts';
import { openDatabase } from '../state/sqlite-driver.ts';
import { cannotMake, isIndexDamage, isIndexUnwritable } from './index-errors.ts';
import type { IndexPool } from './index-pool.ts';
import {
  type CacheEntry,
  type Delta,
  type FileRow,
  type FolderState,
  folderColumns,
  type NarrowRow,
  type RowTuple,
  rowColumns,
  schema,
  schemaVersion,
  toRow,
} from './index-schema.ts';

export class UserIndex {
  readonly #file: string;
  readonly #pool: IndexPool;
  #database: Database | undefined;
  #volatile = false;
  readonly #statements = new Map<string, PreparedStatement>();

  constructor(file: string, pool: IndexPool) {
    this.#file = file;
    this.#pool = pool;
  }

  #open(): Database {
    if (this.#database) return this.#database;
    try {
      this.#database = this.#openOnce();
    } catch (error) {
      if (isIndexDamage(error)) this.discard();
      else if (isIndexUnwritable(error) || cannotMake(error)) this.#volatile = true;
      else throw error;
      this.#database = this.#openOnce();
    }
    this.#pool.opened(this);
    return this.#database;
  }

  #openOnce(): Database {
    const database = openDatabase(this.#volatile ? ':memory:' : this.#file, { synchronous: 'normal' });
    try {
      database.exec('PRAGMA cache_size = -1024');
      const version = (): unknown => database.prepare('PRAGMA user_version').get()?.['user_version'];
      if (version() !== schemaVersion) {
        database.exec('BEGIN IMMEDIATE');
        if (version() === 0) database.exec(schema);
        else if (version() !== schemaVersion) throw new Error('Index has another layout: no such table');
        database.exec('COMMIT');
      }
    } catch (error) {
      database.close();
      throw error;
    }
    return database;
  }

  /** Closes the database and deletes it. The next call begins an empty one. */
  discard(): void {
    this.close();
    for (const suffix of ['', '-wal', '-shm']) rmSync(this.#file + suffix, { force: true });
  }

  /** Goes on in memory, where the disk cannot be written: mail can still be read. Until `close`, then the disk is tried again. */
  goVolatile(): void {
    this.close();
    this.#volatile = true;
  }

  /** Frees the handles; the next call opens again. */
  close(): void {
    this.#statements.clear();
    this.#volatile = false;
    const database = this.#database;
    this.#database = undefined;
    this.#pool.closed(this);
    database?.close();
  }

  #sql(sql: string, arrays = false): PreparedStatement {
    const database = this.#open();
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = database.prepare(sql);
    if (arrays) statement.setReturnArrays(true);
    this.#statements.set(sql, statement);
    return statement;
  }

  /** Runs `work` in one transaction that excludes other processes. Must not be nested. */
  transaction<T>(work: () => T): T {
    const database = this.#open();
    database.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      database.exec('COMMIT');
      return result;
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK');
      throw error;
    }
  }

  folder(directory: string): FolderState | undefined {
    const row = this.#sql(`SELECT id, ${folderColumns.join(', ')} FROM folder WHERE directory = ?`).get(directory);
    return row as unknown as FolderState | undefined;
  }

  /** Names of all directories the index knows. */
  directories(): readonly string[] {
    return this.#sql('SELECT directory FROM folder')
      .all()
      .map(row => row['directory'] as string);
  }

  addFolder(directory: string, state: Omit<FolderState, 'id'>): FolderState {
    const marks = folderColumns.map(() => '?').join(', ');
    const values = folderColumns.map(column => state[column]);
    const { lastInsertRowid } = this.#sql(
      `INSERT INTO folder (directory, ${folderColumns.join(', ')}) VALUES (?, ${marks})`,
    ).run(directory, ...values);
    return { ...state, id: Number(lastInsertRowid) };
  }

  saveFolder(state: FolderState): void {
    const sets = folderColumns.map(column => `${column} = ?`).join(', ');
    this.#sql(`UPDATE folder SET ${sets} WHERE id = ?`).run(...folderColumns.map(column => state[column]), state.id);
  }

  renameFolder(from: string, to: string): void {
    this.#sql('UPDATE folder SET directory = ? WHERE directory = ?').run(to, from);
  }

  /** Forgets all about a folder. */
  removeFolder(directory: string): void {
    const state = this.folder(directory);
    if (!state) return;
    this.clearMessages(state.id);
    this.#sql('DELETE FROM folder WHERE id = ?').run(state.id);
  }

  clearMessages(id: number): void {
    for (const table of ['message', 'vanished', 'cache']) this.#sql(`DELETE FROM ${table} WHERE folder = ?`).run(id);
  }

  row(id: number, uid: number): FileRow | undefined {
    const found = this.#sql(`SELECT ${rowColumns} FROM message WHERE folder = ? AND uid = ?`, true).get(id, uid);
    return found && toRow(found as unknown as RowTuple);
  }

  /** Up to `limit` rows with a UID above `after`, ascending. */
  rows(id: number, after: number, limit: number): readonly FileRow[] {
    const sql = `SELECT ${rowColumns} FROM message WHERE folder = ? AND uid > ? ORDER BY uid LIMIT ?`;
    return (this.#sql(sql, true).all(id, after, limit) as unknown as RowTuple[]).map(toRow);
  }

  /** The same without names. */
  narrowRows(id: number, after: number, limit: number): readonly NarrowRow[] {
    const columns = 'uid, flags, keywords, size, date, modseq';
    const sql = `SELECT ${columns} FROM message WHERE folder = ? AND uid > ? ORDER BY uid LIMIT ?`;
    return this.#sql(sql, true).all(id, after, limit) as unknown as NarrowRow[];
  }

  rowsInNew(id: number): readonly FileRow[] {
    const sql = `SELECT ${rowColumns} FROM message INDEXED BY message_in_new WHERE folder = ? AND inNew = 1 ORDER BY uid`;
    return (this.#sql(sql, true).all(id) as unknown as RowTuple[]).map(toRow);
  }

  changedSince(id: number, modseq: number): readonly FileRow[] {
    const sql = `SELECT ${rowColumns} FROM message WHERE folder = ? AND modseq > ? ORDER BY uid`;
    return (this.#sql(sql, true).all(id, modseq) as unknown as RowTuple[]).map(toRow);
  }

  vanishedSince(id: number, modseq: number): readonly number[] {
    const sql = 'SELECT uid FROM vanished WHERE folder = ? AND modseq > ?';
    return (this.#sql(sql, true).all(id, modseq) as unknown as (readonly [number])[]).map(([uid]) => uid);
  }

  countFrom(id: number, uid: number): number {
    const sql = 'SELECT count(*) AS n FROM message WHERE folder = ? AND uid >= ?';
    return this.#sql(sql).get(id, uid)?.['n'] as number;
  }

  /** Part of a transaction: rows in and out, and what vanished. */
  apply(id: number, { upserts, removed, modseq }: Delta): void {
    const put = this.#sql(
      `INSERT OR REPLACE INTO message (folder, ${rowColumns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    for (const row of upserts)
      put.run(
        id,
        row.uid,
        row.flags,
        row.keywords,
        row.size,
        row.date,
        row.modseq,
        row.inNew ? 1 : 0,
        row.base,
        row.tail,
      );
    const drop = this.#sql('DELETE FROM message WHERE folder = ? AND uid = ?');
    const dropCache = this.#sql('DELETE FROM cache WHERE folder = ? AND uid = ?');
    const note = this.#sql('INSERT OR REPLACE INTO vanished (folder, modseq, uid) VALUES (?, ?, ?)');
    for (const uid of removed) {
      drop.run(id, uid);
      dropCache.run(id, uid);
      note.run(id, modseq, uid);
    }
  }

  /** Keeps the newest `keep` vanished UIDs; returns the modseq below which they are unknown, if any were dropped. */
  pruneVanished(id: number, keep: number): number | undefined {
    const sql = 'SELECT modseq FROM vanished WHERE folder = ? ORDER BY modseq DESC LIMIT 1 OFFSET ?';
    const edge = this.#sql(sql).get(id, keep)?.['modseq'] as number | undefined;
    if (edge !== undefined) this.#sql('DELETE FROM vanished WHERE folder = ? AND modseq <= ?').run(id, edge);
    return edge;
  }

  cached(id: number, uid: number, key: string): string | undefined {
    const sql = 'SELECT value FROM cache WHERE folder = ? AND uid = ? AND key = ?';
    return this.#sql(sql).get(id, uid, key)?.['value'] as string | undefined;
  }

  /** Many in one transaction: a commit costs as much as twenty rows. */
  putCached(entries: readonly CacheEntry[]): void {
    const put = this.#sql('INSERT OR REPLACE INTO cache (folder, uid, key, value) VALUES (?, ?, ?, ?)');
    this.transaction(() => {
      for (const { id, uid, key, value } of entries) put.run(id, uid, key, value);
    });
  }

  /** A number that only grows: `wanted`, or one more than the last time. Part of a transaction. */
  nextNumber(name: string, wanted: number): number {
    const last = this.#sql('SELECT value FROM meta WHERE name = ?').get(name)?.['value'] as number | undefined;
    const next = Math.max(wanted, (last ?? 0) + 1);
    this.#sql('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)').run(name, next);
    return next;
  }
}
