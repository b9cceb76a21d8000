// What this process knows about destinations in trouble: while one backs off nobody waits for it, neither a client nor
// the runner. Bounded: forgetting a destination only costs one more attempt.
import { keepNewest } from '../lib/keep-newest.ts';
import type { BackoffPolicy } from './backoff.ts';
import { probeWaitMs } from './backoff.ts';

interface Trouble {
  readonly failures: number;
  readonly failedAt: number;
  readonly until: number;
}

export interface DestinationHealth {
  /** `until`: ms since the epoch before which nobody should try; 0 when it is fine. */
  trouble(destination: string): { readonly failures: number; readonly until: number };
  /** Takes over what the store knows from before this process. */
  remember(destination: string, failures: number): void;
  /** An attempt that began at `startedAt` failed. Attempts that ran side by side count once. */
  fail(destination: string, startedAt: number, now: number): { readonly failures: number; readonly until: number };
  /** True where it was in trouble until now. */
  recovered(destination: string): boolean;
}

const remembered = 10_000;

export function createDestinationHealth(policy: BackoffPolicy, random: () => number = Math.random): DestinationHealth {
  const troubles = new Map<string, Trouble>();
  const set = (destination: string, trouble: Trouble): void => keepNewest(troubles, destination, trouble, remembered);
  return {
    trouble: destination => troubles.get(destination) ?? { failures: 0, until: 0 },
    remember(destination, failures) {
      if (failures > 0 && !troubles.has(destination)) set(destination, { failures, failedAt: 0, until: 0 });
    },
    fail(destination, startedAt, now) {
      const before = troubles.get(destination);
      // One noted later than now is of a clock that was set back since.
      if (before && before.failedAt >= startedAt && before.failedAt <= now) return before;
      const failures = (before?.failures ?? 0) + 1;
      const trouble = { failures, failedAt: now, until: now + probeWaitMs(policy, failures, random) };
      set(destination, trouble);
      return trouble;
    },
    recovered: destination => troubles.delete(destination),
  };
}
