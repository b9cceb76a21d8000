// What this process knows about destinations in trouble: while one backs off nobody waits for it, neither a client nor
// the runner. Bounded: forgetting a destination only costs one more attempt.
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
  /** An attempt that began at `startedAt` failed. Attempts that ran side by side count once. */
  fail(
    destination: string,
    startedAt: number,
    now: number,
    knownFailures?: number,
  ): { readonly failures: number; readonly until: number };
  /** True where it was in trouble until now. */
  recovered(destination: string): boolean;
}

const remembered = 10_000;

export function createDestinationHealth(policy: BackoffPolicy, random: () => number = Math.random): DestinationHealth {
  const troubles = new Map<string, Trouble>();
  return {
    trouble: destination => troubles.get(destination) ?? { failures: 0, until: 0 },
    fail(destination, startedAt, now, knownFailures = 0) {
      const before = troubles.get(destination);
      if (before && before.failedAt >= startedAt) return before;
      const failures = (before?.failures ?? knownFailures) + 1;
      const trouble = { failures, failedAt: now, until: now + probeWaitMs(policy, failures, random) };
      troubles.delete(destination);
      troubles.set(destination, trouble);
      if (troubles.size > remembered) {
        const [oldest] = troubles.keys();
        if (oldest !== undefined) troubles.delete(oldest);
      }
      return trouble;
    },
    recovered: destination => troubles.delete(destination),
  };
}
