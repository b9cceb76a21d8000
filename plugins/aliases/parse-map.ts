// The two file formats of Postfix: aliases(5), `name: target, target`, and virtual(5), `pattern target, target`. In both a
// line that begins with white space continues the one before, `#` begins a comment line, targets stand between commas.
import { mapLines } from '../../core/plugin/index.ts';

export type Target =
  /** `domain` is `''` for a bare name; `final` (`\name`) is not expanded again. */
  | { readonly kind: 'address'; readonly text: string; readonly final: boolean }
  /** `@domain`: the same local part there. */
  | { readonly kind: 'domain'; readonly domain: string }
  | { readonly kind: 'include'; readonly file: string }
  /** `|command` or `/file`. */
  | { readonly kind: 'program'; readonly text: string };

export interface MapEntry {
  /** Lower case: `name`, `user@domain` or `@domain`. */
  readonly key: string;
  readonly targets: readonly Target[];
  readonly file: string;
  readonly line: number;
}

/** A file that cannot be used; the message begins with `file:line`. */
export class MapFileError extends Error {
  override readonly name = 'MapFileError';
  constructor(file: string, line: number, message: string) {
    super(`${file}:${line}: ${message}`);
  }
}

/** Splits outside double quotes. */
function splitList(text: string): readonly string[] {
  const parts: string[] = [];
  let quoted = false;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') quoted = !quoted;
    else if (text[at] === ',' && !quoted) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts.map(part => part.trim()).filter(part => part !== '');
}

/** `"|prog arg"` is a program; `"joe smith"@example.org` and `"joe"` keep or lose their quotes as an address does. */
function parseTarget(text: string): Target {
  const whole = /^"((?:[^"\\]|\\.)*)"$/.exec(text)?.[1]?.replace(/\\(.)/g, '$1');
  const plain = whole ?? text;
  if (/^[|/]/.test(plain)) return { kind: 'program', text: plain };
  const include = /^:include:\s*(.+)$/i.exec(plain)?.[1];
  if (include !== undefined) return { kind: 'include', file: include };
  const address = /<([^<>]*)>\s*$/.exec(text)?.[1] ?? text;
  if (address.startsWith('@')) return { kind: 'domain', domain: address.slice(1).toLowerCase() };
  if (address.startsWith('\\')) return { kind: 'address', text: address.slice(1), final: true };
  return { kind: 'address', text: whole !== undefined && /^[\w.+-]+$/.test(whole) ? whole : address, final: false };
}

const parseTargets = (text: string): readonly Target[] => splitList(text).map(parseTarget);

function parseLines(text: string, file: string, pattern: RegExp, expected: string): readonly MapEntry[] {
  return mapLines(text).map(({ line, text: logical }) => {
    const match = pattern.exec(logical);
    const targets = parseTargets(match?.[2] ?? '');
    if (!match || targets.length === 0) throw new MapFileError(file, line, `Expected ${expected}, found '${logical}'`);
    const key = (match[1] ?? '').replace(/^"((?:[^"\\]|\\.)*)"$/, '$1').toLowerCase();
    return { key, targets, file, line };
  });
}

/** aliases(5) */
export const parseAliases = (text: string, file: string): readonly MapEntry[] =>
  parseLines(text, file, /^("(?:[^"\\]|\\.)*"|[^:\s"@]+)\s*:\s*(.*)$/s, "'name: target, target'");

/** virtual(5) */
export const parseVirtual = (text: string, file: string): readonly MapEntry[] =>
  parseLines(text, file, /^((?:"(?:[^"\\]|\\.)*"|[^\s"@:]*)(?:@\S+)?)\s+(.*)$/s, "'pattern target, target'");

/** A file named by `:include:`: targets between commas or line ends. */
export const parseIncluded = (text: string): readonly Target[] =>
  mapLines(text).flatMap(({ text: logical }) => parseTargets(logical));
