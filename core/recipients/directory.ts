// Recipients of an LDAP directory such as Active Directory: every object with mail addresses (users, groups, contacts,
// public folders), copied here and kept current.
//
// - Answers come from memory, which is the durable copy; the directory is never asked while a client waits. A directory
//   that is dead, refuses us, or suddenly shows next to nothing changes no answer.
// - Reads what changed since the last time (`uSNChanged`, a number that each server counts for itself, so another server
//   or a restored one means a whole read). Deleted objects are among the changes only where the server shows them to us;
//   elsewhere a whole read from time to time finds them gone.
// - The mark is taken before the read begins: what changes meanwhile is read again next time.
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { parseMailbox } from '../mail/address.ts';
import type { CopyEntry, CopyState, DirectoryStore } from './directory-store.ts';
import { keyOf, keysOf, type RecipientSource } from './source.ts';

export interface DirectoryEntry {
  readonly dn: string;
  values(attribute: string): readonly string[];
  hex(attribute: string): string | undefined;
}
/** The shape of `net/ldap.ts`. Where the server refuses, the `code` of the error is the result code, a number. */
export interface DirectoryConnection {
  search(request: {
    readonly base: string;
    readonly scope: 'base' | 'sub';
    readonly filter: string;
    readonly attributes: readonly string[];
    /** OIDs of controls that the server must heed or refuse. */
    readonly controls?: readonly string[];
  }): AsyncIterable<readonly DirectoryEntry[]>;
  close(): Promise<void>;
}

export interface DirectoryOptions {
  readonly name: string;
  /** Where to search; absent: the server's default naming context. */
  readonly base?: string;
  readonly filter: string;
  /** Attributes that hold addresses, plain or as `smtp:user@domain`. */
  readonly attributes: readonly string[];
  /** Between two reads of the changes, ms. */
  readonly intervalMs: number;
  /** Between two whole reads, ms. */
  readonly resyncMs: number;
  readonly delimiter: string;
}

export interface DirectoryParts {
  readonly options: DirectoryOptions;
  readonly store: DirectoryStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Connects to the first server that answers. `server`: its URL. */
  readonly connect: (
    signal: AbortSignal,
  ) => Promise<{ readonly server: string; readonly connection: DirectoryConnection }>;
}

export interface DirectoryStatus {
  readonly name: string;
  readonly addresses: number;
  /** ms since the epoch; 0 = never. */
  readonly syncedAt: number;
  readonly fullAt: number;
  readonly server?: string;
  /** Why the last read failed; absent where it did not. */
  readonly why?: string;
}

export interface SyncResult {
  readonly kind: 'full' | 'delta';
  readonly addresses: number;
  readonly ms: number;
}

export interface RecipientDirectory extends RecipientSource {
  /** Begins to keep the copy current. */
  start(): void;
  /** Reads now. `whole`: everything; `shrink`: also where most addresses would go. */
  sync(how?: { readonly whole?: boolean; readonly shrink?: boolean }): Promise<SyncResult>;
  status(): DirectoryStatus;
  /** Addresses in order, for a person to look at. */
  samples(count: number, domain?: string): readonly string[];
  close(): Promise<void>;
}

/** A whole read that would remove so many addresses is more likely a fault (lost rights, another base). */
const shrinkAbove = 10;
const shrinkShare = 0.5;
const batchSize = 500;
const firstRetryMs = 5_000;
/** Shows deleted objects too ([MS-ADTS] 3.1.1.3.4.1.14); the root entry lists it where they can be asked for. */
export const showDeletedControl = '1.2.840.113556.1.4.417';

/** Everything an entry says: `SMTP:primary@x`, `smtp:alias@x`, `user@x`; other schemes (X400, SIP, EUM) are none of ours. */
export function addressesOf(values: readonly string[]): readonly string[] {
  const found = new Set<string>();
  for (const value of values) {
    const [, scheme, rest = ''] = /^(?:([A-Za-z][\w-]*):)?(.*)$/s.exec(value.trim()) ?? [];
    if (scheme !== undefined && scheme.toLowerCase() !== 'smtp') continue;
    const parsed = parseMailbox(rest, { smtputf8: true });
    if (parsed.kind === 'address') found.add(keyOf(parsed.address));
  }
  return [...found];
}

