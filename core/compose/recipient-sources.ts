// `domains[].recipients` and `directories` of the configuration as one question: is there such a recipient? Directories
// and callouts live on over a reload that does not change them; what a new configuration drops is closed.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import type { DirectoryOptions, DomainOptions, GatewayOptions } from '../config/gateway-options.ts';
import { ConfigError, type ConfigProblem, type LoadedConfig } from '../config/load.ts';
import type { Clock } from '../lib/clock.ts';
import type { Address } from '../mail/address.ts';
import { type LdapOptions, ldapIsPrivate } from '../net/ldap.ts';
import type { Dns } from '../plugin/contract.ts';
import { parseAddressList, parseAddressMap, tableSource } from '../recipients/address-table.ts';
import { type Callout, type CalloutAnswer, type CalloutBackend, createCallout } from '../recipients/callout.ts';
import { openCalloutStore } from '../recipients/callout-store.ts';
import {
  type DirectoryStatus,
  openDirectory,
  type RecipientDirectory,
  type SyncResult,
} from '../recipients/directory.ts';
import { openDirectoryStore, recipientMigrations } from '../recipients/directory-store.ts';
import { openMapFile } from '../recipients/map-file.ts';
import type { RecipientSource, Verification } from '../recipients/source.ts';
import { createVerifier } from '../recipients/verifier.ts';
import type { RelayOutcome } from '../relay/outcome.ts';
import type { State } from '../state/state.ts';
import { createDirectoryServers } from './directory-servers.ts';
import type { RelayRoutes } from './relay-routes.ts';
import { readSecret } from './secret.ts';

export interface RecipientParts {
  readonly state: State;
  readonly clock: Clock;
  readonly log: Logger;
  readonly dns: Dns;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly routes: () => RelayRoutes;
}

/** What one configuration says. */
export interface RecipientPlan {
  /** Undefined: the domain names no source, only its next hop can tell. */
  verify(address: Address, signal: AbortSignal): Promise<Verification> | undefined;
  /** This configuration is the one in use: begins what is new, closes what it has not. */
  activate(): Promise<void>;
  /** It will not be used. */
  discard(): Promise<void>;
}

export interface RecipientStatus {
  readonly directories: readonly DirectoryStatus[];
  /** Next hop → whether it takes every address, as callouts found out. */
  readonly backends: Readonly<Record<string, boolean>>;
}

export interface RecipientSources {
  /** @throws ConfigError */
  plan(config: LoadedConfig): Promise<RecipientPlan>;
  status(): Promise<RecipientStatus>;
  samples(directory: string, count: number, domain?: string): readonly string[];
  sync(directory: string, how: { readonly whole?: boolean; readonly shrink?: boolean }): Promise<SyncResult>;
  close(): Promise<void>;
}

type Env = RecipientParts['env'] | undefined;
const sweepEveryMs = 3_600_000;

/** What can be said of the configuration without asking anybody. */
export function checkRecipientOptions(config: LoadedConfig, env?: Env): readonly ConfigProblem[] {
  const { directories, domains } = config.options;
  return [
    ...directories.flatMap((options, index) => directoryProblems(config, options, index, env)),
    ...domains.flatMap((domain, index) => domainProblems(config, domain, index)),
  ];
}

function directoryProblems(config: LoadedConfig, options: DirectoryOptions, index: number, env: Env): ConfigProblem[] {
  const at = (key: string, message: string) => config.locate(['directories', index, key], message);
  const problems: ConfigProblem[] = [];
  if (options.urls.length === 0 && options.domain === undefined)
    problems.push(at('urls', `Name the servers: 'urls', or a 'domain' whose SRV records name them`));
  if (options.urls.length > 0 && options.domain !== undefined)
    problems.push(at('domain', `Either 'urls' or 'domain': both name the servers`));
  if (config.options.directories.findIndex(other => other.name === options.name) !== index)
    problems.push(at('name', `There are two directories '${options.name}'`));
  if ((options.bindDn === undefined) !== (options.password === undefined))
    problems.push(at(options.password === undefined ? 'bindDn' : 'password', `'bindDn' and 'password' go together`));
  const secret = options.password && readSecret(options.password, config.folder, env);
  if (secret instanceof Error) problems.push(at('password', secret.message));
  const open = options.urls.find(url => !ldapIsPrivate({ url, startTls: options.startTls && url.startsWith('ldap:') }));
  if (options.password && open !== undefined)
    problems.push(at('urls', `The password would cross '${open}' unencrypted: use ldaps:// or 'startTls'`));
  return problems;
}

