// The durable copy of a directory's addresses. A whole read writes a new generation beside the one in use and then takes
// its place in one commit, so a crash in between leaves the old copy whole; rows of other generations are leftovers.
import type { Migration, SqlValue, State, Statement } from '../state/state.ts';

export const recipientMigrations: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE recipient_directory (
        name TEXT NOT NULL PRIMARY KEY,
        generation INTEGER NOT NULL,
        server TEXT,
        mark TEXT,
        synced_at BIGINT NOT NULL,
        full_at BIGINT NOT NULL
      )`,
      `CREATE TABLE recipient_address (
        directory TEXT NOT NULL,
        generation INTEGER NOT NULL,
        entry TEXT NOT NULL,
        address TEXT NOT NULL,
        PRIMARY KEY (directory, generation, entry, address)
      )`,
      'CREATE INDEX recipient_address_by_address ON recipient_address (directory, generation, address)',
      `CREATE TABLE recipient_callout (
        address TEXT NOT NULL PRIMARY KEY,
        known INTEGER NOT NULL,
        checked_at BIGINT NOT NULL
      )`,
      'CREATE INDEX recipient_callout_age ON recipient_callout (checked_at)',
      `CREATE TABLE recipient_backend (
        name TEXT NOT NULL PRIMARY KEY,
        accepts_all INTEGER NOT NULL,
        checked_at BIGINT NOT NULL
      )`,
    ],
  },
];

/** Where the copy stands. */
export interface CopyState {
  readonly generation: number;
  /** Which server the mark belongs to. */
  readonly server?: string;
  /** `uSNChanged` up to which everything is in the copy; absent where the directory has none. */
  readonly mark?: string;
  /** ms since the epoch. */
  readonly syncedAt: number;
  readonly fullAt: number;
}

/** An object of the directory and its addresses. */
export interface CopyEntry {
  readonly id: string;
  readonly addresses: readonly string[];
}

export interface DirectoryStore {
  state(): Promise<CopyState | undefined>;
  /** All addresses of the generation in use. */
  addresses(generation: number): AsyncIterable<readonly string[]>;
  /** Removes what an unfinished read left. */
  clear(keep: number | undefined): Promise<void>;
  add(generation: number, entries: readonly CopyEntry[]): Promise<void>;
  /** Makes this the state of the copy. */
  commit(next: CopyState): Promise<void>;
  /** Removes the objects of these ids, adds the entries. Resolves to the addresses that were touched. */
  change(generation: number, gone: readonly string[], entries: readonly CopyEntry[]): Promise<readonly string[]>;
  /** Those of these addresses that somebody still has. */
  present(generation: number, addresses: readonly string[]): Promise<readonly string[]>;
}

/** Parameters of one statement stay far below SQLite's limit. */
const chunkSize = 200;
const pageSize = 5_000;

function* chunks<T>(items: readonly T[], size = chunkSize): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
const places = (count: number): string => Array.from({ length: count }, () => '?').join(', ');

export function openDirectoryStore(state: State, name: string): DirectoryStore {
  function insert(generation: number, entries: readonly CopyEntry[]): readonly Statement[] {
    const rows = entries.flatMap(({ id, addresses }) => addresses.map(address => [id, address] as const));
    return [...chunks(rows)].map(part => ({
      sql: `INSERT OR IGNORE INTO recipient_address (directory, generation, entry, address) VALUES ${part.map(() => '(?, ?, ?, ?)').join(', ')}`,
      params: part.flatMap(([id, address]): SqlValue[] => [name, generation, id, address]),
    }));
  }

  return {
    async state() {
      const [row] = await state.query('SELECT * FROM recipient_directory WHERE name = ?', [name]);
      if (!row) return undefined;
      const { server, mark } = row;
      return {
        generation: Number(row['generation']),
        ...(typeof server === 'string' ? { server } : {}),
        ...(typeof mark === 'string' ? { mark } : {}),
        syncedAt: Number(row['synced_at']),
        fullAt: Number(row['full_at']),
      };
    },
    async *addresses(generation) {
      for (let after = ''; ; ) {
        const rows = await state.query(
          `SELECT DISTINCT address FROM recipient_address
            WHERE directory = ? AND generation = ? AND address > ? ORDER BY address LIMIT ?`,
          [name, generation, after, pageSize],
        );
        yield rows.map(row => row['address'] as string);
        const last = rows.at(-1);
        if (!last || rows.length < pageSize) return;
        after = last['address'] as string;
      }
    },
    async clear(keep) {
      // Piece by piece, so that mail never waits for one long commit.
      for (;;) {
        const [count] = await state.write([
          {
            sql: `DELETE FROM recipient_address WHERE rowid IN
              (SELECT rowid FROM recipient_address WHERE directory = ? AND generation <> ? LIMIT ?)`,
            params: [name, keep ?? -1, pageSize],
          },
        ]);
        if ((count ?? 0) < pageSize) return;
      }
    },
    async add(generation, entries) {
      const statements = insert(generation, entries);
      if (statements.length > 0) await state.write(statements);
    },
    async commit({ generation, server, mark, syncedAt, fullAt }) {
      await state.write([
        {
          sql: `INSERT INTO recipient_directory (name, generation, server, mark, synced_at, full_at) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, server = excluded.server,
            mark = excluded.mark, synced_at = excluded.synced_at, full_at = excluded.full_at`,
          params: [name, generation, server ?? null, mark ?? null, syncedAt, fullAt],
        },
      ]);
    },
    async change(generation, gone, entries) {
      const ids = [...new Set([...gone, ...entries.map(entry => entry.id)])];
      const touched = new Set(entries.flatMap(entry => entry.addresses));
      for (const part of chunks(ids)) {
        const rows = await state.query(
          `SELECT address FROM recipient_address WHERE directory = ? AND generation = ? AND entry IN (${places(part.length)})`,
          [name, generation, ...part],
        );
        for (const row of rows) touched.add(row['address'] as string);
      }
      const removals = [...chunks(ids)].map(part => ({
        sql: `DELETE FROM recipient_address WHERE directory = ? AND generation = ? AND entry IN (${places(part.length)})`,
        params: [name, generation, ...part],
      }));
      const statements = [...removals, ...insert(generation, entries)];
      if (statements.length > 0) await state.write(statements);
      return [...touched];
    },
    async present(generation, addresses) {
      const found: string[] = [];
      for (const part of chunks(addresses)) {
        const rows = await state.query(
          `SELECT DISTINCT address FROM recipient_address
            WHERE directory = ? AND generation = ? AND address IN (${places(part.length)})`,
          [name, generation, ...part],
        );
        found.push(...rows.map(row => row['address'] as string));
      }
      return found;
    },
  };
}