export async function openDirectory(parts: DirectoryParts): Promise<RecipientDirectory> {
  const { options, store, clock, log } = parts;
  const controller = new AbortController();
  let known = new Set<string>();
  let domains = new Map<string, number>();
  let copy: CopyState | undefined;
  let why: string | undefined;
  let failures = 0;
  let turn: Promise<unknown> = Promise.resolve();
  let cancelNext: (() => void) | undefined;

  const domainOf = (address: string): string => address.slice(address.lastIndexOf('@') + 1);
  function count(address: string, by: 1 | -1): void {
    const domain = domainOf(address);
    const left = (domains.get(domain) ?? 0) + by;
    if (left > 0) domains.set(domain, left);
    else domains.delete(domain);
  }
  function replaceKnown(next: Set<string>): void {
    known = next;
    domains = new Map();
    for (const address of known) count(address, 1);
  }

  async function load(): Promise<void> {
    copy = await store.state();
    const next = new Set<string>();
    if (copy) for await (const page of store.addresses(copy.generation)) for (const address of page) next.add(address);
    replaceKnown(next);
  }

  async function one(
    connection: DirectoryConnection,
    base: string,
    attributes: readonly string[],
    more: { readonly controls?: readonly string[] } = {},
  ) {
    for await (const [entry] of connection.search({
      base,
      scope: 'base',
      filter: '(objectClass=*)',
      attributes,
      ...more,
    }))
      return entry;
    return undefined;
  }

  /** Which server this is (for its numbers), where to search, and up to where its changes go now. */
  async function survey(connection: DirectoryConnection, server: string) {
    const root = await one(connection, '', [
      'highestCommittedUSN',
      'dsServiceName',
      'defaultNamingContext',
      'namingContexts',
      'supportedControl',
    ]);
    const base = options.base ?? root?.values('defaultNamingContext')[0] ?? root?.values('namingContexts')[0];
    if (base === undefined) throw new Error('The directory names no base to search: set `base`');
    const service = root?.values('dsServiceName')[0];
    // A server restored from a backup has another invocation id: its numbers begin again.
    const invocation =
      service === undefined ? undefined : (await one(connection, service, ['invocationId']))?.hex('invocationId');
    return {
      base,
      id: invocation ?? service ?? server,
      mark: root?.values('highestCommittedUSN')[0],
      // Deleted objects leave the place where they were, so the whole naming context is searched for them.
      deletedBelow: root?.values('supportedControl').includes(showDeletedControl)
        ? (contextOf(base, root.values('namingContexts')) ?? root.values('defaultNamingContext')[0])
        : undefined,
    };
  }

  /**
   * Ids of objects that were deleted: they keep their id and number, lose their addresses, carry `isDeleted` and live in
   * a container that few may read ([MS-ADTS] 3.1.1.5.5.1). Undefined where the server does not show them to us.
   */
  async function deleted(
    connection: DirectoryConnection,
    context: string,
    since: string,
  ): Promise<readonly string[] | undefined> {
    const found: string[] = [];
    const controls = [showDeletedControl];
    try {
      // Without the right to list the container a search finds nothing and says nothing ([MS-ADTS] 6.1.1.4.2).
      const container = await one(connection, `CN=Deleted Objects,${context}`, ['1.1'], { controls });
      if (!container) return withoutDeleted('the container of deleted objects cannot be read');
      for await (const page of connection.search({
        base: context,
        scope: 'sub',
        filter: `(&(isDeleted=TRUE)${since})`,
        attributes: ids,
        controls,
      }))
        for (const entry of page) found.push(idOf(entry));
    } catch (error) {
      const code = refusalOf(error);
      if (code === undefined) throw error;
      return withoutDeleted((error as Error).message.trim() || `LDAP result ${code}`);
    }
    deletedHidden = undefined;
    return found;
  }
  let deletedHidden: string | undefined;

  function withoutDeleted(reason: string): undefined {
    if (deletedHidden === undefined)
      log.warn({ directory: options.name, why: reason }, 'directory-deletions-not-shown');
    deletedHidden = reason;
    return undefined;
  }

  /** Highest `uSNChanged`, for directories that have the attribute and do not tell the number itself. */
  async function highest(connection: DirectoryConnection, base: string): Promise<string | undefined> {
    let top: bigint | undefined;
    const filter = `(&${options.filter}(uSNChanged>=${copy?.mark ?? '0'}))`;
    for await (const page of connection.search({ base, scope: 'sub', filter, attributes: ['uSNChanged'] }))
      for (const entry of page) {
        const usn = usnOf(entry);
        if (usn !== undefined && (top === undefined || usn > top)) top = usn;
      }
    return top === undefined ? undefined : String(top);
  }

  const ids = ['objectGUID', 'entryUUID'];
  const entryOf = (entry: DirectoryEntry): CopyEntry => ({
    id: idOf(entry),
    addresses: addressesOf(options.attributes.flatMap(attribute => entry.values(attribute))),
  });

  async function whole(connection: DirectoryConnection, base: string, shrink: boolean): Promise<number> {
    const generation = (copy?.generation ?? 0) + 1;
    await store.clear(copy?.generation);
    const next = new Set<string>();
    for await (const page of connection.search({
      base,
      scope: 'sub',
      filter: options.filter,
      attributes: [...ids, ...options.attributes],
    })) {
      const entries = page.map(entryOf);
      for (const { addresses } of entries) for (const address of addresses) next.add(address);
      for (let at = 0; at < entries.length; at += batchSize)
        await store.add(generation, entries.slice(at, at + batchSize));
    }
    const lost = known.size - next.size;
    if (!shrink && known.size > 0 && (next.size === 0 || (lost > shrinkAbove && lost > known.size * shrinkShare)))
      throw new Error(
        `The directory shows ${next.size} addresses where it showed ${known.size}: the copy stays as it is`,
      );
    staged = next;
    return generation;
  }
  let staged: Set<string> | undefined;

  async function delta(
    connection: DirectoryConnection,
    { base, deletedBelow }: { readonly base: string; readonly deletedBelow: string | undefined },
    mark: string,
    generation: number,
  ): Promise<void> {
    const since = `(uSNChanged>=${BigInt(mark) + 1n})`;
    const search = { base, scope: 'sub' } as const;
    // What changed so that the filter does not find it any more must go; so all that changed is asked for first.
    const gone = deletedBelow === undefined ? undefined : await deleted(connection, deletedBelow, since);
    const changed = new Set(gone);
    for await (const page of connection.search({ ...search, filter: since, attributes: ids }))
      for (const entry of page) changed.add(idOf(entry));
    const entries: CopyEntry[] = [];
    for await (const page of connection.search({
      ...search,
      filter: `(&${options.filter}${since})`,
      attributes: [...ids, ...options.attributes],
    }))
      entries.push(...page.map(entryOf));
    for (const { id } of entries) changed.delete(id);
    const touched = await store.change(generation, [...changed], entries);
    const present = new Set(await store.present(generation, touched));
    for (const address of touched) {
      const here = present.has(address);
      if (here === known.has(address)) continue;
      count(address, here ? 1 : -1);
      if (here) known.add(address);
      else known.delete(address);
    }
  }

  async function read(how: { readonly whole?: boolean; readonly shrink?: boolean }): Promise<SyncResult> {
    const begun = clock.monotonic();
    const { server, connection } = await parts.connect(controller.signal);
    try {
      const at = clock.now();
      const { base, id, mark: told, deletedBelow } = await survey(connection, server);
      const mark = told ?? (await highest(connection, base)) ?? copy?.mark;
      const isDelta =
        how.whole !== true &&
        copy?.server === id &&
        copy.mark !== undefined &&
        mark !== undefined &&
        at - copy.fullAt < options.resyncMs;
      if (isDelta && copy?.mark !== undefined)
        await delta(connection, { base, deletedBelow }, copy.mark, copy.generation);
      const generation = isDelta && copy ? copy.generation : await whole(connection, base, how.shrink ?? false);
      const next: CopyState = {
        generation,
        server: id,
        ...(mark === undefined ? {} : { mark }),
        syncedAt: at,
        fullAt: isDelta && copy ? copy.fullAt : at,
      };
      await store.commit(next);
      copy = next;
      if (staged) replaceKnown(staged);
      if (!isDelta) await store.clear(generation);
      return { kind: isDelta ? 'delta' : 'full', addresses: known.size, ms: clock.monotonic() - begun };
    } finally {
      staged = undefined;
      await connection.close();
    }
  }

  async function sync(how: { readonly whole?: boolean; readonly shrink?: boolean } = {}): Promise<SyncResult> {
    try {
      const result = await read(how);
      if (why !== undefined || result.kind === 'full')
        log.info({ directory: options.name, ...result }, 'directory-read');
      why = undefined;
      failures = 0;
      return result;
    } catch (error) {
      const said = error instanceof Error ? error.message || error.name : String(error);
      if (!controller.signal.aborted && said !== why)
        log.warn({ directory: options.name, why: said }, 'directory-not-read');
      why = said;
      failures += 1;
      throw error;
    }
  }

  /** One read at a time. */
  function inTurn(how?: { readonly whole?: boolean; readonly shrink?: boolean }): Promise<SyncResult> {
    const result = turn.then(() => sync(how));
    turn = result.catch(() => undefined);
    return result;
  }

  async function round(): Promise<void> {
    cancelNext = undefined;
    await inTurn().catch(() => undefined);
    if (controller.signal.aborted) return;
    const waitMs =
      failures === 0
        ? options.intervalMs
        : Math.min(options.intervalMs, firstRetryMs * 2 ** Math.min(10, failures - 1));
    cancelNext = clock.after(waitMs, () => void round());
  }

  await load();
  return {
    start: () => void round(),
    sync: inTurn,
    async verify(address) {
      if (known.size === 0)
        return {
          kind: 'unavailable',
          why: `directory ${options.name} was never read${why === undefined ? '' : `: ${why}`}`,
        };
      const hit = keysOf(address, options.delimiter).find(key => known.has(key));
      if (hit !== undefined) return { kind: 'found', why: `in directory ${options.name}` };
      // A domain without a single address is more likely one that this directory does not hold.
      if (!domains.has(address.domain.toLowerCase()))
        return { kind: 'unavailable', why: `directory ${options.name} has no address of ${address.domain}` };
      return { kind: 'none', why: `not in directory ${options.name}` };
    },
    status: () => ({
      name: options.name,
      addresses: known.size,
      syncedAt: copy?.syncedAt ?? 0,
      fullAt: copy?.fullAt ?? 0,
      ...(copy?.server === undefined ? {} : { server: copy.server }),
      ...(why === undefined ? {} : { why }),
    }),
    samples(count, domain) {
      const found: string[] = [];
      for (const address of known) {
        if (domain !== undefined && domainOf(address) !== domain) continue;
        found.push(address);
        if (found.length >= count) break;
      }
      return found.sort();
    },
    async close() {
      controller.abort(new Error('Closed'));
      cancelNext?.();
      await turn;
    },
  };
}

function usnOf(entry: DirectoryEntry): bigint | undefined {
  const [text] = entry.values('uSNChanged');
  return text !== undefined && /^\d+$/.test(text) ? BigInt(text) : undefined;
}

/** Stays the same when the object is renamed or moved; the name itself where the directory has nothing better. */
const idOf = (entry: DirectoryEntry): string =>
  entry.hex('objectGUID') ?? entry.values('entryUUID')[0] ?? entry.dn.toLowerCase();

/** The longest of these naming contexts that holds `dn`. */
function contextOf(dn: string, contexts: readonly string[]): string | undefined {
  const plain = (name: string): string => name.toLowerCase().replace(/\s*([,=])\s*/g, '$1');
  const inside = plain(dn);
  return contexts
    .filter(context => inside === plain(context) || inside.endsWith(`,${plain(context)}`))
    .sort((a, b) => b.length - a.length)[0];
}

/** RFC 4511 §4.1.9: busy (51) and unavailable (52) pass, so they are faults of this read. */
const passing: readonly number[] = [51, 52];

/** The result code of a server that will not; undefined for all else, such as a connection that broke. */
function refusalOf(error: unknown): number | undefined {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'number' && !passing.includes(code) ? code : undefined;
}