function domainProblems(config: LoadedConfig, domain: DomainOptions, index: number): ConfigProblem[] {
  const { recipients } = domain;
  if (!recipients) return [];
  const at = (key: string, message: string) => config.locate(['domains', index, 'recipients', key], message);
  if (domain.kind !== 'relay')
    return [
      config.locate(
        ['domains', index, 'recipients'],
        `Only 'relay' domains have recipients elsewhere; '${domain.name}' is '${domain.kind}'`,
      ),
    ];
  const problems = parseAddressList(recipients.list).problems.map(({ message }) => at('list', message));
  for (const file of recipients.maps) {
    try {
      const { problems: inFile } = parseAddressMap(readFileSync(path.resolve(config.folder, file), 'utf8'));
      problems.push(...inFile.map(({ line, message }) => at('maps', `${file}:${line}: ${message}`)));
    } catch (error) {
      problems.push(at('maps', `Cannot read the map: ${(error as Error).message}`));
    }
  }
  const { directory } = recipients;
  if (directory !== undefined && !config.options.directories.some(each => each.name === directory))
    problems.push(at('directory', `There is no directory '${directory}' in 'directories'`));
  const none = recipients.list.length + recipients.maps.length === 0 && directory === undefined && !recipients.callout;
  if (none) problems.push(at('list', `Name a source: 'list', 'maps', 'directory' or 'callout'`));
  return problems;
}

function ldapOptions(options: DirectoryOptions, config: LoadedConfig, env: Env): Omit<LdapOptions, 'url' | 'startTls'> {
  const password = options.password && readSecret(options.password, config.folder, env);
  return {
    ...(options.caFile === undefined ? {} : { caFile: path.resolve(config.folder, options.caFile) }),
    ...(options.bindDn !== undefined && typeof password === 'string' ? { bind: { dn: options.bindDn, password } } : {}),
    timeoutMs: options.timeout,
    pageSize: options.pageSize,
  };
}

/** RFC 3463: which refusals of RCPT are about the address itself. Mailbox full, policy and greylisting say nothing of it. */
function answerOf(outcome: RelayOutcome): CalloutAnswer {
  if (outcome.kind === 'delivered') return { kind: 'taken', why: outcome.detail };
  if (outcome.kind === 'deferred') return { kind: 'unsure', why: outcome.why };
  const { code, enhanced } = outcome.reply;
  const aboutAddress =
    /^5\.1\.(?:[0-3]|6|10)$|^5\.2\.1$/.test(enhanced) || (enhanced === '5.0.0' && [550, 551, 553].includes(code));
  return { kind: aboutAddress ? 'unknown' : 'unsure', why: outcome.why };
}

