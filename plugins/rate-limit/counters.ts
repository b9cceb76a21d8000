// Counting in windows of time: the only file here that knows the limiter. Invariants:
// - Memory is bounded: of more than `maxKeys` keys the one unseen for longest is forgotten.
// - Counts of windows of an hour and more survive a restart: they are written down ten seconds after a change and at the
//   end, so a crash forgets ten seconds. Shorter windows are over before it would matter.
import { RateLimiterMemory } from 'rate-limiter-flexible';
import type { Host, Memory } from '../../core/plugin/index.ts';

export interface Count {
  readonly used: number;
  /** Milliseconds until the window ends. */
  readonly leftMs: number;
}

export interface Counters {
  /** Rejects where earlier counts cannot be read. */
  add(key: string, points: number): Promise<Count>;
  reset(key: string): Promise<void>;
  close(): Promise<void>;
}

const durableFromMs = 3_600_000;
const saveAfterMs = 10_000;
const savedAtOnce = 500;

interface Saved {
  readonly used: number;
  readonly until: number;
}

export interface CounterSetting {
  /** Unique for what is counted and how, so that another configuration does not take its counts over. */
  readonly name: string;
  readonly windowMs: number;
  readonly maxKeys: number;
  readonly host: Pick<Host, 'clock' | 'memory' | 'log'>;
}

export const countKey = (name: string, key: string): string => `count ${name} ${key}`;

async function restore(limiter: RateLimiterMemory, key: string, saved: string | undefined, now: number): Promise<void> {
  if (saved === undefined) return;
  const { used, until } = JSON.parse(saved) as Saved;
  if (until > now) await limiter.set(key, used, Math.max(1, Math.ceil((until - now) / 1000)));
}

export function createCounters({ name, windowMs, maxKeys, host }: CounterSetting): Counters {
  const { clock, memory, log } = host;
  // The limit itself is judged by whoever asks.
  const limiter = new RateLimiterMemory({ points: Number.MAX_SAFE_INTEGER, duration: Math.ceil(windowMs / 1000) });
  const isDurable = windowMs >= durableFromMs;
  /** Keys in use, unseen for longest first; the promise is that of its earlier count. */
  const keys = new Map<string, Promise<void>>();
  const changed = new Set<string>();
  let cancelSave: (() => void) | undefined;

  function load(key: string): Promise<void> {
    if (!isDurable) return Promise.resolve();
    const loading = memory.get(countKey(name, key)).then(saved => restore(limiter, key, saved, clock.now()));
    // What could not be read is asked for again next time.
    loading.catch(() => keys.delete(key));
    return loading;
  }

  async function forgetOldest(): Promise<void> {
    for (const key of keys.keys()) {
      if (keys.size <= maxKeys) return;
      keys.delete(key);
      changed.delete(key);
      await limiter.delete(key);
    }
  }

  async function save(): Promise<void> {
    cancelSave = undefined;
    const todo = [...changed];
    changed.clear();
    for (let at = 0; at < todo.length; at += savedAtOnce)
      await Promise.all(todo.slice(at, at + savedAtOnce).map(key => saveOne(memory, key)));
  }
  async function saveOne(memory: Memory, key: string): Promise<void> {
    const count = await limiter.get(key);
    if (!count || count.msBeforeNext <= 0) return;
    const saved: Saved = { used: count.consumedPoints, until: clock.now() + count.msBeforeNext };
    await memory.set(countKey(name, key), JSON.stringify(saved), count.msBeforeNext);
  }
  function saveSoon(): void {
    cancelSave ??= clock.after(saveAfterMs, () => {
      save().catch((err: unknown) => log.warn({ err, counts: name }, 'Counts of a rate limit are not saved'));
    });
  }

  return {
    async add(key, points) {
      const loaded = keys.get(key) ?? load(key);
      keys.delete(key);
      keys.set(key, loaded);
      await loaded;
      const count = await limiter.penalty(key, points);
      if (isDurable) {
        changed.add(key);
        saveSoon();
      }
      if (keys.size > maxKeys) await forgetOldest();
      return { used: count.consumedPoints, leftMs: Math.max(0, count.msBeforeNext) };
    },
    async reset(key) {
      changed.delete(key);
      await limiter.delete(key);
      if (isDurable) await memory.delete(countKey(name, key));
    },
    async close() {
      cancelSave?.();
      try {
        if (changed.size > 0) await save();
      } finally {
        for (const key of keys.keys()) await limiter.delete(key);
        keys.clear();
      }
    },
  };
}
