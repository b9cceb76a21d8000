// The only file that knows a SQLite library. From Node 24 on that is the built-in `node:sqlite`; below it is
// `@photostructure/sqlite`, which has the same API and ships prebuilt binaries. Everything here is synchronous: use it
// in a worker thread, or for queries that are known to be short.
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { SqlValue } from './state.ts';

export interface RunResult {
  readonly changes: number;
  readonly lastInsertRowid: number | bigint;
}

/** Integers outside ±2^53 throw unless `setReadBigInts(true)`. Blobs come back as `Uint8Array`. */
export interface PreparedStatement {
  run(...params: readonly SqlValue[]): RunResult;
  get(...params: readonly SqlValue[]): Record<string, SqlValue> | undefined;
  all(...params: readonly SqlValue[]): Record<string, SqlValue>[];
  iterate(...params: readonly SqlValue[]): IterableIterator<Record<string, SqlValue>>;
  setReadBigInts(on: boolean): void;
  /** Rows as arrays (cast what `all` returns): 2.4 times faster for many narrow rows. */
  setReturnArrays(on: boolean): void;
}

export interface Database {
  readonly isTransaction: boolean;
  exec(sql: string): void;
  prepare(sql: string): PreparedStatement;
  close(): void;
}

export interface OpenOptions {
  readonly readOnly?: boolean;
  /** `full` survives power loss after every commit; `normal` may lose the last commits, never consistency. Default `full`. */
  readonly synchronous?: 'full' | 'normal' | 'off';
  /** How long a statement waits for another process's lock. Default 10 s. */
  readonly busyTimeoutMs?: number;
}

interface Library {
  readonly DatabaseSync: new (
    path: string,
    options: { readonly readOnly: boolean; readonly enableForeignKeyConstraints: boolean },
  ) => Database;
}

/** `node:sqlite` warns that it is experimental on Node 22 and is missing on Node 20. */
const builtInSince = 24;

function loadLibrary(): Library {
  const major = Number.parseInt(process.versions.node, 10);
  const builtIn = major >= builtInSince ? process.getBuiltinModule('node:sqlite') : undefined;
  return (builtIn ?? createRequire(import.meta.url)('@photostructure/sqlite')) as Library;
}

/** A new database file is readable by its owner only: it may hold password hashes. SQLite gives -wal and -shm the same mode. */
function createPrivate(file: string): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  closeSync(openSync(file, 'a', 0o600));
}

/** Opens or creates a database in WAL mode. Throws where the file is no database or cannot be opened. */
export function openDatabase(file: string, options: OpenOptions = {}): Database {
  const readOnly = options.readOnly ?? false;
  if (!readOnly && file !== ':memory:') createPrivate(file);
  const { DatabaseSync } = loadLibrary();
  const database = new DatabaseSync(file, { readOnly, enableForeignKeyConstraints: true });
  try {
    database.exec(`PRAGMA busy_timeout = ${Math.round(options.busyTimeoutMs ?? 10_000)}`);
    if (!readOnly) {
      database.exec('PRAGMA journal_mode = WAL');
      database.exec(`PRAGMA synchronous = ${(options.synchronous ?? 'full').toUpperCase()}`);
      database.exec('PRAGMA journal_size_limit = 67108864');
    }
  } catch (error) {
    database.close();
    throw error;
  }
  return database;
}
