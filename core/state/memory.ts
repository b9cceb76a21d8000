// Keyed values that expire, durable in the state store: what plugins remember over messages (`Host.memory`) and what rules
// do (vacation, duplicate). Every owner sees its own keys only. Expired values are gone at once for readers; rows go within
// an hour, at a write, and so does what an owner holds beyond `maxEntries`, soonest to expire first.
import type { Clock } from '../lib/clock.ts';
import type { Memory } from '../plugin/contract.ts';
import type { Migration, State, Statement } from './state.ts';

const schema: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE memory (
        owner TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, expires_at BIGINT NOT NULL,
        PRIMARY KEY (owner, name))`,
      'CREATE INDEX memory_expiry ON memory (expires_at)',
      'CREATE INDEX memory_owner_expiry ON memory (owner, expires_at)',
    ],
  },
];
const sweepEveryMs = 3_600_000;
const maxKeyChars = 1000;
const maxValueChars = 64 * 1024;

export interface MemoryStore {
  /** `plugin:greylist`, `sieve:alice@example.org` … */
  of(owner: string): Memory;
}

/** What rules need besides. */
export interface ClaimStore extends MemoryStore {
  of(owner: string): Memory & {
    /**
     * Sets the key to `''`, unless it is there: true for one of those who ask at once. Durable once resolved; `delete`
     * gives it back.
     */
    claim(key: string, ttlMs: number): Promise<boolean>;
  };
}

/** The smallest text behind all that begin with `prefix`; undefined where there is none. */
const endOfPrefix = (prefix: string): string | undefined => (prefix === '' ? undefined : `${prefix}\u{10ffff}`);

export interface MemoryOptions {
  /** Most values of one owner. Default 1,000,000. */
  readonly maxEntries?: number;
}

export async function openMemory(state: State, clock: Clock, options: MemoryOptions = {}): Promise<ClaimStore> {
  await state.migrate('memory', schema);
  const { maxEntries = 1_000_000 } = options;
  let sweptAt = clock.monotonic();

  function sweep(owner: string): readonly Statement[] {
    if (clock.monotonic() - sweptAt <= sweepEveryMs) return [];
    sweptAt = clock.monotonic();
    return [
      { sql: 'DELETE FROM memory WHERE expires_at <= ?', params: [clock.now()] },
      {
        sql: `DELETE FROM memory WHERE owner = ? AND name IN (
          SELECT name FROM memory WHERE owner = ? ORDER BY expires_at DESC LIMIT 1000000000 OFFSET ?)`,
        params: [owner, owner, maxEntries],
      },
    ];
  }

  return {
    of: owner => ({
      async get(key) {
        const sql = 'SELECT value FROM memory WHERE owner = ? AND name = ? AND expires_at > ?';
        const [row] = await state.query(sql, [owner, key, clock.now()]);
        return row === undefined ? undefined : String(row['value']);
      },
      async set(key, value, ttlMs) {
        if (key.length > maxKeyChars || value.length > maxValueChars)
          throw new RangeError(`Too long to be remembered: key of ${key.length}, value of ${value.length} characters`);
        const upsert = {
          sql: `INSERT INTO memory VALUES (?, ?, ?, ?)
            ON CONFLICT (owner, name) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`,
          params: [owner, key, value, clock.now() + Math.ceil(ttlMs)],
        };
        await state.write([...sweep(owner), upsert]);
      },
      async claim(key, ttlMs) {
        const now = clock.now();
        const insert = {
          sql: `INSERT INTO memory VALUES (?, ?, '', ?)
            ON CONFLICT (owner, name) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
            WHERE memory.expires_at <= ?`,
          params: [owner, key, now + Math.ceil(ttlMs), now],
        };
        const changed = await state.write([...sweep(owner), insert]);
        return changed.at(-1) === 1;
      },
      async delete(key) {
        const sql = 'DELETE FROM memory WHERE owner = ? AND name = ? AND expires_at > ?';
        const [changed = 0] = await state.write([{ sql, params: [owner, key, clock.now()] }]);
        return changed > 0;
      },
      async list(prefix, limit) {
        const end = endOfPrefix(prefix);
        const sql = `SELECT name, value, expires_at FROM memory WHERE owner = ? AND expires_at > ? AND name >= ?
          ${end === undefined ? '' : 'AND name < ?'} ORDER BY name LIMIT ?`;
        const bounds = end === undefined ? [prefix] : [prefix, end];
        const rows = await state.query(sql, [owner, clock.now(), ...bounds, limit]);
        return rows.map(row => ({
          key: String(row['name']),
          value: String(row['value']),
          expiresAt: Number(row['expires_at']),
        }));
      },
    }),
  };
}
