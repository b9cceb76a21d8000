// Counting in windows of time: the only file here that knows the limiter. Invariants:
// - Memory is bounded: of more than `maxKeys` keys the one unseen for longest is forgotten.
// - Counts of windows of an hour and more survive a restart: they are written down ten seconds after a change and at the
//   end, so a crash forgets ten seconds. Shorter windows are over before it would matter.
import { RateLimiterMemory } from 'rate-limiter-flexible';
import type { Host, Memory } from '../../core/plugin/index.ts';

export interface Count {
  readonly used: number;
  /** When its window began, as wall clock time in milliseconds; after a reset not before the time told there. */
  readonly began: number;
  /** Milliseconds until the window ends. */
  readonly leftMs: number;
}

export interface Counters {
  /** Rejects where earlier counts cannot be read. */
  add(key: string, points: number): Promise<Count>;
  /** Forgets what was counted; the next window counts as begun at `from`, wall clock time in milliseconds, or later. */
  reset(key: string, from: number): Promise<void>;
  close(): Promise<void>;
}

const durableFromMs = 3_600_000;
const saveAfterMs = 10_000;
const savedAtOnce = 500;

interface Saved {
  readonly used: number;
  /** Missing where an earlier version wrote it. */
  readonly began?: number;
  readonly until: number;
}

interface Key {
  /** Settled when its earlier count is read. */
  loaded: Promise<void>;
  began: number;
}

export interface CounterSetting {
  /** Unique for what is counted and how, so that another configuration does not take its counts over. */
  readonly name: string;
  readonly windowMs: number;
  readonly maxKeys: number;
  readonly host: Pick<Host, 'clock' | 'memory' | 'log'>;
}

export const countKey = (name: string, key: string): string => `count ${name} ${key}`;

export function createCounters({ name, windowMs, maxKeys, host }: CounterSetting): Counters {
  const { clock, memory, log } = host;
  // The limit itself is judged by whoever asks.
  const limiter = new RateLimiterMemory({ points: Number.MAX_SAFE_INTEGER, duration: Math.ceil(windowMs / 1000) });
  const isDurable = windowMs >= durableFromMs;
  /** Keys in use, unseen for longest first. */
  const keys = new Map<string, Key>();
  const changed = new Set<string>();
  let cancelSave: (() => void) | undefined;
  /** The last save that nobody waits for. */
  let saving: Promise<void> = Promise.resolve();

  async function restore(key: string, known: Key): Promise<void> {
    const saved = await memory.get(countKey(name, key));
    if (saved === undefined) return;
    const { used, until, began = until - windowMs } = JSON.parse(saved) as Saved;
    const leftMs = until - clock.now();
    if (leftMs <= 0) return;
    await limiter.set(key, used, Math.max(1, Math.ceil(leftMs / 1000)));
    known.began = began;
  }

  function open(key: string): Key {
    const known: Key = { loaded: Promise.resolve(), began: 0 };
    if (!isDurable) return known;
    known.loaded = restore(key, known);
    // What could not be read is asked for again next time.
    known.loaded.catch(() => keys.delete(key));
    return known;
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
      try {
        await Promise.all(todo.slice(at, at + savedAtOnce).map(key => saveOne(memory, key)));
      } catch (error) {
        // With the next change, or at the end.
        for (const key of todo.slice(at)) changed.add(key);
        throw error;
      }
  }
  async function saveOne(memory: Memory, key: string): Promise<void> {
    const count = await limiter.get(key);
    if (!count || count.msBeforeNext <= 0) return;
    const until = clock.now() + count.msBeforeNext;
    const saved: Saved = { used: count.consumedPoints, began: keys.get(key)?.began ?? until - windowMs, until };
    await memory.set(countKey(name, key), JSON.stringify(saved), count.msBeforeNext);
  }
  function saveSoon(): void {
    cancelSave ??= clock.after(saveAfterMs, () => {
      saving = save().catch((err: unknown) => log.warn({ err, counts: name }, 'Counts of a rate limit are not saved'));
    });
  }

  return {
    async add(key, points) {
      const known = keys.get(key) ?? open(key);
      keys.delete(key);
      keys.set(key, known);
      await known.loaded;
      const count = await limiter.penalty(key, points);
      // The first of a window.
      if (count.consumedPoints === points) known.began = Math.max(known.began, clock.now());
      if (isDurable) {
        changed.add(key);
        saveSoon();
      }
      if (keys.size > maxKeys) await forgetOldest();
      return { used: count.consumedPoints, began: known.began, leftMs: Math.max(0, count.msBeforeNext) };
    },
    async reset(key, from) {
      changed.delete(key);
      const known = keys.get(key);
      if (known) known.began = from;
      await limiter.delete(key);
      if (isDurable) await memory.delete(countKey(name, key));
    },
    async close() {
      cancelSave?.();
      await saving;
      try {
        if (changed.size > 0) await save();
      } finally {
        for (const key of keys.keys()) await limiter.delete(key);
        keys.clear();
      }
    },
  };
}
