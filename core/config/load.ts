// Reads the configuration file: YAML with positions, includes, validation. A configuration that does not validate is
// never returned (invariant I10); each problem names file, line and column, what was expected and the nearest known key.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Document, isMap, isScalar, LineCounter, type Pair, parseDocument } from 'yaml';
import type { z } from 'zod';
import { type GatewayOptions, gatewayOptions } from './gateway-options.ts';
import { nearest } from './nearest.ts';

export interface ConfigProblem {
  readonly file: string;
  /** 1-based; absent where the problem has no place, such as an unreadable file. */
  readonly line?: number;
  readonly column?: number;
  readonly path: readonly (string | number)[];
  readonly message: string;
}

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly ConfigProblem[];
  constructor(problems: readonly ConfigProblem[], options?: ErrorOptions) {
    super(problems.map(formatProblem).join('\n'), options);
    this.problems = problems;
  }
}

export function formatProblem(problem: ConfigProblem): string {
  const place = problem.line === undefined ? problem.file : `${problem.file}:${problem.line}:${problem.column ?? 1}`;
  return `${problem.message} at ${place}`;
}

export interface LoadedConfig {
  readonly file: string;
  /** Folder that relative paths of the configuration start from. */
  readonly folder: string;
  readonly options: GatewayOptions;
  /** Turns a problem found later (a plugin's option, say) into one with a position. */
  locate(path: readonly (string | number)[], message: string, unknownKey?: string): ConfigProblem;
}

interface Source {
  readonly file: string;
  readonly document: Document;
  readonly lines: LineCounter;
}

/** Known keys at the place that a path names, for "did you mean". */
export type KnownKeys = (path: readonly (string | number)[]) => readonly string[];

function readSource(file: string, shownAs: string): Source {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(
      [{ file: shownAs, path: [], message: `Cannot read the configuration: ${(error as Error).message}` }],
      { cause: error },
    );
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map(error => {
        const at = lines.linePos(error.pos[0]);
        return { file: shownAs, line: at.line, column: at.col, path: [], message: error.message };
      }),
    );
  }
  return { file: shownAs, document, lines };
}

/** Offset of the key (where the path ends in a map) or of the item (in a sequence); of the nearest ancestor where it does not exist. */
function offsetOf(document: Document, at: readonly (string | number)[]): number {
  let offset = 0;
  for (let depth = 0; depth < at.length; depth++) {
    const parent = depth === 0 ? document.contents : document.getIn(at.slice(0, depth), true);
    if (isMap(parent)) {
      const pair = (parent.items as Pair[]).find(
        item => isScalar(item.key) && String(item.key.value) === String(at[depth]),
      );
      if (!pair || !isScalar(pair.key)) return offset;
      offset = pair.key.range?.[0] ?? offset;
    } else {
      const node = document.getIn(at.slice(0, depth + 1), true) as { range?: [number, number, number] } | undefined;
      if (!node?.range) return offset;
      offset = node.range[0];
    }
  }
  return offset;
}

function problemAt(source: Source, at: readonly (string | number)[], message: string): ConfigProblem {
  const position = source.lines.linePos(offsetOf(source.document, at));
  return { file: source.file, line: position.line, column: position.col, path: at, message };
}

function unknownKeyMessage(key: string, known: readonly string[]): string {
  const near = nearest(key, known);
  return `Unknown key '${key}'${near ? `, did you mean '${near}'?` : ''}`;
}

/** Messages of one schema issue, most precise branch of a union first. */
export function describeIssues(
  issues: readonly z.core.$ZodIssue[],
  known: KnownKeys,
): { readonly path: readonly (string | number)[]; readonly message: string }[] {
  return issues.flatMap(issue => {
    const at = issue.path.filter(part => typeof part !== 'symbol') as (string | number)[];
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map(key => ({ path: [...at, key], message: unknownKeyMessage(key, known(at)) }));
    if (issue.code === 'invalid_union') {
      const branches = issue.errors.map(errors => describeIssues(errors, sub => known([...at, ...sub])));
      const deepest = branches.reduce<{ path: readonly (string | number)[]; message: string }[] | undefined>(
        (best, branch) => {
          const depth = (list: typeof branch | undefined): number =>
            Math.max(-1, ...(list ?? []).map(entry => entry.path.length));
          return depth(branch) > depth(best) ? branch : best;
        },
        undefined,
      );
      return (deepest ?? []).map(entry => ({ path: [...at, ...entry.path], message: entry.message }));
    }
    return [
      {
        path: at,
        message: `${issue.message.replace(/^Invalid input: e/, 'E')}${at.length > 0 ? ` for '${at.join('.')}'` : ''}`,
      },
    ];
  });
}

/** For `describeIssues`: the keys of a schema at any path. */
export function knownKeys(schema: z.ZodType): KnownKeys {
  return at => {
    let current: unknown = schema;
    for (const part of [...at, undefined]) {
      current = unwrap(current);
      const def = (
        current as { def?: { type?: string; shape?: Record<string, unknown>; element?: unknown } } | undefined
      )?.def;
      if (part === undefined) return Object.keys(def?.shape ?? {});
      current = def?.type === 'array' ? def.element : def?.shape?.[String(part)];
    }
    return [];
  };
}

