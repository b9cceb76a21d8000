// Lookup tables of Postfix as options of plugins: files of `key value` lines, `regexp:` and `pcre:` files, and inline
// rules. Regular expressions run in linear time (RE2): what they are held against comes from strangers. Files are read when
// the plugin is set up, so a reload of the configuration reads them anew.
import { readFileSync } from 'node:fs';
import { RE2JS } from 're2js';
import { z } from '../config/schema.ts';
import { mapLines } from '../lib/map-lines.ts';

/** One table: the name of a file with its type before it, or an inline rule. */
export const lookupSource = () =>
  z.union([
    z
      .string()
      .min(1)
      .describe(
        'A file: `hash:FILE` or `FILE` (lines of `key value`, as postmap reads them), `regexp:FILE` or `pcre:FILE`; or `inline:{ key=value, key=value }`, `static:value`.',
      ),
    z.strictObject({
      pattern: z.string().min(1).describe('A key, or `/regular expression/flags`.'),
      to: z.string().min(1).describe('What it becomes; `$1` is the first group of the expression.'),
    }),
  ]);
export type LookupSource = z.infer<ReturnType<typeof lookupSource>>;

export interface LookupTable {
  /** The value for the key, in the first table that has it; keys are compared without case. */
  find(key: string): string | undefined;
  /** As `find`, but expressions are not asked: for a part of what is looked up, as Postfix does it. */
  findExact(key: string): string | undefined;
  readonly size: number;
}

type Table = { readonly exact: boolean; readonly size: number; find(key: string): string | undefined };

interface Rule {
  readonly matches: (key: string) => readonly string[] | undefined;
  readonly result: string;
}

const maxKey = 2000;

/** Throws an Error with the file and line where a table is not valid. */
export function openLookup(sources: readonly LookupSource[], resolvePath: (file: string) => string): LookupTable {
  const tables = sources.map(source => openTable(source, resolvePath));
  const find = (key: string, asked: readonly Table[]): string | undefined => {
    for (const table of asked) {
      const value = table.find(key);
      if (value !== undefined) return value;
    }
    return undefined;
  };
  const exact = tables.filter(table => table.exact);
  return {
    size: tables.reduce((sum, table) => sum + table.size, 0),
    find: key => find(key.slice(0, maxKey), tables),
    findExact: key => find(key.slice(0, maxKey), exact),
  };
}

function openTable(source: LookupSource, resolvePath: (file: string) => string): Table {
  if (typeof source !== 'string') {
    const expression = /^!?([^\w\s@."<]).*\1[a-z]*$/is.test(source.pattern);
    if (!expression) return exactTable([[source.pattern, source.to]]);
    return ruleTable([oneRule(source.pattern, source.to, 'Inline rule')]);
  }
  const [, type = '', rest = source] = /^([a-z]+):(.*)$/s.exec(source) ?? [];
  switch (type) {
    case 'static':
      return { exact: true, size: 1, find: () => rest };
    case 'inline':
      return exactTable(inlinePairs(rest));
    case 'regexp':
    case 'pcre':
      return ruleTable(readRules(resolvePath(rest)));
    case '':
    case 'hash':
    case 'btree':
    case 'lmdb':
    case 'cdb':
    case 'dbm':
    case 'texthash':
      return exactTable(readPairs(resolvePath(rest)));
    default:
      throw new Error(
        `Table '${source}' has the unknown type '${type}': expected hash, regexp, pcre, inline or static`,
      );
  }
}

function exactTable(pairs: readonly (readonly [string, string])[]): Table {
  const values = new Map<string, string>();
  for (const [key, value] of pairs) if (!values.has(key.toLowerCase())) values.set(key.toLowerCase(), value);
  return { exact: true, size: values.size, find: key => values.get(key.toLowerCase()) };
}

function inlinePairs(text: string): readonly (readonly [string, string])[] {
  const inner = /^\s*\{(.*)\}\s*$/s.exec(text)?.[1];
  if (inner === undefined) throw new Error(`Table 'inline:${text}': expected 'inline:{ key=value, key=value }'`);
  return inner
    .split(',')
    .map(pair => pair.trim())
    .filter(pair => pair !== '')
    .map(pair => {
      const equals = pair.indexOf('=');
      if (equals < 1) throw new Error(`Table 'inline:${text}': '${pair}' is not 'key=value'`);
      return [pair.slice(0, equals).trim(), pair.slice(equals + 1).trim()] as const;
    });
}

function readTable(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new Error(`Cannot read the table '${file}': ${(cause as Error).message}`, { cause });
  }
}

function readPairs(file: string): readonly (readonly [string, string])[] {
  return mapLines(readTable(file)).map(({ line, text }) => {
    const match = /^("(?:[^"\\]|\\.)*"(?:@\S+)?|\S+)\s+(.+)$/s.exec(text);
    if (!match) throw new Error(`${file}:${line}: Expected 'key value', found '${text}'`);
    return [match[1] ?? '', match[2] ?? ''] as const;
  });
}

