// Tests date and currentdate, RFC 5260; `:index` and `:last` of the same document.
import type { Call, Complain, Run, TagDefinition } from '../contract.ts';
import type { DateTime } from '../date-time.ts';
import { datePart, isDatePart, parseDateTime, parseZone } from '../date-time.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { checkFieldName } from './basic-tests.ts';

function checkZone(zone: string, complain: Complain): void {
  if (parseZone(zone) === undefined) complain(`${quote(zone)} is no time zone such as "+0100"`);
}

function checkPart(part: string, complain: Complain): void {
  if (!isDatePart(part)) complain(`Unknown date part ${quote(part)}`);
}

const zone: TagDefinition = { name: 'zone', type: 'string', group: 'zone', check: checkZone };

function localZone(run: Run, ms: number): number {
  return run.setting('timeZoneMinutes') ?? -new Date(ms).getTimezoneOffset();
}

function matchPart(call: Call, when: DateTime | undefined) {
  if (!when) return call.matches('keys', []);
  const given = call.maybeString('zone');
  const zoneMinutes = call.has('originalzone')
    ? when.zoneMinutes
    : given === undefined
      ? localZone(call.run, when.ms)
      : (parseZone(given) ?? 0);
  return call.matches('keys', [datePart(call.string('date part'), { ms: when.ms, zoneMinutes })]);
}

const started = Symbol('time of the run');

/** RFC 5260 §5: the same point in time during the whole run. */
const timeOf = (run: Run): number => run.state(started, () => run.host.clock.now());

export const date = defineExtension({
  name: 'date',
  tests: [
    {
      name: 'date',
      uses: ['match-type', 'comparator'],
      tags: [zone, { name: 'originalzone', group: 'zone' }],
      arguments: [
        { name: 'header name', type: 'string', check: checkFieldName },
        { name: 'date part', type: 'string', check: checkPart },
        { name: 'keys', type: 'string-list' },
      ],
      async run(call) {
        const [field] = await call.fields([call.string('header name')]);
        const text = field && (call.readField(field)?.[0] ?? field.value);
        // RFC 5260 §4: the whole field, or what follows its last semicolon.
        return matchPart(call, text === undefined ? undefined : parseDateTime(text.slice(text.lastIndexOf(';') + 1)));
      },
    },
    {
      name: 'currentdate',
      uses: ['match-type', 'comparator'],
      tags: [zone],
      arguments: [
        { name: 'date part', type: 'string', check: checkPart },
        { name: 'keys', type: 'string-list' },
      ],
      run: call => matchPart(call, { ms: timeOf(call.run), zoneMinutes: 0 }),
    },
  ],
});

export function checkIndex(call: {
  readonly number: (name: string) => number | undefined;
  error(text: string, at?: string): void;
}): void {
  if (call.number('index') === 0) call.error("Tag ':index' counts from 1", 'index');
}

/** RFC 5260 §6 */
export function pickIndex<T>(list: readonly T[], index: number, last: boolean): readonly T[] {
  const item = list[last ? list.length - index : index - 1];
  return item === undefined ? [] : [item];
}

const words = ['header', 'address', 'date'];

export const index = defineExtension({
  name: 'index',
  tags: [
    {
      name: 'index',
      type: 'number',
      on: words,
      validate: checkIndex,
      fields: { pick: (fields, call) => pickIndex(fields, call.number('index'), call.has('last')) },
    },
    {
      name: 'last',
      on: words,
      validate(word) {
        if (!word.has('index')) word.error("Tag ':last' needs ':index'", 'last');
      },
    },
  ],
});
