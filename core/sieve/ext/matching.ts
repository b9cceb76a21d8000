// Match types, comparators and address parts of the base language: RFC 5228 §2.7; collations: RFC 4790 §9.
import type { ComparatorDefinition, MatchContext, MatchTypeDefinition } from '../contract.ts';
import { defineExtension } from '../extension.ts';
import type { Wildcard } from '../wildcard.ts';
import { compileWildcard, matchWildcard } from '../wildcard.ts';

const upperAscii = /[A-Z]/g;
const lowerCode = (char: string): string => String.fromCharCode(char.charCodeAt(0) + 32);
const beyondAscii = /[^\0-\x7f]/;

/** Only A–Z are folded (RFC 4790 §9.2); the length stays. */
export const asciiLower = (text: string): string =>
  beyondAscii.test(text) ? text.replace(upperAscii, lowerCode) : text.toLowerCase();

/** Order of the UTF-8 octets, which is the order of the code points. */
function compareOctets(a: string, b: string): number {
  if (a === b) return 0;
  return beyondAscii.test(a) || beyondAscii.test(b) ? Buffer.compare(Buffer.from(a), Buffer.from(b)) : a < b ? -1 : 1;
}

const octet: ComparatorDefinition = {
  name: 'i;octet',
  operations: ['equality', 'ordering', 'substring'],
  fold: value => value,
  compare: compareOctets,
  character: 'octet',
};

const asciiCasemap: ComparatorDefinition = {
  name: 'i;ascii-casemap',
  operations: ['equality', 'ordering', 'substring'],
  fold: asciiLower,
  // RFC 4790 §9.2.1 maps to upper case, which matters for the order of `_` and letters.
  compare: (a, b) => compareOctets(asciiUpper(a), asciiUpper(b)),
  character: 'octet',
};

const asciiUpper = (text: string): string =>
  beyondAscii.test(text) ? text.replace(/[a-z]/g, char => char.toUpperCase()) : text.toUpperCase();

interface Prepared {
  readonly wildcard: Wildcard;
  /** Pattern over UTF-8 octets, for values beyond ASCII. */
  readonly octets: Wildcard | undefined;
}

const is: MatchTypeDefinition = {
  name: 'is',
  needs: 'equality',
  prepare: (key, comparator) => comparator.fold(key),
  match: (value, key, context) => context.comparator.fold(value) === key,
};

const contains: MatchTypeDefinition = {
  name: 'contains',
  needs: 'substring',
  prepare: (key, comparator) => comparator.fold(key),
  match(value, key, context) {
    const folded = context.comparator.fold(value);
    context.run.spend((folded.length * Math.min((key as string).length, 64)) >> 14);
    return includesLinear(folded, key as string);
  },
};

const matches: MatchTypeDefinition = {
  name: 'matches',
  needs: 'substring',
  prepare(key, comparator): Prepared {
    const folded = comparator.character === 'octet' ? comparator.fold(key) : key;
    const wildcard = compileWildcard(folded);
    const octets = comparator.character === 'octet' && wildcard.hasQuestion;
    return { wildcard, octets: octets ? compileWildcard(toOctets(folded)) : undefined };
  },
  match(value, prepared, context) {
    const { wildcard, octets } = prepared as Prepared;
    const { run, comparator } = context;
    run.spend(1 + ((value.length * (1 + (wildcard.length >> 5))) >> 8));
    if (comparator.character !== 'octet') return matchCharacters(value, wildcard, context);
    // `?` is one octet here; without it, or within ASCII, UTF-16 units will do.
    if (octets && beyondAscii.test(value)) {
      const binary = toOctets(comparator.fold(value));
      const found = matchWildcard(octets, binary);
      const original = toOctets(value);
      return found !== undefined && keep(context, value, found, ([from, to]) => fromOctets(original.slice(from, to)));
    }
    const found = matchWildcard(wildcard, comparator.fold(value));
    return found !== undefined && keep(context, value, found, ([from, to]) => value.slice(from, to));
  },
};

function keep(
  context: MatchContext,
  value: string,
  found: readonly (readonly [number, number])[],
  slice: (range: readonly [number, number]) => string,
): true {
  const { run } = context;
  if (run.captures) run.captures = [value, ...found.slice(0, run.setting('maxMatchValues') - 1).map(slice)];
  return true;
}

const toOctets = (text: string): string => Buffer.from(text).toString('latin1');
const fromOctets = (octets: string): string => Buffer.from(octets, 'latin1').toString('utf8');

