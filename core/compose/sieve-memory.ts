// What rules remember over messages (vacation, duplicate, notices to owners), per account, with expiry.
import type { Clock } from '../lib/clock.ts';
import type { TrackingPort } from '../sieve/ports.ts';
import type { Migration, State } from '../state/state.ts';

const schema: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE sieve_memory (
        account TEXT NOT NULL, name TEXT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (account, name))`,
      'CREATE INDEX sieve_memory_expiry ON sieve_memory (expires_at)',
    ],
  },
];
const sweepEveryMs = 3_600_000;

export interface SieveMemory {
  of(account: string): TrackingPort;
}

export async function openSieveMemory(state: State, clock: Clock): Promise<SieveMemory> {
  await state.migrate('sieve-memory', schema);
  let sweptAt = clock.monotonic();
  return {
    of: account => ({
      async seen(key) {
        const sql = 'SELECT 1 FROM sieve_memory WHERE account = ? AND name = ? AND expires_at > ?';
        return (await state.query(sql, [account, key, clock.now()])).length > 0;
      },
      async remember(key, seconds) {
        const now = clock.now();
        const sweep = clock.monotonic() - sweptAt > sweepEveryMs;
        if (sweep) sweptAt = clock.monotonic();
        await state.write([
          {
            sql: `INSERT INTO sieve_memory VALUES (?, ?, ?)
              ON CONFLICT (account, name) DO UPDATE SET expires_at = excluded.expires_at`,
            params: [account, key, now + seconds * 1000],
          },
          ...(sweep ? [{ sql: 'DELETE FROM sieve_memory WHERE expires_at <= ?', params: [now] }] : []),
        ]);
      },
    }),
  };
}
