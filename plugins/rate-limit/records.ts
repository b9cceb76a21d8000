// What is remembered besides counts, for operators and over restarts:
//   hold ACCOUNT              its mail is kept back until released
//   over DIMENSION KEY        went over a limit; expires with the window
//   released DIMENSION KEY    an operator let it go on; counts of windows that began before this time are forgotten
import type { PluginAdmin } from '../../core/plugin/index.ts';

export interface Over {
  readonly since: number;
  /** `101 messages in 1h, limit 100`. */
  readonly what: string;
  readonly until: number;
}

export const holdKey = (account: string): string => `hold ${account}`;
export const overKey = (dimension: string, key: string): string => `over ${dimension} ${key}`;
export const releasedKey = (dimension: string, key: string): string => `released ${dimension} ${key}`;

/** Until released; a limit of some kind, for nothing is kept for ever. */
export const holdMs = 365 * 86_400_000;
/** Longer than any window. */
const releasedMs = 15 * 86_400_000;
const maxWalk = 1_000_000;

const time = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ');

export const admin: PluginAdmin = {
  async list(memory, _now, limit) {
    const holds = await memory.list('hold ', limit);
    const over = await memory.list('over ', Math.max(0, limit - holds.length));
    return [
      ...holds.map(({ key, value }) => {
        const { since, what } = JSON.parse(value) as Over;
        return { state: 'held', of: 'account', who: key.slice('hold '.length), since: time(since), until: '-', what };
      }),
      ...over.map(({ key, value }) => {
        const { since, what, until } = JSON.parse(value) as Over;
        const [, of = '', ...who] = key.split(' ');
        return { state: 'over', of, who: who.join(' '), since: time(since), until: time(until), what };
      }),
    ];
  },
  async release(memory, now, what) {
    const wanted = what.toLowerCase();
    const found = new Set<string>();
    for (const { key } of await memory.list('hold ', maxWalk))
      if (key.slice('hold '.length) === wanted) found.add(`account ${wanted}`);
    for (const { key } of await memory.list('over ', maxWalk)) {
      const name = key.slice('over '.length);
      if (name === wanted || name.slice(name.indexOf(' ') + 1) === wanted) found.add(name);
    }
    for (const name of found) {
      // The mark first: should this end half-way, it can be done again. It lies after every window that has begun, also one
      // of this very millisecond or one that began anew by the release before.
      const earlier = Number((await memory.get(`released ${name}`)) ?? 0);
      await memory.set(`released ${name}`, String(Math.max(now, earlier) + 1), releasedMs);
      await memory.delete(`over ${name}`);
      if (name.startsWith('account ')) await memory.delete(holdKey(name.slice('account '.length)));
    }
    return found.size;
  },
};
