// Variables, RFC 5229.
import type { Complain, Run, Template, TemplatePiece, Unit, WordScope } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { asciiLower } from './matching.ts';

// RFC 5229 §3: variable-ref
const reference =
  /\$\{((?:[A-Za-z_][A-Za-z0-9_]*\.(?:(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+)\.)*)?(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+))\}/g;
export const identifier = /^[A-Za-z_][A-Za-z0-9_]*$/;
const maxNameLength = 64;

function compile(text: string, scope: Unit, complain: Complain): Template {
  if (!text.includes('${')) return text;
  const pieces: TemplatePiece[] = [];
  let from = 0;
  for (const found of text.matchAll(reference)) {
    const read = reader(found[1] as string, scope, complain);
    if (!read) continue;
    if (found.index > from) pieces.push(text.slice(from, found.index));
    pieces.push({ read });
    from = found.index + found[0].length;
  }
  if (pieces.length === 0) return text;
  if (from < text.length) pieces.push(text.slice(from));
  return pieces;
}

function reader(name: string, scope: Unit, complain: Complain): ((run: Run) => string) | undefined {
  if (/^[0-9]+$/.test(name)) {
    const index = Number(name);
    // RFC 5229 §3.2: out of range is empty.
    return run => run.captures?.[index] ?? '';
  }
  const [first, ...path] = name.split('.') as [string, ...string[]];
  if (path.length === 0) {
    if (name.length > maxNameLength)
      complain(`Name of variable ${quote(name)} is longer than ${maxNameLength} characters`);
    return run => run.variables.get(name);
  }
  const space = namespaceOf(first, scope, complain);
  if (!space) return undefined;
  space.validate?.(path, complain, false);
  return run => space.read(path, run) ?? '';
}

function namespaceOf(name: string, scope: Unit, complain: Complain) {
  const found = scope.registry.namespace(name.toLowerCase());
  // RFC 5229 §3: a namespace without its `require` is an error.
  if (!found) complain(`Unknown namespace ${quote(name)} of a variable`);
  else if (!scope.isActive(found.extension.name))
    complain(
      `Namespace ${quote(name)} of a variable needs 'require "${found.extension.name}";' at the top of the script`,
    );
  else return found.definition;
  return undefined;
}

/** What `set` writes to: a function made at compile time, left as `call.data`. */
export type VariableWriter = (value: string, run: Run) => void;

/** Reports a bad name; RFC 5229 §4: a syntax error. */
export function variableWriter(name: string, word: WordScope, argument: string): VariableWriter | undefined {
  const complain: Complain = message => word.error(message, argument);
  if (/^[0-9]+$/.test(name)) complain(`Match variable ${quote(name)} cannot be set`);
  else if (name.includes('.')) {
    const [first, ...path] = name.split('.') as [string, ...string[]];
    const space = namespaceOf(first, word.unit, complain);
    if (!space) return undefined;
    const write = space.write;
    if (!write) complain(`Variables of namespace ${quote(first)} cannot be set`);
    else {
      space.validate?.(path, complain, true);
      return (value, run) => write(path, value, run);
    }
  } else if (!identifier.test(name)) complain(`${quote(name)} is no name of a variable`);
  else if (name.length > maxNameLength)
    complain(`Name of variable ${quote(name)} is longer than ${maxNameLength} characters`);
  return (value, run) => run.variables.set(name, value);
}

const changeFirst = (value: string, pattern: RegExp, change: (char: string) => string): string =>
  pattern.test(value) ? change(value[0] as string) + value.slice(1) : value;
const upper = (value: string): string => value.replace(/[a-z]+/g, letters => letters.toUpperCase());

export const variables = defineExtension({
  name: 'variables',
  strings: { order: 20, compile },
  begin(run) {
    run.captures = [];
  },
  modifiers: [
    { name: 'lower', precedence: 40, apply: asciiLower },
    { name: 'upper', precedence: 40, apply: upper },
    { name: 'lowerfirst', precedence: 30, apply: value => changeFirst(value, /^[A-Z]/, asciiLower) },
    { name: 'upperfirst', precedence: 30, apply: value => changeFirst(value, /^[a-z]/, upper) },
    { name: 'quotewildcard', precedence: 20, apply: value => value.replace(/[*?\\]/g, char => `\\${char}`) },
    { name: 'length', precedence: 10, apply: value => String([...value].length) },
  ],
  commands: [
    {
      // RFC 5229 §4
      name: 'set',
      uses: ['modifier'],
      arguments: [
        { name: 'name', type: 'string', literal: true },
        { name: 'value', type: 'string' },
      ],
      validate(word) {
        word.data = variableWriter(word.string('name') ?? '', word, 'name');
      },
      run(call) {
        const { run } = call;
        let value = call.string('value');
        for (const modifier of call.word.modifiers) value = modifier.apply(value, run);
        run.spend(1 + (value.length >> 8));
        (call.data as VariableWriter)(value, run);
      },
    },
  ],
  tests: [
    {
      // RFC 5229 §5. The count of an empty string is 0.
      name: 'string',
      uses: ['match-type', 'comparator'],
      arguments: [
        { name: 'source', type: 'string-list' },
        { name: 'keys', type: 'string-list' },
      ],
      run(call) {
        const source = call.strings('source');
        const counted = call.word.matching?.type.matchAll !== undefined;
        return call.matches('keys', counted ? source.filter(value => value !== '') : source);
      },
    },
  ],
});
