// Tests spamtest and virustest, RFC 5235. The verdict is read from fields that earlier filters wrote, as the settings say.
import type { Call, Run } from '../contract.ts';
import { defineExtension } from '../extension.ts';
import { compileRegex } from '../regex.ts';
import type { TestSource } from '../settings.ts';

function readField(run: Run, header: string, pattern: string | undefined): string | undefined {
  const value = run.headers.values(header)[0];
  if (value === undefined || pattern === undefined) return value;
  run.spend(1 + (value.length >> 6));
  const found = compileRegex(pattern, false).match(value);
  return found && (found[1] ?? found[0]);
}

/** From 0 to 1; undefined where nothing was tested. A text gives its own number on the scale of the test. */
function fraction(run: Run, source: TestSource): number | { readonly exact: number } | undefined {
  const text = readField(run, source.header, source.pattern)?.trim();
  if (text === undefined) return undefined;
  if (source.scale === 'text') {
    const value = Object.entries(source.texts ?? {}).find(([key]) => key.toLowerCase() === text.toLowerCase())?.[1];
    return value === undefined ? undefined : { exact: value };
  }
  const maxText = source.maxHeader && readField(run, source.maxHeader.header, source.maxHeader.pattern);
  const max = maxText === undefined ? source.max : parseNumber(maxText);
  const score = source.scale === 'strlen' ? text.length : parseNumber(text);
  if (score === undefined || max === undefined || !(max > 0)) return undefined;
  return Math.min(Math.max(score / max, 0), 1);
}

const parseNumber = (text: string): number | undefined => {
  const found = /^\s*([+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?)/.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
};

// RFC 5235 §2.2: 0 not tested, 1 clean … 10 spam
function spamValue(run: Run): string {
  const source = run.setting('spamtest');
  const part = source && fraction(run, source);
  if (part === undefined) return '0';
  return String(typeof part === 'object' ? clamp(part.exact, 0, 10) : Math.floor(part * 9 + 1e-9) + 1);
}

// RFC 5235 §2.3: percent; a text on the scale of ten is stretched
function spamPercent(run: Run): string | undefined {
  const source = run.setting('spamtest');
  const part = source && fraction(run, source);
  if (part === undefined) return undefined;
  if (typeof part !== 'object') return String(Math.round(part * 100));
  const value = clamp(part.exact, 0, 10);
  return value === 0 ? undefined : String(Math.round(((value - 1) / 9) * 100));
}

// RFC 5235 §3.2: 0 not tested, 1 no virus … 5 certainly
function virusValue(run: Run): string {
  const source = run.setting('virustest');
  const part = source && fraction(run, source);
  if (part === undefined) return '0';
  return String(typeof part === 'object' ? clamp(part.exact, 0, 5) : Math.floor(part * 4 + 1e-9) + 1);
}

const clamp = (value: number, from: number, to: number): number => Math.min(Math.max(Math.round(value), from), to);

// RFC 5235 §2.2: `:count` is 0 when the message was not tested.
function matchValue(call: Call, value: string, tested: boolean) {
  const counted = call.word.matching?.type.matchAll !== undefined;
  return call.matches('key', counted && !tested ? [] : [value]);
}

const key = { name: 'key', type: 'string' } as const;

export const spamtest = defineExtension({
  name: 'spamtest',
  tests: [
    {
      name: 'spamtest',
      uses: ['match-type', 'comparator'],
      arguments: [key],
      run(call) {
        const percent = call.has('percent');
        const value = percent ? (spamPercent(call.run) ?? '0') : spamValue(call.run);
        return matchValue(call, value, spamValue(call.run) !== '0');
      },
    },
  ],
});

export const spamtestplus = defineExtension({
  name: 'spamtestplus',
  implies: ['spamtest'],
  tags: [{ name: 'percent', on: ['spamtest'] }],
});

export const virustest = defineExtension({
  name: 'virustest',
  tests: [
    {
      name: 'virustest',
      uses: ['match-type', 'comparator'],
      arguments: [key],
      run(call) {
        const value = virusValue(call.run);
        return matchValue(call, value, value !== '0');
      },
    },
  ],
});