const ruleTable = (rules: readonly Rule[]): Table => ({
  exact: false,
  size: rules.length,
  find(key) {
    for (const { matches, result } of rules) {
      const groups = matches(key);
      if (groups) return fill(result, groups);
    }
    return undefined;
  },
});

/** `$1`, `${1}`, `$(1)`; `$$` is a dollar sign. */
const fill = (result: string, groups: readonly string[]): string =>
  result.replace(
    /\$(?:(\$)|(\d)|\{(\d+)\}|\((\d+)\))/g,
    (_, dollar: string | undefined, ...given: (string | undefined)[]) =>
      dollar ? '$' : (groups[Number(given.slice(0, 3).find(index => index !== undefined))] ?? ''),
  );

/** regexp_table(5), pcre_table(5): `/pattern/flags result`, `!/pattern/flags result`, `if /pattern/flags` … `endif`. */
function readRules(file: string): readonly Rule[] {
  const rules: Rule[] = [];
  const conditions: Rule['matches'][] = [];
  for (const { line, text } of mapLines(readTable(file))) {
    const where = `${file}:${line}`;
    if (/^endif\b/i.test(text)) {
      if (!conditions.pop()) throw new Error(`${where}: 'endif' without 'if'`);
      continue;
    }
    const condition = /^if\s+(.*)$/is.exec(text)?.[1];
    const { pattern, rest } = splitPattern(condition ?? text, where);
    if (condition !== undefined) {
      conditions.push(compile(pattern, where));
      continue;
    }
    if (rest === '') throw new Error(`${where}: No result behind the expression`);
    const rule = oneRule(pattern, rest, where);
    const all = [...conditions];
    rules.push({ ...rule, matches: key => (all.every(holds => holds(key)) ? rule.matches(key) : undefined) });
  }
  if (conditions.length > 0) throw new Error(`${file}: 'if' without 'endif'`);
  return rules;
}

function oneRule(pattern: string, result: string, where: string): Rule {
  const matches = compile(pattern, where);
  if (pattern.startsWith('!') && /\$[\d{(]/.test(result)) throw new Error(`${where}: '!' leaves no group to fill in`);
  return { matches, result };
}

/** The expression with its delimiters and flags, and what stands behind it. */
function splitPattern(text: string, where: string): { readonly pattern: string; readonly rest: string } {
  const start = text.startsWith('!') ? 1 : 0;
  const delimiter = text[start] ?? '';
  if (delimiter === '' || /[\w\s]/.test(delimiter))
    throw new Error(`${where}: Expected '/pattern/flags', found '${text}'`);
  let at = start + 1;
  while (at < text.length && text[at] !== delimiter) at += text[at] === '\\' ? 2 : 1;
  if (at >= text.length) throw new Error(`${where}: The expression has no end`);
  const flags = /^[A-Za-z]*/.exec(text.slice(at + 1))?.[0] ?? '';
  const end = at + 1 + flags.length;
  return { pattern: text.slice(0, end), rest: text.slice(end).trim() };
}

function compile(text: string, where: string): Rule['matches'] {
  const { pattern } = splitPattern(text, where);
  const negated = pattern.startsWith('!');
  const open = negated ? 1 : 0;
  const close = pattern.lastIndexOf(pattern[open] as string);
  // Without case unless the flag `i` says so, as in Postfix.
  let flags: number = RE2JS.CASE_INSENSITIVE;
  for (const flag of pattern.slice(close + 1))
    if (flag === 'i') flags ^= RE2JS.CASE_INSENSITIVE;
    else if (flag === 'm') flags |= RE2JS.MULTILINE;
    else if (flag === 's') flags |= RE2JS.DOTALL;
    else throw new Error(`${where}: The flag '${flag}' is not known: expected i, m or s`);
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(pattern.slice(open + 1, close), flags);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${where}: ${why} (expressions run in linear time: no back references, no look-around)`, { cause });
  }
  const groups = compiled.groupCount();
  return key => {
    const matcher = compiled.matcher(key);
    if (matcher.find() === negated) return undefined;
    return negated ? [] : Array.from({ length: groups + 1 }, (_, index) => matcher.group(index) ?? '');
  };
}
