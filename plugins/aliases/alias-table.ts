// Everything the files say, read at once: keys, targets, what was included, and from which state of which files. A table
// never changes; a changed file makes a new one. Loops are found when it is read, not when mail comes.
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Address, makeAddress, parseDomain, parseMailbox } from '../../core/plugin/index.ts';
import { type MapEntry, MapFileError, parseAliases, parseIncluded, parseVirtual, type Target } from './parse-map.ts';

export interface TableSources {
  readonly aliases: readonly string[];
  readonly virtual: readonly string[];
  /** Targets that are programs or files are left out instead of being an error. */
  readonly ignorePrograms: boolean;
  readonly maxTargets: number;
  /** Domain of bare targets in `virtual` files where the alias itself has none of ours. */
  readonly origin: string | undefined;
  readonly delimiter: string;
  isLocal(domain: string): boolean;
}

export type FinalTarget = Exclude<Target, { kind: 'include' | 'program' }>;

export interface Alias {
  readonly key: string;
  readonly kind: 'alias' | 'virtual';
  readonly targets: readonly FinalTarget[];
  readonly where: string;
}

export interface AliasTable {
  readonly size: number;
  /** The alias for this very address, catch-alls left aside. */
  find(address: Address): Found | undefined;
  /** `@domain` */
  catchAll(address: Address): Found | undefined;
  /** Final addresses, in order, each once. Throws an Error for a loop or too many. */
  expand(found: Found, address: Address): readonly Address[];
  /** Alias `owner-name` of an aliases(5) list. */
  owner(address: Address): Address | undefined;
  /** Did a file change since it was read? One that is gone counts as changed. */
  isStale(): Promise<boolean>;
}

export interface Found {
  readonly alias: Alias;
  /** What `+detail` to carry over to the targets, with its delimiter. */
  readonly detail: string;
}

async function readMap(file: string, seen: Map<string, string>): Promise<string> {
  // First: what is written between is then a change that is still to be seen.
  const { mtimeMs, size } = await stat(file);
  // One that is included twice may change between: the first state counts, or who was read then would never be read again.
  if (!seen.has(file)) seen.set(file, `${mtimeMs} ${size}`);
  return readFile(file, 'utf8');
}

class TableReader {
  readonly seen = new Map<string, string>();
  readonly #sources: TableSources;
  constructor(sources: TableSources) {
    this.#sources = sources;
  }

