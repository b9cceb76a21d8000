// How many reports one address may be sent: a bucket that refills over an hour. Bounded; a forgotten address starts full.
import { keepNewest } from '../lib/keep-newest.ts';

export interface ReportLimit {
  /** Whether so many may be sent now. */
  allows(address: string, count: number, now: number): boolean;
  /** They were sent. */
  note(address: string, count: number, now: number): void;
}

const remembered = 10_000;
const hourMs = 3_600_000;

/** `perHour` may change between calls. */
export function createReportLimit(perHour: () => number): ReportLimit {
  const buckets = new Map<string, { readonly left: number; readonly at: number }>();
  /** What is left after `count` more. */
  function take(address: string, count: number, now: number): number {
    const most = perHour();
    const bucket = buckets.get(address) ?? { left: most, at: now };
    const left = Math.min(most, bucket.left + (Math.max(0, now - bucket.at) / hourMs) * most) - count;
    keepNewest(buckets, address, { left, at: now }, remembered);
    return left;
  }
  return {
    allows: (address, count, now) => take(address, 0, now) >= count,
    note(address, count, now) {
      // Who is sent nothing takes nobody's place.
      if (count > 0) take(address, count, now);
    },
  };
}
