// What was parsed from messages of one folder (envelopes, structures), kept in the index. Values are collected for a
// moment and written together. It is a cache: what cannot be read or written is computed again.
import type { FolderState } from './index-schema.ts';
import type { UserIndex } from './user-index.ts';

const flushAfterMs = 50;
const flushAt = 500;

export interface StructureCache {
  get(uid: number, key: string): string | undefined;
  put(uid: number, key: string, value: string): void;
  flush(): void;
}

export function createStructureCache(index: UserIndex, stateNow: () => FolderState): StructureCache {
  let pending = new Map<string, { readonly uid: number; readonly key: string; readonly value: string }>();
  let validity = 0;
  let timer: NodeJS.Timeout | undefined;

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    const entries = [...pending.values()];
    pending = new Map();
    if (entries.length === 0) return;
    try {
      // Which there is none of while an index that failed is replaced.
      const { id, uidValidity } = stateNow();
      if (uidValidity !== validity) return;
      // Not for what was expunged meanwhile: nobody would remove it again.
      index.putCached(entries.flatMap(entry => (index.row(id, entry.uid) ? [{ ...entry, id }] : [])));
    } catch {
      // A damaged or full disk shows, with a caller to tell, at the next change.
    }
  }

  return {
    get(uid, key) {
      const { id, uidValidity } = stateNow();
      const waiting = uidValidity === validity ? pending.get(`${uid} ${key}`) : undefined;
      if (waiting) return waiting.value;
      try {
        return index.cached(id, uid, key);
      } catch {
        // As above.
        return undefined;
      }
    },
    put(uid, key, value) {
      const { uidValidity } = stateNow();
      if (uidValidity !== validity) pending = new Map();
      validity = uidValidity;
      pending.set(`${uid} ${key}`, { uid, key, value });
      if (pending.size >= flushAt) flush();
      else timer ??= setTimeout(flush, flushAfterMs);
    },
    flush,
  };
}
