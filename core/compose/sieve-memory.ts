// What rules remember over messages (vacation, duplicate, notices to owners), per account, with expiry.
import type { TrackingPort } from '../sieve/ports.ts';
import type { ClaimStore } from '../state/memory.ts';
import type { Migration, State } from '../state/state.ts';

/** Releases before had a table for this alone; what it holds moves over. */
const schema: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE sieve_memory (
        account TEXT NOT NULL, name TEXT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (account, name))`,
      'CREATE INDEX sieve_memory_expiry ON sieve_memory (expires_at)',
    ],
  },
  {
    id: 2,
    statements: [
      `INSERT INTO memory SELECT 'sieve:' || account, name, '', expires_at FROM sieve_memory WHERE TRUE
        ON CONFLICT (owner, name) DO NOTHING`,
      'DROP TABLE sieve_memory',
    ],
  },
];

export interface SieveMemory {
  of(account: string): TrackingPort;
}

export async function openSieveMemory(state: State, memory: ClaimStore): Promise<SieveMemory> {
  await state.migrate('sieve-memory', schema);
  return {
    of(account) {
      const own = memory.of(`sieve:${account}`);
      return {
        seen: async key => (await own.get(key)) !== undefined,
        remember: (key, seconds) => own.set(key, '', seconds * 1000),
        claim: (key, seconds) => own.claim(key, seconds * 1000),
        forget: async key => void (await own.delete(key)),
      };
    },
  };
}
