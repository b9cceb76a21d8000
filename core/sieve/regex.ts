// Regular expressions in linear time. The only file that knows re2js. Syntax: POSIX extended as the regex draft wants it,
// with the RE2 additions; leftmost-longest as POSIX has it. What takes more than linear time does not compile.
import { RE2JS } from 're2js';

export interface Regex {
  /** Groups of the first match, `[0]` the whole; undefined where there is none. */
  match(value: string): readonly string[] | undefined;
  readonly groups: number;
}

const maxPatternLength = 4096;
const maxProgram = 10_000;

/** Throws an Error with a sentence for a pattern that is wrong or too large. */
export function compileRegex(pattern: string, ignoreCase: boolean): Regex {
  if (pattern.length > maxPatternLength)
    throw new Error(`Regular expression is longer than ${maxPatternLength} characters`);
  const flags = RE2JS.LONGEST_MATCH | RE2JS.DOTALL | (ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(posixClasses(pattern), flags);
  } catch (error) {
    const why =
      error instanceof Error
        ? error.message.replace(/^error parsing regexp: /, '').replace(/\(\?[a-z]+\)/, '')
        : String(error);
    throw new Error(`Regular expression is not valid: ${why}`, { cause: error });
  }
  if (compiled.programSize() > maxProgram) throw new Error('Regular expression is too complex');
  return {
    groups: compiled.groupCount(),
    match(value) {
      const matcher = compiled.matcher(value);
      if (!matcher.find()) return undefined;
      const out: string[] = [];
      for (let at = 0; at <= compiled.groupCount(); at += 1) out.push(matcher.group(at) ?? '');
      return out;
    },
  };
}

/** POSIX: `]` first in a bracket expression is itself, and `\` within one is no escape. */
function posixClasses(pattern: string): string {
  let out = '';
  for (let at = 0; at < pattern.length; at += 1) {
    const char = pattern[at] as string;
    if (char === '\\') {
      out += char + (pattern[at + 1] ?? '');
      at += 1;
    } else if (char === '[') {
      const end = bracketEnd(pattern, at);
      if (end === -1) return out + pattern.slice(at);
      out += bracket(pattern.slice(at + 1, end));
      at = end;
    } else out += char;
  }
  return out;
}

function bracketEnd(pattern: string, open: number): number {
  let at = open + 1;
  if (pattern[at] === '^') at += 1;
  if (pattern[at] === ']') at += 1;
  for (; at < pattern.length; at += 1) {
    if (pattern[at] === ']') return at;
    if (pattern[at] === '\\') at += 1;
    else if (pattern[at] === '[' && (pattern[at + 1] === ':' || pattern[at + 1] === '.' || pattern[at + 1] === '=')) {
      const close = pattern.indexOf(`${pattern[at + 1]}]`, at + 2);
      if (close === -1) return -1;
      at = close + 1;
    }
  }
  return -1;
}

function bracket(inner: string): string {
  const negated = inner.startsWith('^');
  let rest = negated ? inner.slice(1) : inner;
  if (rest.startsWith(']')) rest = `\\]${rest.slice(1)}`;
  return `[${negated ? '^' : ''}${rest}]`;
}