export async function openRecipientSources(parts: RecipientParts): Promise<RecipientSources> {
  const { state, clock, log } = parts;
  await state.migrate('recipients', recipientMigrations);
  const calloutStore = openCalloutStore(state);
  let directories = new Map<string, RecipientDirectory>();
  let callouts = new Map<string, Callout>();
  const started = new Set<RecipientDirectory>();
  let cancelSweep: (() => void) | undefined;
  /** Whose callouts are swept; undefined: nobody's, or no more. */
  let swept: GatewayOptions | undefined;

  async function newDirectory(config: LoadedConfig, options: DirectoryOptions): Promise<RecipientDirectory> {
    const servers = createDirectoryServers(options, ldapOptions(options, config, parts.env), {
      clock,
      dns: parts.dns,
      onChange: (server, why) => log.warn({ directory: options.name, server, why }, 'directory-server'),
    });
    return openDirectory({
      options: {
        name: options.name,
        ...(options.base === undefined ? {} : { base: options.base }),
        filter: options.filter,
        attributes: options.attributes,
        intervalMs: options.interval,
        resyncMs: options.resync,
        delimiter: config.options.recipientDelimiter,
      },
      store: openDirectoryStore(state, options.name),
      clock,
      log,
      connect: signal => servers.connect(signal),
    });
  }

  async function backendOf(address: Address): Promise<CalloutBackend | undefined> {
    const found = parts.routes().backend(address);
    if (!found) return undefined;
    return {
      name: `${found.destination} ${address.domain}`,
      ask: async (addresses, signal) =>
        (
          await found.transport.ask(
            addresses.map(each => ({ address: each })),
            signal,
          )
        ).map(answerOf),
    };
  }

  function newCallout(options: NonNullable<NonNullable<DomainOptions['recipients']>['callout']>): Callout {
    return createCallout({
      options: {
        positiveMs: options.positive,
        negativeMs: options.negative,
        staleMs: options.stale,
        budgetMs: options.budget,
        concurrency: options.concurrency,
        acceptsAll: options.acceptsAll,
      },
      store: calloutStore,
      clock,
      log,
      backend: backendOf,
    });
  }

  function sourcesOf(
    config: LoadedConfig,
    options: NonNullable<DomainOptions['recipients']>,
    directory: RecipientDirectory | undefined,
  ): RecipientSource[] {
    const delimiter = config.options.recipientDelimiter;
    const { keys } = parseAddressList(options.list);
    return [
      ...(keys.size > 0 ? [tableSource('the list', delimiter, async () => keys)] : []),
      ...options.maps.map(name => {
        const file = openMapFile(path.resolve(config.folder, name), clock, log);
        return tableSource(`map ${name}`, delimiter, () => file.keys());
      }),
      ...(directory ? [directory] : []),
    ];
  }

  async function sweep(options: GatewayOptions): Promise<void> {
    const times = options.domains.flatMap(domain => domain.recipients?.callout ?? []);
    const now = clock.now();
    const oldest = (pick: (each: (typeof times)[number]) => number): number => now - Math.max(0, ...times.map(pick));
    await calloutStore
      .sweep(
        oldest(each => each.negative),
        oldest(each => each.stale),
      )
      .catch((error: unknown) => log.error({ err: error }, 'callout-sweep'));
    if (swept === options) cancelSweep = clock.after(sweepEveryMs, () => void sweep(options));
  }

  const closeAll = (closable: Iterable<{ close(): Promise<void> }>): Promise<unknown> =>
    Promise.allSettled([...closable].map(each => each.close()));

  return {
    async plan(config) {
      const problems = checkRecipientOptions(config, parts.env);
      if (problems.length > 0) throw new ConfigError(problems);
      const { options } = config;
      const nextDirectories = new Map<string, RecipientDirectory>();
      const nextCallouts = new Map<string, Callout>();
      const byName = new Map<string, RecipientDirectory>();
      for (const entry of options.directories) {
        const key = JSON.stringify([
          entry,
          config.folder,
          options.recipientDelimiter,
          ldapOptions(entry, config, parts.env),
        ]);
        const directory = directories.get(key) ?? (await newDirectory(config, entry));
        nextDirectories.set(key, directory);
        byName.set(entry.name, directory);
      }
      const verifiers = new Map<string, RecipientSource>();
      for (const domain of options.domains) {
        const { recipients } = domain;
        if (!recipients) continue;
        const key = JSON.stringify(recipients.callout);
        const callout =
          recipients.callout && (callouts.get(key) ?? nextCallouts.get(key) ?? newCallout(recipients.callout));
        if (callout) nextCallouts.set(key, callout);
        const directory = recipients.directory === undefined ? undefined : byName.get(recipients.directory);
        const sources = sourcesOf(config, recipients, directory);
        const { unavailable } = recipients;
        verifiers.set(domain.name, createVerifier({ sources, unavailable, ...(callout ? { callout } : {}) }));
      }
      const fresh = <T>(next: ReadonlyMap<string, T>, now: ReadonlyMap<string, T>): readonly T[] =>
        [...next].filter(([key]) => !now.has(key)).map(([, value]) => value);
      return {
        verify: (address, signal) => verifiers.get(address.domain.toLowerCase())?.verify(address, signal),
        async activate() {
          const gone = [...fresh(directories, nextDirectories), ...fresh(callouts, nextCallouts)];
          directories = nextDirectories;
          callouts = nextCallouts;
          // The old one of a changed directory ends before its successor begins: they share the copy.
          await closeAll(gone);
          for (const directory of directories.values()) {
            if (started.has(directory)) continue;
            started.add(directory);
            directory.start();
          }
          cancelSweep?.();
          swept = callouts.size > 0 ? options : undefined;
          if (swept) await sweep(options);
        },
        async discard() {
          await closeAll([...fresh(nextDirectories, directories), ...fresh(nextCallouts, callouts)]);
        },
      };
    },
    async status() {
      const [callout] = callouts.values();
      return {
        directories: [...directories.values()].map(each => each.status()),
        backends: (await callout?.backends()) ?? {},
      };
    },
    samples: (name, count, domain) => find(directories, name).samples(count, domain),
    sync: (name, how) => find(directories, name).sync(how),
    async close() {
      swept = undefined;
      cancelSweep?.();
      await closeAll([...directories.values(), ...callouts.values()]);
    },
  };
}

function find(directories: ReadonlyMap<string, RecipientDirectory>, name: string): RecipientDirectory {
  const found = [...directories.values()].find(each => each.status().name === name);
  if (!found) throw new Error(`There is no directory '${name}'`);
  return found;
}