  async read(): Promise<readonly Alias[]> {
    const aliases: Alias[] = [];
    for (const [files, kind, parse] of [
      [this.#sources.aliases, 'alias', parseAliases],
      [this.#sources.virtual, 'virtual', parseVirtual],
    ] as const)
      for (const file of files)
        for (const entry of parse(await readMap(file, this.seen), file)) aliases.push(await this.#aliasOf(entry, kind));
    return aliases;
  }

  async #aliasOf(entry: MapEntry, kind: Alias['kind']): Promise<Alias> {
    const targets = await this.#resolve(entry, entry.targets, entry.file, 0);
    if (targets.length > this.#sources.maxTargets)
      throw new MapFileError(
        entry.file,
        entry.line,
        `'${entry.key}' has more than ${this.#sources.maxTargets} targets`,
      );
    return { key: entry.key, kind, targets, where: `${entry.file}:${entry.line}` };
  }

  /** Includes are read in place. */
  async #resolve(entry: MapEntry, targets: readonly Target[], file: string, depth: number): Promise<FinalTarget[]> {
    const found: FinalTarget[] = [];
    for (const target of targets) {
      if (target.kind === 'include') {
        if (depth >= 10) throw new MapFileError(entry.file, entry.line, `Includes of '${entry.key}' go in circles`);
        const included = path.resolve(path.dirname(file), target.file);
        const inner = parseIncluded(await readMap(included, this.seen));
        found.push(...(await this.#resolve(entry, inner, included, depth + 1)));
      } else if (target.kind === 'program') {
        if (this.#sources.ignorePrograms) continue;
        const message = `'${entry.key}' delivers to '${target.text}': programs and files are not run or written`;
        throw new MapFileError(entry.file, entry.line, message);
      } else found.push(target);
    }
    return found;
  }
}

/** Reads all files. Throws MapFileError, or the error of the file system. */
export async function readTable(sources: TableSources): Promise<AliasTable> {
  const reader = new TableReader(sources);
  const table = new FileTable(await reader.read(), sources, reader.seen);
  table.check();
  return table;
}

/** One expansion under way: the aliases above this one, those already expanded, what came out. */
interface Walk {
  readonly path: readonly string[];
  readonly done: Set<string>;
  readonly targets: Map<string, Address>;
}

class FileTable implements AliasTable {
  readonly #byKey = { alias: new Map<string, Alias>(), virtual: new Map<string, Alias>() };
  readonly #sources: TableSources;
  readonly #seen: ReadonlyMap<string, string>;

  constructor(aliases: readonly Alias[], sources: TableSources, seen: ReadonlyMap<string, string>) {
    this.#sources = sources;
    this.#seen = seen;
    // The first one counts, as with several maps in Postfix.
    for (const alias of aliases)
      if (!this.#byKey[alias.kind].has(alias.key)) this.#byKey[alias.kind].set(alias.key, alias);
  }

  get size(): number {
    return this.#byKey.alias.size + this.#byKey.virtual.size;
  }

  find(address: Address): Found | undefined {
    const local = address.local.toLowerCase();
    const cut = this.#sources.delimiter === '' ? -1 : local.indexOf(this.#sources.delimiter, 1);
    const whole = this.#named(local, address.domain);
    if (whole || cut < 0) return whole && { alias: whole, detail: '' };
    const base = this.#named(local.slice(0, cut), address.domain);
    // As Postfix does it: the detail goes on with virtual(5), and not with aliases(5).
    return base && { alias: base, detail: base.kind === 'virtual' ? address.local.slice(cut) : '' };
  }

  #named(local: string, domain: string): Alias | undefined {
    const exact = this.#byKey.virtual.get(`${local}@${domain}`);
    if (exact || !this.#sources.isLocal(domain)) return exact;
    return this.#byKey.virtual.get(local) ?? this.#byKey.alias.get(local);
  }

  catchAll(address: Address): Found | undefined {
    const alias = this.#byKey.virtual.get(`@${address.domain}`);
    return alias && { alias, detail: '' };
  }

  expand(found: Found, address: Address): readonly Address[] {
    const targets = new Map<string, Address>();
    this.#collect(found, address, { path: [address.text.toLowerCase()], done: new Set(), targets });
    return [...targets.values()];
  }

  #collect(found: Found, address: Address, walk: Walk): void {
    const { path, done, targets } = walk;
    for (const target of found.alias.targets) {
      const next = this.#addressOf(target, found, address);
      const key = next.text.toLowerCase();
      const inner = target.kind === 'address' && target.final ? undefined : this.find(next);
      // An alias that names itself means its own mailbox.
      if (!inner || key === address.text.toLowerCase()) targets.set(key, next);
      else if (path.includes(key)) throw new Error(`Aliases go in circles: ${[...path, key].join(' → ')}`);
      else if (!done.has(key)) this.#collect(inner, next, { ...walk, path: [...path, key] });
      done.add(key);
      if (targets.size > this.#sources.maxTargets)
        throw new Error(`'${found.alias.key}' expands to more than ${this.#sources.maxTargets} targets`);
    }
  }

  #addressOf(target: FinalTarget, { alias, detail }: Found, address: Address): Address {
    if (target.kind === 'domain') {
      const domain = parseDomain(target.domain);
      if (domain === undefined) throw new Error(`${alias.where}: '@${target.domain}' is no domain`);
      return makeAddress(address.local, domain);
    }
    const parsed = parseMailbox(target.text, { bareLocal: true, smtputf8: true });
    if (parsed.kind === 'error') throw new Error(`${alias.where}: '${target.text}' is no address (${parsed.reason})`);
    const { local, domain } = parsed.address;
    const home = alias.kind === 'virtual' && !this.#sources.isLocal(address.domain) ? this.#sources.origin : undefined;
    return makeAddress(local + detail, domain === '' ? (home ?? address.domain) : domain);
  }

  owner(address: Address): Address | undefined {
    const key = `owner-${address.local.toLowerCase()}`;
    return this.#sources.isLocal(address.domain) && this.#byKey.alias.has(key)
      ? makeAddress(key, address.domain)
      : undefined;
  }

  /** Expands every alias once: bad addresses and circles show now. */
  check(): void {
    for (const alias of [...this.#byKey.alias.values(), ...this.#byKey.virtual.values()]) {
      const [local = '', domain = ''] = splitKey(alias.key);
      const probe = makeAddress(local === '' ? 'anybody' : local, domain === '' ? '' : domain);
      try {
        this.expand({ alias, detail: '' }, probe);
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        throw new Error(message.startsWith(alias.where) ? message : `${alias.where}: ${message}`, { cause: error });
      }
    }
  }

  async isStale(): Promise<boolean> {
    for (const [file, state] of this.#seen) {
      const now = await stat(file).catch(() => undefined);
      if (!now || `${now.mtimeMs} ${now.size}` !== state) return true;
    }
    return false;
  }
}

function splitKey(key: string): readonly [string, string] {
  const at = key.lastIndexOf('@');
  return at < 0 ? [key, ''] : [key.slice(0, at), key.slice(at + 1)];
}
