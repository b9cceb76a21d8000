// `:matches`, RFC 5228 §2.7.1, with the strings that the wildcards stand for, RFC 5229 §3.2. A pattern is cut at its `*`
// into segments; the first is anchored at the start, the last at the end, and each one between is taken at its leftmost
// place. That is the non-greedy match, and no choice is ever taken back. A segment without `?` is searched with KMP where
// the plain search could be slow, one with `?` bit-parallel: never more than value × pattern/32 steps of a few instructions.

interface Segment {
  /** Code units; `wild` where `?` stands. */
  readonly units: readonly number[];
  readonly text: string | undefined;
}
const wild = -1;

export interface Wildcard {
  readonly segments: readonly Segment[];
  readonly hasQuestion: boolean;
  /** Order of wildcards in the pattern, for the captures. */
  readonly length: number;
}

/** `pattern` in the form that values are compared in; `\\` takes away the meaning of the character behind it. */
export function compileWildcard(pattern: string): Wildcard {
  const segments: Segment[] = [];
  let units: number[] = [];
  let hasQuestion = false;
  const close = (): void => {
    const text = units.includes(wild) ? undefined : String.fromCharCode(...units.slice(0, 4096)) + long(units);
    segments.push({ units, text });
    units = [];
  };
  for (let at = 0; at < pattern.length; at += 1) {
    const char = pattern[at];
    if (char === '*') close();
    else if (char === '?') {
      hasQuestion = true;
      units.push(wild);
    } else {
      if (char === '\\' && at + 1 < pattern.length) at += 1;
      units.push(pattern.charCodeAt(at));
    }
  }
  close();
  return { segments, hasQuestion, length: segments.reduce((sum, segment) => sum + segment.units.length, 0) };
}

function long(units: readonly number[]): string {
  let out = '';
  for (let at = 4096; at < units.length; at += 4096) out += String.fromCharCode(...units.slice(at, at + 4096));
  return out;
}

/** Ranges of the wildcards in order, `[start, end]` pairs; undefined where the value does not match. */
export function matchWildcard(wildcard: Wildcard, value: string): readonly (readonly [number, number])[] | undefined {
  const { segments } = wildcard;
  const first = segments[0] as Segment;
  const last = segments[segments.length - 1] as Segment;
  if (segments.length === 1) {
    if (first.units.length !== value.length || !fitsAt(first, value, 0)) return undefined;
    return questions(first, 0, []);
  }
  const end = value.length - last.units.length;
  if (end < first.units.length || !fitsAt(first, value, 0) || !fitsAt(last, value, end)) return undefined;
  const captures = questions(first, 0, []);
  let at = first.units.length;
  for (const segment of segments.slice(1, -1)) {
    const found = find(segment, value, at, end);
    if (found === -1) return undefined;
    captures.push([at, found]);
    questions(segment, found, captures);
    at = found + segment.units.length;
  }
  captures.push([at, end]);
  return questions(last, end, captures);
}

function questions(segment: Segment, at: number, captures: [number, number][]): [number, number][] {
  if (segment.text === undefined)
    segment.units.forEach((unit, offset) => {
      if (unit === wild) captures.push([at + offset, at + offset + 1]);
    });
  return captures;
}

function fitsAt(segment: Segment, value: string, at: number): boolean {
  if (segment.text !== undefined) return value.startsWith(segment.text, at);
  return segment.units.every((unit, offset) => unit === wild || value.charCodeAt(at + offset) === unit);
}

const plainWork = 1 << 16;

/** Leftmost place of the segment at or after `from` that ends at or before `end`, or -1. */
function find(segment: Segment, value: string, from: number, end: number): number {
  const length = segment.units.length;
  if (from + length > end) return -1;
  const work = length * (end - from);
  if (segment.text !== undefined) {
    if (work > plainWork && length > 1) return findLong(segment.text, value, from, end);
    const found = value.indexOf(segment.text, from);
    return found === -1 || found + length > end ? -1 : found;
  }
  if (work > plainWork) return findBits(segment.units, value, from, end);
  for (let at = from; at + length <= end; at += 1) if (fitsAt(segment, value, at)) return at;
  return -1;
}

/** Knuth, Morris, Pratt: linear whatever the text. */
function findLong(needle: string, value: string, from: number, end: number): number {
  const fail = new Int32Array(needle.length);
  for (let at = 1, k = 0; at < needle.length; at += 1) {
    while (k > 0 && needle[at] !== needle[k]) k = fail[k - 1] ?? 0;
    if (needle[at] === needle[k]) k += 1;
    fail[at] = k;
  }
  for (let at = from, k = 0; at < end; at += 1) {
    while (k > 0 && value[at] !== needle[k]) k = fail[k - 1] ?? 0;
    if (value[at] === needle[k]) k += 1;
    if (k === needle.length) return at - k + 1;
  }
  return -1;
}

/** Shift-and with as many 32-bit words as the segment needs. */
function findBits(units: readonly number[], value: string, from: number, end: number): number {
  const words = Math.ceil(units.length / 32);
  const masks = new Map<number, Int32Array>();
  const any = new Int32Array(words);
  units.forEach((unit, at) => {
    if (unit === wild) any[at >> 5] = (any[at >> 5] ?? 0) | (1 << (at & 31));
  });
  units.forEach((unit, at) => {
    if (unit === wild) return;
    const mask = masks.get(unit) ?? any.slice();
    mask[at >> 5] = (mask[at >> 5] ?? 0) | (1 << (at & 31));
    masks.set(unit, mask);
  });
  const state = new Int32Array(words);
  const lastWord = (units.length - 1) >> 5;
  const lastBit = 1 << ((units.length - 1) & 31);
  for (let at = from; at < end; at += 1) {
    const mask = masks.get(value.charCodeAt(at)) ?? any;
    let carry = 1;
    for (let word = 0; word < words; word += 1) {
      const old = state[word] ?? 0;
      state[word] = ((old << 1) | carry) & (mask[word] ?? 0);
      carry = old >>> 31;
    }
    if (((state[lastWord] ?? 0) & lastBit) !== 0) return at - units.length + 1;
  }
  return -1;
}
