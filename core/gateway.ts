// The composition root: builds every part from the configuration, starts them in order, stops them in reverse. Nothing
// else knows all parts. Two gateways may run in one process (tests do that): no module state here.
import { mkdirSync } from 'node:fs';
import { hostname as machineName } from 'node:os';
import path from 'node:path';
import type { Logger } from 'pino';
import { plugins as pluginTable } from '../plugins/index.ts';
import type { Directory } from './accounts/directory.ts';
import { openUsers, type Users } from './accounts/users.ts';
import { type DemoUser, ensureDemoUsers, type ListenerAddress } from './compose/first-run.ts';
import { listenerKey, type RunningListener, startListener } from './compose/listeners.ts';
import { createLocalTransport } from './compose/local-transport.ts';
import { createMailboxLookup } from './compose/mailbox-lookup.ts';
import { createPluginHost } from './compose/plugin-host.ts';
import { createRouteLookup } from './compose/routes.ts';
import { createTransports } from './compose/transports.ts';
import { readChain } from './config/chain-entry.ts';
import { ConfigError, type ConfigProblem, type LoadedConfig } from './config/load.ts';
import type { DocumentedPlugin } from './config/render-docs.ts';
import { controlSocketName, type ControlRequest } from './control/protocol.ts';
import { startControlServer } from './control/server.ts';
import type { Clock } from './lib/clock.ts';
import type { TraceRecord, TraceSink } from './mail/trace.ts';
import { openMaildirStore } from './mailstore/maildir-store.ts';
import { cidrSet } from './net/cidr.ts';
import { createDns } from './net/dns.ts';
import { ensureSelfSigned, openTls, type Tls } from './net/tls.ts';
import type { Chain } from './pipeline/chain.ts';
import { loadChain } from './pipeline/load-chain.ts';
import type { RouteLookup } from './queue/transport.ts';
import { openSqliteState } from './state/sqlite.ts';
import { openTraceStore, type TraceStore } from './state/trace-store.ts';

export interface GatewayDeps {
  readonly config: LoadedConfig;
  readonly log: Logger;
  readonly clock: Clock;
  /** For secrets by reference. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** Each trace as it is made, besides the store. */
  readonly onTrace?: (trace: TraceRecord) => void;
}

export interface GatewayStatus {
  readonly version: string;
  readonly hostname: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly memoryBytes: number;
  readonly configFile: string;
  readonly certificate: string;
  readonly listeners: readonly (ListenerAddress & { readonly sessions: number })[];
  readonly queue: Readonly<Record<string, number>>;
  readonly chain: ReturnType<Chain['describe']>;
  readonly plugins: Awaited<ReturnType<Chain['status']>>;
}

export interface Gateway {
  listeners(): readonly ListenerAddress[];
  readonly demoUsers?: readonly DemoUser[];
  readonly selfSigned: boolean;
  readonly users: Users;
  readonly traces: TraceStore;
  status(): Promise<GatewayStatus>;
  /** Loads the configuration that `load` returns; when anything fails the running one stays (invariant I10). */
  reload(load: () => LoadedConfig): Promise<void>;
  onStopRequest(handler: () => void): void;
  /** Running transactions finish, up to `shutdownGrace`. */
  stop(): Promise<void>;
}

/** Folder of mail, queue and state. */
export const dataFolder = (config: LoadedConfig): string => path.resolve(config.folder, config.options.dataDir);

const hostnameOf = (config: LoadedConfig): string => config.options.hostname ?? machineName();

/** For the reference and `config explain`. */
export const builtInPlugins = (): readonly DocumentedPlugin[] => Object.values(pluginTable);

async function chainEntries(config: LoadedConfig): Promise<{ readonly entries: readonly ChainEntry[]; readonly problems: readonly ConfigProblem[] }> {
  const read = readChain(config.options.chain);
  const problems = read.problems.map(problem => config.locate(problem.path, problem.message));
  const entries: ChainEntry[] = [];
  for (const { plugin: spec, ...entry } of read.entries) {
    try {
      entries.push({ ...entry, plugin: await resolvePlugin(spec, { builtIn: pluginTable, folder: config.folder }) });
    } catch (error) {
      const near = nearest(spec, Object.keys(pluginTable));
      problems.push(config.locate(entry.path, `${(error as Error).message}${near ? `, did you mean '${near}'?` : ''}`));
    }
  }
  return { entries, problems };
}

/** Everything that can be said of a configuration without starting it: plugins, their options, their order. */
export async function checkConfig(config: LoadedConfig): Promise<{ readonly problems: readonly ConfigProblem[]; readonly entries: readonly string[] }> {
  const { entries, problems } = await chainEntries(config);
  const invalid = validateChain(entries).problems.map(problem => config.locate(problem.path, problem.message));
  return { problems: [...problems, ...invalid], entries: entries.map(entry => entry.name) };
}

/** Accounts alone, for commands that need no running gateway. */
export async function openAccounts(config: LoadedConfig, clock: Clock): Promise<{ readonly users: Users; close(): Promise<void> }> {
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = await openSqliteState(path.join(folder, config.options.stores.state));
  try {
    return { users: await openUsers({ state, clock }), close: () => state.close() };
  } catch (error) {
    await state.close();
    throw error;
  }
}