/**
 * Characters whose folded form has another length: each distinct folded character becomes one unit of an alphabet made
 * for this comparison, so that offsets are those of the value's characters.
 */
function matchCharacters(value: string, wildcard: Wildcard, context: MatchContext): boolean {
  const { comparator } = context;
  const alphabet = new Map<string, number>();
  const unit = (char: string): number => {
    const folded = comparator.fold(char);
    const known = alphabet.get(folded);
    if (known !== undefined) return known;
    alphabet.set(folded, alphabet.size + 1);
    return alphabet.size;
  };
  const chars = [...value.normalize('NFC')];
  let text = '';
  for (const char of chars) text += String.fromCharCode(unit(char));
  const pattern: Wildcard = {
    ...wildcard,
    segments: wildcard.segments.map(segment => {
      const units = inCharacters(segment.units).map(char => (typeof char === 'string' ? unit(char) : char));
      const plain = units.every(code => code >= 0);
      return { units, text: plain ? units.map(code => String.fromCharCode(code)).join('') : undefined };
    }),
  };
  const found = matchWildcard(pattern, text);
  return found !== undefined && keep(context, value, found, ([from, to]) => chars.slice(from, to).join(''));
}

/** UTF-16 units of a segment joined to characters; wildcards stay numbers. */
function inCharacters(units: readonly number[]): (string | number)[] {
  const out: (string | number)[] = [];
  let run: number[] = [];
  const flush = (): void => {
    const text = run.map(code => String.fromCharCode(code)).join('');
    out.push(...text.normalize('NFC'));
    run = [];
  };
  for (const unit of units) {
    if (unit >= 0) run.push(unit);
    else {
      flush();
      out.push(unit);
    }
  }
  flush();
  return out;
}

/** The runtime's search is fast on mail and slow on text made to be slow; then a pattern without wildcards is linear. */
function includesLinear(text: string, key: string): boolean {
  if (key.length < 8 || text.length * key.length < 1 << 20) return text.includes(key);
  const units = Array.from({ length: key.length }, (_, at) => key.charCodeAt(at));
  const none = { units: [], text: '' };
  return (
    matchWildcard({ segments: [none, { units, text: key }, none], hasQuestion: false, length: key.length }, text) !==
    undefined
  );
}

export const matching = defineExtension({
  name: 'matching',
  always: true,
  hidden: true,
  matchTypes: [is, contains, matches],
  addressParts: [
    { name: 'all', part: address => address.text },
    { name: 'localpart', part: address => address.local },
    { name: 'domain', part: address => address.domain },
  ],
});

/** Comparators may be named in `require` (RFC 5228 §2.7.3), those of the base need not be. */
export const octetComparator = defineExtension({ name: 'comparator-i;octet', always: true, comparators: [octet] });
export const asciiCasemapComparator = defineExtension({
  name: 'comparator-i;ascii-casemap',
  always: true,
  comparators: [asciiCasemap],
});

/** RFC 4790 §9.1: digits at the beginning are a number; text without them is infinite, equal only to its like. */
const leadingNumber = (text: string): string | undefined => /^[0-9]+/.exec(text)?.[0].replace(/^0+(?=.)/, '');

export const asciiNumericComparator = defineExtension({
  name: 'comparator-i;ascii-numeric',
  comparators: [
    {
      name: 'i;ascii-numeric',
      operations: ['equality', 'ordering'],
      fold: value => leadingNumber(value) ?? 'infinite',
      compare(a, b) {
        const left = leadingNumber(a);
        const right = leadingNumber(b);
        if (left === undefined || right === undefined)
          return (left === undefined ? 1 : 0) - (right === undefined ? 1 : 0);
        return left.length === right.length ? compareOctets(left, right) : left.length - right.length;
      },
      character: 'octet',
    },
  ],
});

/** RFC 5051 §2: each character to title case, then decomposed. */
const unicodeFold = (text: string): string =>
  beyondAscii.test(text) ? Array.from(text, titleCase).join('').normalize('NFKD') : text.toUpperCase();

function titleCase(char: string): string {
  const upper = char.toUpperCase();
  // Simple mappings only (UnicodeData.txt): one character becomes one character, so sharp s stays.
  return [...upper].length === 1 ? upper : char;
}

export const unicodeCasemapComparator = defineExtension({
  name: 'comparator-i;unicode-casemap',
  comparators: [
    {
      name: 'i;unicode-casemap',
      operations: ['equality', 'ordering', 'substring'],
      fold: unicodeFold,
      compare: (a, b) => compareOctets(unicodeFold(a), unicodeFold(b)),
      character: 'code-point',
    },
  ],
});
