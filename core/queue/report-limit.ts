// How many reports one address may be sent: a bucket that refills over an hour. Bounded; a forgotten address starts full.

export interface ReportLimit {
  /** False: not now. */
  take(address: string, now: number): boolean;
}

const remembered = 10_000;
const hourMs = 3_600_000;

export function createReportLimit(perHour: number): ReportLimit {
  const buckets = new Map<string, { readonly left: number; readonly at: number }>();
  return {
    take(address, now) {
      const bucket = buckets.get(address) ?? { left: perHour, at: now };
      const left = Math.min(perHour, bucket.left + (Math.max(0, now - bucket.at) / hourMs) * perHour);
      buckets.delete(address);
      buckets.set(address, { left: left < 1 ? left : left - 1, at: now });
      const [oldest] = buckets.keys();
      if (buckets.size > remembered && oldest !== undefined) buckets.delete(oldest);
      return left >= 1;
    },
  };
}
