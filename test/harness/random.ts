// Seeded random choices (mulberry32), so that a failing run can be repeated.
export interface Random {
  /** From 0 up to, not including, `limit`. */
  int(limit: number): number;
  pick<T>(list: readonly T[]): T;
  chance(probability: number): boolean;
}

export function random(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  const int = (limit: number): number => Math.floor(next() * limit);
  return {
    int,
    pick: list => list[int(list.length)] as (typeof list)[number],
    chance: probability => next() < probability,
  };
}
