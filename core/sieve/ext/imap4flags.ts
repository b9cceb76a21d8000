// IMAP flags, RFC 5232. Sets of flags live in variables as text with spaces; the internal variable has no name.
import type { Call, CommandDefinition, Run, WordScope } from '../contract.ts';
import { defineExtension } from '../extension.ts';
import { identifier } from './variables.ts';

const internal = Symbol('internal flags');
const settable = new Set(['\\seen', '\\answered', '\\flagged', '\\deleted', '\\draft']);
const keyword = /^[^\s\0-\x1f\x7f-\uffff(){%*"\\\]]+$/;
const maxFlags = 128;

/** RFC 5232 §2: names separated by spaces, empty and invalid ones left out, without duplicates whatever their case. */
function splitFlags(list: readonly string[]): readonly string[] {
  const seen = new Map<string, string>();
  for (const flag of list.flatMap(text => text.split(/\s+/))) {
    const key = flag.toLowerCase();
    if (flag.startsWith('\\') ? !settable.has(key) : !keyword.test(flag)) continue;
    if (!seen.has(key) && seen.size < maxFlags) seen.set(key, flag);
  }
  return [...seen.values()];
}

// RFC 6785 §3.8: a message that is there already begins with the flags that it has.
const internalFlags = (run: Run): { flags: readonly string[] } =>
  run.state(internal, () => ({ flags: splitFlags(run.host.flags ?? []) }));

const currentFlags = (run: Run): readonly string[] => internalFlags(run).flags;

function readVariable(run: Run, name: string | undefined): readonly string[] {
  return name === undefined ? currentFlags(run) : splitFlags([run.variables.get(name)]);
}

function validate(word: WordScope): void {
  if (!word.has('variable')) return;
  const names = word.strings('variable');
  // RFC 5232 §3: the variable's name needs the variables extension.
  if (!word.unit.isActive('variables'))
    word.error(`Variable name for '${word.name}' needs 'require "variables";' at the top of the script`, 'variable');
  else if (names.some(name => !identifier.test(name))) word.error('Expected the name of a variable', 'variable');
}

type Change = (flags: readonly string[], change: readonly string[]) => readonly string[];

function changing(name: string, change: Change): CommandDefinition {
  return {
    name,
    arguments: [
      { name: 'variable', type: 'string', optional: true },
      { name: 'flags', type: 'string-list' },
    ],
    validate,
    run(call) {
      const variable = call.maybeString('variable');
      const flags = change(readVariable(call.run, variable), splitFlags(call.strings('flags')));
      call.run.spend(flags.length);
      if (variable === undefined) internalFlags(call.run).flags = flags;
      else call.run.variables.set(variable, flags.join(' '));
    },
  };
}

const without: Change = (flags, gone) => {
  const names = new Set(gone.map(flag => flag.toLowerCase()));
  return flags.filter(flag => !names.has(flag.toLowerCase()));
};

// RFC 5232 §4: `:count` counts the distinct flags of each variable; keys may hold several flags.
function hasFlag(call: Call) {
  const names = call.maybeStrings('variable');
  const values = names === undefined ? currentFlags(call.run) : names.flatMap(name => readVariable(call.run, name));
  const counted = call.word.matching?.type.matchAll !== undefined;
  const keys = call.strings('flags');
  return call.matches(counted ? keys : keys.flatMap(key => key.split(/\s+/).filter(flag => flag !== '')), values);
}

export const imap4flags = defineExtension({
  name: 'imap4flags',
  commands: [
    changing('setflag', (_, flags) => flags),
    changing('addflag', (flags, more) => splitFlags([...flags, ...more])),
    changing('removeflag', without),
  ],
  tests: [
    {
      name: 'hasflag',
      uses: ['match-type', 'comparator'],
      arguments: [
        { name: 'variable', type: 'string-list', optional: true },
        { name: 'flags', type: 'string-list' },
      ],
      validate,
      run: hasFlag,
    },
  ],
  tags: [
    {
      // RFC 5232 §5
      name: 'flags',
      type: 'string-list',
      on: ['keep', 'fileinto'],
      with: ['fcc'],
      apply(entry, call) {
        entry.flags = splitFlags(call.strings('flags'));
      },
    },
  ],
  entry(entry, run) {
    if (entry.action === 'keep' || entry.action === 'fileinto') entry.flags ??= currentFlags(run);
  },
});
