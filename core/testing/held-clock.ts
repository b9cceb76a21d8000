// Time that stands still until a test moves it.
import type { Clock } from '../lib/clock.ts';

export interface HeldClock extends Clock {
  /** Runs what falls due on the way, in order. */
  move(ms: number): void;
}

export function heldClock(start: number = Date.UTC(2026, 10, 21, 12)): HeldClock {
  let at = 0;
  const waiting = new Set<{ readonly due: number; readonly run: () => void }>();
  const earliest = (until: number) => [...waiting].filter(call => call.due <= until).sort((a, b) => a.due - b.due)[0];
  return {
    now: () => start + at,
    monotonic: () => at,
    after(ms, run) {
      const call = { due: at + ms, run };
      waiting.add(call);
      return () => waiting.delete(call);
    },
    move(ms) {
      const until = at + ms;
      for (let next = earliest(until); next; next = earliest(until)) {
        at = Math.max(at, next.due);
        waiting.delete(next);
        next.run();
      }
      at = until;
    },
  };
}