/** The schema behind defaults, optionals and transforms. */
function unwrap(schema: unknown): unknown {
  let current = schema as { def?: { type?: string; innerType?: unknown; in?: unknown } } | undefined;
  for (;;) {
    const def = current?.def;
    if (def?.innerType !== undefined) current = def.innerType as typeof current;
    else if (def?.type === 'pipe') current = def.in as typeof current;
    else return current;
  }
}

/** Loads and validates `file`. `shownAs` is the path in messages (default: relative to the working folder given). */
export function loadConfig(file: string, workingFolder: string): LoadedConfig {
  const absolute = path.resolve(workingFolder, file);
  const show = (name: string): string => {
    const relative = path.relative(workingFolder, name);
    return relative.startsWith('..') ? name : relative;
  };
  const main = readSource(absolute, show(absolute));
  const folder = path.dirname(absolute);
  const sources = [main];
  const values = (main.document.toJS() ?? {}) as Record<string, unknown>;
  if (values === null || typeof values !== 'object' || Array.isArray(values))
    throw new ConfigError([problemAt(main, [], 'Expected a map of keys')]);
  const owner = new Map<string, Source>(Object.keys(values).map(key => [key, main]));
  const problems: ConfigProblem[] = [];
  const includes = Array.isArray(values['include']) ? (values['include'] as unknown[]) : [];
  for (const [index, name] of includes.entries()) {
    if (typeof name !== 'string') continue;
    const included = path.resolve(folder, name);
    const source = readSource(included, show(included));
    sources.push(source);
    const more = (source.document.toJS() ?? {}) as Record<string, unknown>;
    for (const [key, value] of Object.entries(more)) {
      const first = owner.get(key);
      if (first) problems.push(problemAt(source, [key], `Key '${key}' stands in '${first.file}' already`));
      else if (key === 'include')
        problems.push(problemAt(main, ['include', index], `Included file '${name}' may not include others`));
      else {
        values[key] = value;
        owner.set(key, source);
      }
    }
  }
  const locate = (at: readonly (string | number)[], message: string): ConfigProblem =>
    problemAt(owner.get(String(at[0] ?? '')) ?? main, at, message);
  const parsed = gatewayOptions.safeParse(values);
  if (!parsed.success)
    problems.push(
      ...describeIssues(parsed.error.issues, knownKeys(gatewayOptions)).map(issue => locate(issue.path, issue.message)),
    );
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems);
  problems.push(...crossChecks(parsed.data).map(problem => locate(problem.path, problem.message)));
  if (problems.length > 0) throw new ConfigError(problems);
  return { file: absolute, folder, options: parsed.data, locate };
}

/** What one key's schema cannot see. */
function crossChecks(options: GatewayOptions): { path: (string | number)[]; message: string }[] {
  const found: { path: (string | number)[]; message: string }[] = [];
  const names = new Map<string, number>();
  const ports = new Map<string, string>();
  options.listeners.forEach((listener, index) => {
    const twin = names.get(listener.name);
    if (twin !== undefined)
      found.push({
        path: ['listeners', index, 'name'],
        message: `Listener name '${listener.name}' is taken by listener ${twin + 1}`,
      });
    names.set(listener.name, index);
    const key = `${listener.address}:${listener.port}`;
    const other = listener.port === 0 ? undefined : ports.get(key);
    if (other !== undefined)
      found.push({ path: ['listeners', index, 'port'], message: `Port ${key} is taken by listener '${other}'` });
    ports.set(key, listener.name);
    if (listener.role === 'submission' && listener.tls === 'none' && !listener.allowPlaintextAuth)
      found.push({
        path: ['listeners', index, 'tls'],
        message: `A submission listener needs TLS (RFC 8314 §3.3), or 'allowPlaintextAuth: true' on loopback`,
      });
  });
  options.fetch.forEach((account, index) => {
    if (options.fetch.findIndex(each => each.name === account.name) !== index)
      found.push({ path: ['fetch', index, 'name'], message: `Account '${account.name}' is listed twice` });
    if (account.tls === 'none' && !['localhost', '127.0.0.1', '::1'].includes(account.host))
      found.push({
        path: ['fetch', index, 'tls'],
        message: `'tls: none' sends the password in clear: only on loopback`,
      });
  });
  const domains = new Set<string>();
  options.domains.forEach((domain, index) => {
    if (domains.has(domain.name))
      found.push({ path: ['domains', index, 'name'], message: `Domain '${domain.name}' is listed twice` });
    domains.add(domain.name);
  });
  options.routes.forEach((route, index) => {
    if (route.tls === 'pinned' && route.fingerprint === undefined)
      found.push({ path: ['routes', index, 'tls'], message: `'tls: pinned' needs 'fingerprint'` });
  });
  return found;
}
