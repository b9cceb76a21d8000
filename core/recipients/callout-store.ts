// What next hops said of addresses, on disk and, for those asked about lately, in memory. Bounded: old rows leave.
import { keepNewest } from '../lib/keep-newest.ts';
import type { State } from '../state/state.ts';

export interface CalloutRow {
  readonly known: boolean;
  /** ms since the epoch. */
  readonly checkedAt: number;
}
export interface BackendNature {
  readonly acceptsAll: boolean;
  readonly checkedAt: number;
}

export interface CalloutStore {
  get(address: string): Promise<CalloutRow | undefined>;
  set(address: string, known: boolean, now: number): Promise<void>;
  nature(backend: string): Promise<BackendNature | undefined>;
  setNature(backend: string, acceptsAll: boolean, now: number): Promise<void>;
  natures(): Promise<Readonly<Record<string, boolean>>>;
  /** Forgets refusals and acceptances from before these times. */
  sweep(refusedBefore: number, takenBefore: number): Promise<void>;
}

const remembered = 20_000;

export function openCalloutStore(state: State): CalloutStore {
  const rows = new Map<string, CalloutRow>();
  const natures = new Map<string, BackendNature>();
  const keep = (address: string, row: CalloutRow): void => keepNewest(rows, address, row, remembered);
  return {
    async get(address) {
      const held = rows.get(address);
      if (held) return held;
      const [row] = await state.query('SELECT known, checked_at FROM recipient_callout WHERE address = ?', [address]);
      // What came while the row was read is newer.
      const newer = rows.get(address);
      if (newer) return newer;
      if (!row) return undefined;
      const found = { known: row['known'] !== 0, checkedAt: Number(row['checked_at']) };
      keep(address, found);
      return found;
    },
    async set(address, known, now) {
      keep(address, { known, checkedAt: now });
      await state.write([
        {
          sql: `INSERT INTO recipient_callout (address, known, checked_at) VALUES (?, ?, ?)
            ON CONFLICT (address) DO UPDATE SET known = excluded.known, checked_at = excluded.checked_at`,
          params: [address, known ? 1 : 0, now],
        },
      ]);
    },
    async nature(backend) {
      const held = natures.get(backend);
      if (held) return held;
      const [row] = await state.query('SELECT accepts_all, checked_at FROM recipient_backend WHERE name = ?', [
        backend,
      ]);
      const newer = natures.get(backend);
      if (newer) return newer;
      if (!row) return undefined;
      const found = { acceptsAll: row['accepts_all'] !== 0, checkedAt: Number(row['checked_at']) };
      natures.set(backend, found);
      return found;
    },
    async setNature(backend, acceptsAll, now) {
      natures.set(backend, { acceptsAll, checkedAt: now });
      await state.write([
        {
          sql: `INSERT INTO recipient_backend (name, accepts_all, checked_at) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET accepts_all = excluded.accepts_all, checked_at = excluded.checked_at`,
          params: [backend, acceptsAll ? 1 : 0, now],
        },
      ]);
    },
    async natures() {
      const found = await state.query('SELECT name, accepts_all FROM recipient_backend ORDER BY name LIMIT 1000');
      return Object.fromEntries(found.map(row => [row['name'] as string, row['accepts_all'] !== 0]));
    },
    async sweep(refusedBefore, takenBefore) {
      await state.write([
        {
          sql: 'DELETE FROM recipient_callout WHERE (known = 0 AND checked_at < ?) OR (known = 1 AND checked_at < ?)',
          params: [refusedBefore, takenBefore],
        },
      ]);
    },
  };
}
