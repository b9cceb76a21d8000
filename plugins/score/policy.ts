// From a sum to what is done with the message: thresholds, those of single domains and recipients, and the sentence that
// tells what would have let it through.
import type { Recipient } from '../../core/plugin/index.ts';
import type { ScoreLine, ScoreTotal } from './results.ts';

export type Threshold = number | 'never';
export interface Thresholds {
  readonly tag: Threshold;
  readonly quarantine: Threshold;
  readonly reject: Threshold;
}
export interface Policy {
  readonly for: readonly string[];
  readonly tag?: Threshold | undefined;
  readonly quarantine?: Threshold | undefined;
  readonly reject?: Threshold | undefined;
}

/** Binary fractions add up to 4.999…; what is shown with one digit decides with two. */
const rounded = (value: number): number => Math.round(value * 100) / 100;
export const sumOf = (lines: readonly ScoreLine[]): number =>
  rounded(lines.reduce((sum, { points }) => sum + points, 0));

const order = ['reject', 'quarantine', 'tag'] as const;
const fromOf = (threshold: Threshold): number => (threshold === 'never' ? Number.POSITIVE_INFINITY : threshold);

/** Of the first policy that names the address or its domain; what that leaves out is as in general. */
export function thresholdsOf(to: Recipient, general: Thresholds, policies: readonly Policy[]): Thresholds {
  const address = to.address.text.toLowerCase();
  const domain = to.address.domain.toLowerCase();
  const found = policies.find(policy => policy.for.some(name => name === address || name === domain));
  if (!found) return general;
  return {
    tag: found.tag ?? general.tag,
    quarantine: found.quarantine ?? general.quarantine,
    reject: found.reject ?? general.reject,
  };
}

export const sameThresholds = (a: Thresholds, b: Thresholds): boolean => order.every(name => a[name] === b[name]);

/** One message has one outcome: for each action the highest (or lowest) threshold of all recipients. */
export function combine(all: readonly Thresholds[], how: 'mildest' | 'strictest'): Thresholds {
  const pick = how === 'mildest' ? Math.max : Math.min;
  const one = (name: (typeof order)[number]): Threshold => {
    const value = pick(...all.map(thresholds => fromOf(thresholds[name])));
    return Number.isFinite(value) ? value : 'never';
  };
  return { tag: one('tag'), quarantine: one('quarantine'), reject: one('reject') };
}

export const dispositionOf = (total: number, thresholds: Thresholds): ScoreTotal['disposition'] =>
  order.find(name => total >= fromOf(thresholds[name])) ?? 'clean';

const signed = (value: number): string => `${value < 0 ? '' : '+'}${rounded(value)}`;
export const showLine = ({ name, detail, points }: ScoreLine): string =>
  `${signed(points)} ${name}${detail ? ` (${detail})` : ''}`;

/** What would have let it through: a single line that decided, else the fewest lines that did so together. */
export function whatWouldPass(lines: readonly ScoreLine[], total: number, thresholds: Thresholds): string | undefined {
  const limit = Math.min(...order.map(name => fromOf(thresholds[name])));
  if (!(total >= limit)) return undefined;
  const alone = lines.filter(({ points }) => rounded(total - points) < limit);
  if (alone.length > 0) return `Below ${limit} without any one of: ${alone.map(showLine).join('; ')}`;
  const needed: ScoreLine[] = [];
  let rest = total;
  for (const line of lines) {
    if (rest < limit || line.points <= 0) break;
    needed.push(line);
    rest = rounded(rest - line.points);
  }
  return `Below ${limit} without all of: ${needed.map(showLine).join('; ')}`;
}
