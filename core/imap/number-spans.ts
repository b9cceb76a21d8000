// Sets of numbers as ascending ranges that do not overlap, so that asking costs the logarithm of what the client wrote.
import { type SequenceSet, star } from './wire/types.ts';

export type NumberSpans = readonly (readonly [first: number, last: number])[];

/** `largest` stands for `*`. */
export function numberSpans(set: SequenceSet, largest: number): NumberSpans {
  const named = set
    .map(({ first, last }) => {
      const a = first === star ? largest : first;
      const b = last === star ? largest : last;
      return [Math.min(a, b), Math.max(a, b)] as const;
    })
    .sort((one, other) => one[0] - other[0]);
  const spans: [number, number][] = [];
  for (const [first, last] of named) {
    const before = spans.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else spans.push([first, last]);
  }
  return spans;
}

export function spansHold(spans: NumberSpans, wanted: number): boolean {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((spans[middle]?.[1] ?? 0) < wanted) low = middle + 1;
    else high = middle;
  }
  return (spans[low]?.[0] ?? Number.POSITIVE_INFINITY) <= wanted;
}
