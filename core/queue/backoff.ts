// When to try again. Two clocks: one per recipient (its own trouble) and one per destination (the next hop's trouble).
// While a destination is in trouble its recipients wait with it and do not age in attempts, so that all of them leave
// as soon as it is back.

export interface BackoffPolicy {
  /** Wait after a recipient's first failed attempt, ms; doubled each time. */
  readonly firstRetryMs: number;
  /** Longest wait of a recipient, ms. */
  readonly maxRetryMs: number;
  /** Wait after a destination's first failure, ms; doubled each time. */
  readonly firstProbeMs: number;
  /** Longest wait of a destination, ms. RFC 5321 §4.5.4.1 asks for 30 minutes between attempts in general. */
  readonly maxProbeMs: number;
}

export const defaultBackoff: BackoffPolicy = {
  firstRetryMs: 60_000,
  maxRetryMs: 3_600_000,
  firstProbeMs: 5_000,
  maxProbeMs: 300_000,
};

const jitter = 0.2;

/** Exponential with jitter of ±20 %, so that what failed together does not come back together. `failures` counts from 1. */
function wait(firstMs: number, maxMs: number, failures: number, random: () => number): number {
  const base = Math.min(maxMs, firstMs * 2 ** Math.min(30, Math.max(0, failures - 1)));
  return Math.round(base * (1 - jitter + 2 * jitter * random()));
}

/** ms until a recipient's next try. */
export const retryWaitMs = (policy: BackoffPolicy, attempts: number, random: () => number): number =>
  wait(policy.firstRetryMs, policy.maxRetryMs, attempts, random);

/** ms until a destination is probed again. */
export const probeWaitMs = (policy: BackoffPolicy, failures: number, random: () => number): number =>
  wait(policy.firstProbeMs, policy.maxProbeMs, failures, random);

/** ms; what waits longer has its time from a clock that was wrong. */
export const longestWaitMs = (policy: BackoffPolicy): number =>
  Math.max(policy.maxRetryMs, policy.maxProbeMs) * (1 + jitter);
