import type { Clock } from './clock.ts';

export interface ReadCacheOptions<Value> {
  readonly clock: Clock;
  /** For how long what another process wrote may go unseen, ms; 0 = nothing is kept. */
  readonly keepMs: number;
  /** With more keys than this everything is dropped. */
  readonly maxKeys: number;
  /** Whether a value may be kept at all. Default: every one. */
  readonly keeps?: (value: Value) => boolean;
}

/** What was read from a store, kept for a short time. */
export interface ReadCache<Value> {
  get(key: string, read: () => Promise<Value>): Promise<Value>;
  /**
   * Runs a change and then drops the key, or everything without one, whether the change succeeded or not: a store may
   * have made a change whose answer was lost. What was read while the change was under way is not kept.
   */
  changing<Result>(key: string | undefined, change: () => Promise<Result>): Promise<Result>;
}

export function createReadCache<Value>(options: ReadCacheOptions<Value>): ReadCache<Value> {
  const { clock, keepMs, maxKeys, keeps = () => true } = options;
  const kept = new Map<string, { readonly value: Value; readonly until: number }>();
  /** Changes that have ended. A read that saw this number change may have seen what was before. */
  let changes = 0;

  return {
    async get(key, read) {
      const known = kept.get(key);
      if (known !== undefined && known.until > clock.monotonic()) return known.value;
      kept.delete(key);
      const before = changes;
      const value = await read();
      if (keepMs <= 0 || changes !== before || !keeps(value)) return value;
      if (kept.size >= maxKeys) kept.clear();
      kept.set(key, { value, until: clock.monotonic() + keepMs });
      return value;
    },
    async changing(key, change) {
      try {
        return await change();
      } finally {
        changes += 1;
        if (key === undefined) kept.clear();
        else kept.delete(key);
      }
    },
  };
}