/** Traces alone, for `postern trace`. */
export async function openTraces(config: LoadedConfig, clock: Clock, log: Logger): Promise<TraceStore> {
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = await openSqliteState(path.join(folder, 'trace.db'), { synchronous: 'normal' });
  const store = await openTraceStore({ state, clock, retentionMs: config.options.stores.traceRetention, warn: (message, details) => log.warn(details, message) });
  return {
    ...store,
    async close() {
      await store.close();
      await state.close();
    },
  };
}

/** What one configuration gives; replaced as a whole by a reload. */
interface Generation {
  readonly config: LoadedConfig;
  readonly chain: Chain;
  readonly routes: RouteLookup;
}

export async function startGateway(deps: GatewayDeps): Promise<Gateway> {
  const { log, clock } = deps;
  const startedAt = clock.now();
  const folder = dataFolder(deps.config);
  const stack = new CloseStack(log);
  try {
    return await assemble(deps, folder, startedAt, stack);
  } catch (error) {
    await stack.closeAll();
    throw error;
  }
}

async function openCertificates(config: LoadedConfig, folder: string, clock: Clock, log: Logger): Promise<Tls> {
  const given = config.options.tls.certificates.map(files => ({
    key: path.resolve(config.folder, files.key),
    cert: path.resolve(config.folder, files.certificate),
  }));
  const names = [hostnameOf(config), 'localhost', ...config.options.domains.map(domain => domain.name)];
  return openTls({
    certificates: given.length > 0 ? given : [await ensureSelfSigned(path.join(folder, 'tls'), [...new Set(names)], clock)],
    clock,
    onReload: certificate => log.info({ certificate: certificate.files.cert, names: certificate.names }, 'Certificate reloaded'),
    onError: error => log.warn({ err: error }, 'Certificate not reloaded'),
  });
}

async function assemble(deps: GatewayDeps, folder: string, startedAt: number, stack: CloseStack): Promise<Gateway> {
  const { log, clock } = deps;
  const { options } = deps.config;
  const hostname = hostnameOf(deps.config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });

  const state = stack.add('state', await openSqliteState(path.join(folder, options.stores.state)));
  const traces = stack.add('traces', await openTraces(deps.config, clock, log));
  const users = await openUsers({ state, clock });
  const directory: Directory = users;
  const demoUsers = await ensureDemoUsers(deps.config, folder, users);
  const mail = stack.add('mail store', await openMaildirStore({ root: folder, path: options.stores.mail, hostname, clock, log, quotaBytes: options.stores.quota }));
  const dns = createDns({ servers: options.dns.servers, timeoutMs: options.dns.timeout, clock });
  const tls = await openCertificates(deps.config, folder, clock, log);
  const queuePolicy: QueuePolicy = {
    lifetimeMs: options.queue.lifetime,
    delayWarningMs: options.queue.delayWarning,
    firstRetryMs: options.queue.firstRetry,
    maxRetryMs: options.queue.maxRetry,
  };
  const queueStore = await openQueueStore(state, path.join(folder, 'queue'));
  const health = createDestinationHealth(queuePolicy);

  const generate = async (config: LoadedConfig): Promise<Generation> => {
    const { entries, problems } = await chainEntries(config);
    if (problems.length > 0) throw new ConfigError(problems);
    const lookup = createMailboxLookup(directory, config.options.domains, config.options.recipientDelimiter);
    const relayClients = cidrSet(config.options.relayNetworks);
    const hostFor = createPluginHost({
      hostname,
      log,
      clock,
      dns,
      directory,
      lookup,
      isRelayClient: address => relayClients.has(address),
      dataFolder: folder,
      configFolder: config.folder,
      submit: mail => submitter.submit(mail),
    });
    const chain = await loadChain(entries, { clock, log, hostFor }).catch((error: unknown) => {
      if (!(error instanceof ChainError)) throw error;
      throw new ConfigError(error.problems.map(problem => config.locate(problem.path, problem.message)), { cause: error });
    });
    const transports = createTransports({ config, hostname, dns, clock, log, local: createLocalTransport(mail, lookup), env: deps.env });
    return { config, chain, routes: createRouteLookup({ options: config.options, ...transports }) };
  };

  let current = await generate(deps.config);
  stack.add('chain', { close: () => current.chain.close() });
  const runner = createQueueRunner({ store: queueStore, routes: recipient => current.routes(recipient), health, policy: queuePolicy, clock, log });
  const settler = createSettler({
    store: queueStore,
    routes: recipient => current.routes(recipient),
    health,
    policy: queuePolicy,
    clock,
    log,
    directBudgetMs: options.queue.directBudget,
    instance: `${process.pid}`,
    wake: () => runner.wake(),
  });
  const traceSink: TraceSink = {
    record(trace) {
      traces.record(trace);
      deps.onTrace?.(trace);
    },
  };
  const submitter = createSubmitter({ settler, clock, hostname, traceSink });

  // Listeners last, so that the first client finds everything; the queue runner just before them.
  stack.add('settler', { close: () => settler.idle() });
  await runner.start();
  stack.add('queue runner', { close: () => runner.stop() });
}
