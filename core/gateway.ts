// The composition root: builds every part from the configuration, starts them in order, stops them in reverse. Nothing
// else knows all parts. Two gateways may run in one process (tests do that): no module state here.
import { mkdirSync } from 'node:fs';
import { hostname as machineName } from 'node:os';
import path from 'node:path';
import type { Logger } from 'pino';
import { plugins as pluginTable } from '../plugins/index.ts';
import { createPendingExchanges } from './accounts/sasl/pending-exchanges.ts';
import type { Users } from './accounts/users.ts';
import { chainEntries, type PluginTable } from './compose/chain-entries.ts';
import { CloseStack } from './compose/close-stack.ts';
import { withDeliverHook } from './compose/deliver-hook-transport.ts';
import { type DemoUser, ensureDemoUsers, type ListenerAddress } from './compose/first-run.ts';
import { createForwarding } from './compose/forwarding.ts';
import { type IntakeStatus, openIntake } from './compose/intake.ts';
import { createListeners, sieveUrlOf } from './compose/listeners.ts';
import { createLocalTransport } from './compose/local-transport.ts';
import { createMailboxLookup } from './compose/mailbox-lookup.ts';
import { createPluginHosts } from './compose/plugin-host.ts';
import {
  createQuarantine,
  createQuarantineAdmin,
  learnKept,
  openQuarantine,
  type QuarantineAdmin,
} from './compose/quarantine.ts';
import { answerRecipients } from './compose/recipient-control.ts';
import {
  checkRecipientOptions,
  openRecipientSources,
  type RecipientPlan,
  type RecipientStatus,
} from './compose/recipient-sources.ts';
import { createRecordings } from './compose/recordings.ts';
import { checkRoutes, createRelayRoutes, ownAddress, type RelayRoutes } from './compose/relay-routes.ts';
import { createRouteLookup } from './compose/routes.ts';
import { checkRuleFile } from './compose/sieve-compiled.ts';
import { openSieveMemory } from './compose/sieve-memory.ts';
import { createRules } from './compose/sieve-rules.ts';
import { openScripts } from './compose/sieve-scripts.ts';
import { dataFolder, openAccountsOn, openTraces, queuePolicy } from './compose/stores.ts';
import { createSubmitter } from './compose/submitter.ts';
import { checkTokenIssuer, tokenVerifierOf } from './compose/token-issuer.ts';
import { userPath } from './compose/user-path.ts';
import { ConfigError, type ConfigProblem, type LoadedConfig, loadConfig } from './config/load.ts';
import type { DocumentedPlugin } from './config/render-docs.ts';
import { type ControlRequest, controlSocketPath } from './control/protocol.ts';
import { startControlServer } from './control/server.ts';
import { cidrSet } from './lib/cidr.ts';
import type { Clock } from './lib/clock.ts';
import { randomId } from './lib/random-id.ts';
import { type Address, parseMailbox } from './mail/address.ts';
import { readMessage } from './mail/message.ts';
import type { TraceRecord, TraceSink } from './mail/trace.ts';
import { realDisk } from './mailstore/disk.ts';
import { createMaildirStore } from './mailstore/maildir-store.ts';
import { openMetadata } from './mailstore/metadata.ts';
import { openStaging } from './mailstore/staging.ts';
import { createDns, systemServers } from './net/dns.ts';
import { type CertificateInfo, ensureSelfSigned, openTls, type Tls } from './net/tls.ts';
import type { Chain } from './pipeline/chain.ts';
import { ChainError, loadChain, validateChain } from './pipeline/load-chain.ts';
import type { CheckHost } from './plugin/contract.ts';
import { createQueueAdmin, type QueueAdmin } from './queue/admin.ts';
import { createDestinationHealth } from './queue/destination-health.ts';
import { createReporter } from './queue/report.ts';
import { createScheduler, type QueueAttempt } from './queue/scheduler.ts';
import { createSettler } from './queue/settle.ts';
import { openQueueStore } from './queue/store.ts';
import type { RouteLookup } from './queue/transport.ts';
import { createMtaSts, stsMigrations } from './relay/mta-sts.ts';
import { routeVia } from './relay/route-via.ts';
import { createRelay } from './relay/smtp-transport.ts';
import type { SieveScripts } from './sieve/script-store.ts';
import { openMemory } from './state/memory.ts';
import { openSqliteState } from './state/sqlite.ts';
import type { TraceStore } from './state/trace-store.ts';

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
  /** Recipients in the queue. */
  readonly queue: Awaited<ReturnType<QueueAdmin['counts']>>;
  readonly quarantine: Awaited<ReturnType<QuarantineAdmin['counts']>>;
  readonly intake: IntakeStatus;
  readonly chain: ReturnType<Chain['describe']>;
  readonly plugins: Awaited<ReturnType<Chain['status']>>;
  /** Where recipients of `relay` domains are known from. */
  readonly recipients: RecipientStatus;
}

export interface Gateway {
  listeners(): readonly ListenerAddress[];
  readonly demoUsers?: readonly DemoUser[];
  readonly selfSigned: boolean;
  readonly users: Users;
  readonly scripts: SieveScripts;
  readonly traces: TraceStore;
  readonly quarantine: QuarantineAdmin;
  status(): Promise<GatewayStatus>;
  /** Loads the configuration that `load` returns; when anything fails the running one stays (invariant I10). */
  reload(load: () => LoadedConfig): Promise<void>;
  onStopRequest(handler: () => void): void;
  /** Running transactions finish, up to `shutdownGrace`. */
  stop(): Promise<void>;
}

const hostnameOf = (config: LoadedConfig): string => config.options.hostname ?? machineName();

/** For the reference and `config explain`. */
export const builtInPlugins = (): readonly DocumentedPlugin[] => Object.values(pluginTable);

/** For commands that load a chain of their own. */
export const builtInTable: PluginTable = {
  plugins: pluginTable,
  moduleOf(name) {
    const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    return new URL(`../plugins/${name}/index.${ending}`, import.meta.url).href;
  },
};

/** Everything that can be said of a configuration without starting it: plugins, their options, their order. */
export async function checkConfig(
  config: LoadedConfig,
  { clock, log }: Pick<GatewayDeps, 'clock' | 'log'>,
): Promise<{ readonly problems: readonly ConfigProblem[]; readonly entries: readonly string[] }> {
  const { entries, problems } = await chainEntries(config, builtInTable, clock, log);
  const validated = validateChain(entries);
  const invalid = validated.problems.map(problem => config.locate(problem.path, problem.message));
  const host: CheckHost = {
    resolvePath: name => path.resolve(config.folder, name),
    checkRules: checkRuleFile,
  };
  const inFiles = await Promise.all(
    entries.map(async ({ plugin, path: at = [] }, index) => {
      const options = validated.options[index];
      const found = options === undefined ? [] : await plugin.check?.(options, host);
      return (found ?? []).map(message => config.locate(at, message));
    }),
  );
  const elsewhere = [...checkRoutes(config), ...checkRecipientOptions(config), ...checkTokenIssuer(config)];
  return {
    problems: [...problems, ...invalid, ...inFiles.flat(), ...elsewhere],
    entries: entries.map(entry => entry.name),
  };
}

/** What the queue does with a message belongs to its trace as much as what happened before the reply. */
function appendAttempt(traces: TraceStore, { id, destination, recipients, outcomes }: QueueAttempt, at: number): void {
  recipients.forEach(({ address }, index) => {
    const outcome = outcomes[index];
    if (!outcome) return;
    const name = outcome.kind === 'delivered' && outcome.relayed ? 'relayed' : outcome.kind;
    const detail = outcome.kind === 'delivered' ? outcome.detail : outcome.why;
    const steps = outcome.steps === undefined ? {} : { steps: outcome.steps };
    traces.append(id, { at, address: address.text, outcome: name, detail: `${destination}: ${detail}`, ...steps });
  });
}

function postmasterOf(config: LoadedConfig): Address | undefined {
  const { postmaster } = config.options.queue;
  if (postmaster === undefined) return undefined;
  const parsed = parseMailbox(postmaster);
  if (parsed.kind === 'address') return parsed.address;
  throw new ConfigError([config.locate(['queue', 'postmaster'], `'${postmaster}' is not an address`)]);
}

const describeCertificate = (certificate: CertificateInfo): string =>
  `${certificate.names[0] ?? '?'}${certificate.selfSigned ? ' (self-signed)' : ''}, until ${new Date(certificate.notAfter).toISOString().slice(0, 10)}`;

/** Of a configuration, what rules depend on; more than that does no harm. */
function rulesRevision({ options: { chain: _chain, listeners, log: _log, ...rest } }: LoadedConfig): string {
  return JSON.stringify([rest, sieveUrlOf({ listeners }, '')]);
}

/** What one configuration gives; replaced as a whole by a reload. */
interface Generation {
  readonly config: LoadedConfig;
  readonly chain: Chain;
  readonly routes: RouteLookup;
  /** Entries of the chain. */
  readonly names: readonly string[];
  /** Plugins that were kept answer from this configuration from now on. */
  adopt(): void;
  readonly relayRoutes: RelayRoutes;
  readonly recipients: RecipientPlan;
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
    certificates:
      given.length > 0 ? given : [await ensureSelfSigned(path.join(folder, 'tls'), [...new Set(names)], clock)],
    clock,
    onReload: certificate =>
      log.info({ certificate: certificate.files.cert, names: certificate.names }, 'Certificate reloaded'),
    onError: error => log.warn({ err: error }, 'Certificate not reloaded'),
  });
}

/** Folder in which the Maildirs of all accounts lie. */
const maildirRoot = (template: string, folder: string): string =>
  path.resolve(folder, template.slice(0, template.search(/[^/]*%|$/)));

async function assemble(deps: GatewayDeps, folder: string, startedAt: number, stack: CloseStack): Promise<Gateway> {
  const { log, clock } = deps;
  const { options } = deps.config;
  const hostname = hostnameOf(deps.config);
  const spoolDir = path.join(folder, 'spool');
  for (const name of [folder, spoolDir]) mkdirSync(name, { recursive: true, mode: 0o700 });

  const state = stack.add('state', await openSqliteState(path.join(folder, options.stores.state)));
  const traces = stack.add('traces', await openTraces(deps.config, clock, log));
  const { users, limits } = stack.add('accounts', await openAccountsOn(state, clock, log));
  const demoUsers = await ensureDemoUsers(deps.config, folder, users);
  const scripts = await openScripts(state, clock);
  const metadata = await openMetadata(state, clock);
  const memory = await openMemory(state, clock);
  const sieveMemory = await openSieveMemory(state, memory);
  const staging = await openStaging({
    root: maildirRoot(options.stores.mail, folder),
    disk: realDisk,
    warn: (text, details) => log.warn(details, text),
  });
  const mail = stack.add(
    'mail store',
    createMaildirStore({
      ...(staging && { staging }),
      maildirOf: user => userPath(options.stores.mail, folder, user),
      host: hostname,
      clock,
    }),
  );
  const dns = createDns({
    servers: options.dns.servers.length > 0 ? options.dns.servers : await systemServers(),
    totalMs: options.dns.timeout,
    clock,
  });
  stack.add('dns', { close: async () => dns.close() });
  const tls = await openCertificates(deps.config, folder, clock, log);
  const policy = queuePolicy(deps.config);
  const postmaster = postmasterOf(deps.config);
  const queueStore = await openQueueStore(state, path.join(folder, 'queue'));
  const queue = createQueueAdmin(queueStore, policy, () => clock.now());
  const kept = stack.add('quarantine', await openQuarantine(state, folder, () => current.config, { clock, log }));
  const health = createDestinationHealth(policy);

  await state.migrate('relay-sts', stsMigrations);
  const relay = stack.add(
    'relay',
    createRelay({
      clock,
      dns,
      log,
      hostname,
      mtaSts: createMtaSts({ dns, clock, state }),
      isOwnAddress: ownAddress(() => current.config.options),
      connections: options.queue.concurrency,
    }),
  );

  const pluginHosts = createPluginHosts();
  const forwarding = createForwarding(() => pluginHosts.offers(current.names).rewriteForwarded);
  const recipients = stack.add(
    'recipients',
    await openRecipientSources({ state, clock, log, dns, env: deps.env, routes: () => current.relayRoutes }),
  );

  const exchanges = createPendingExchanges();
  const generate = async (config: LoadedConfig, previous?: Chain): Promise<Generation> => {
    const { entries, problems } = await chainEntries(config, builtInTable, clock, log);
    if (problems.length > 0) throw new ConfigError(problems);
    const lookup = createMailboxLookup(users, config.options.domains, config.options.recipientDelimiter);
    const relayClients = cidrSet(config.options.relayNetworks);
    const relayRoutes = createRelayRoutes(config, relay, deps.env);
    const plan = await recipients.plan(config);
    const rules = createRules({
      hostname,
      scripts,
      memory: sieveMemory,
      metadata,
      mail,
      lookup,
      submitter: { send: message => submitter.send(message) },
      forwarding,
      relayRoutes: relayRoutes.lookUp,
      recipientDelimiter: config.options.recipientDelimiter,
      sieveUrl: sieveUrlOf(config.options, hostname),
      defaultQuotaBytes: config.options.stores.quota,
      clock,
      log,
    });
    const hosts = pluginHosts.over({
      hostname,
      log,
      clock,
      dns,
      directory: users,
      exchanges,
      lookup,
      recipients: plan,
      isRelayClient: address => relayClients.has(address),
      dataFolder: folder,
      configFolder: config.folder,
      env: deps.env,
      postmaster: config.options.queue.postmaster,
      memory,
      submit: message => submitter.submit(message),
      rules,
      rulesRevision: rulesRevision(config),
    });
    const chain = await loadChain(entries, { clock, log, ...hosts }, previous).catch(async (error: unknown) => {
      await plan.discard();
      if (!(error instanceof ChainError)) throw error;
      throw new ConfigError(
        error.problems.map(problem => config.locate(problem.path, problem.message)),
        { cause: error },
      );
    });
    const local = withDeliverHook(createLocalTransport(mail, lookup, config.options.stores.quota), () => chain);
    // Mailboxes on a next hop have rules too; mail to the rest of the world has not.
    const relayed: RouteLookup = async recipient => {
      const answer = await relayRoutes.lookUp(recipient);
      if (answer.kind !== 'route' || lookup.domainKind(recipient.address.domain) !== 'relay') return answer;
      return {
        kind: 'route',
        route: { ...answer.route, transport: withDeliverHook(answer.route.transport, () => chain) },
      };
    };
    const routes = createRouteLookup({ domains: config.options.domains, local, relay: relayed });
    return {
      config,
      chain,
      routes,
      relayRoutes,
      recipients: plan,
      names: entries.map(({ name }) => name),
      adopt: hosts.adopt,
    };
  };

  let current = await generate(deps.config);
  current.adopt();
  await current.recipients.activate();
  /** Chains that a reload replaced and whose sessions go on; they have things to save, too. */
  const replaced = new Set<Promise<void>>();
  stack.add('chain', {
    async close() {
      await current.chain.close();
      await Promise.all(replaced);
    },
  });
  const routes: RouteLookup = recipient => current.routes(recipient);
  const traceSink: TraceSink = {
    record(trace) {
      traces.record(trace);
      deps.onTrace?.(trace);
    },
  };
  const report = createReporter({
    store: queueStore,
    routes,
    policy,
    clock,
    log,
    hostname,
    newId: () => randomId(clock.now()),
    ...(postmaster === undefined ? {} : { postmaster }),
    perSenderHour: () => current.config.options.queue.reportsPerSender,
    sign: async form => (await current.chain.sign(await readMessage(form))).rope,
    wake: destinations => scheduler.wake(destinations),
  });
  const scheduler = createScheduler({
    store: queueStore,
    routes,
    routeVia: (via, recipient) => routeVia(relay, via, recipient),
    health,
    report,
    policy,
    clock,
    log,
    destinationConcurrency: destination => current.relayRoutes.connections(destination),
    intervalMs: destination => current.relayRoutes.intervalMs(destination),
    onAttempt: attempt => appendAttempt(traces, attempt, clock.now()),
  });
  const settler = createSettler({
    store: queueStore,
    routes,
    health,
    policy,
    clock,
    log,
    directBudgetMs: options.queue.directBudget,
    instance: `${process.pid}`,
    quarantine: createQuarantine(kept),
    wake: destinations => scheduler.wake(destinations),
  });
  const quarantine = createQuarantineAdmin({
    store: kept,
    queue: queueStore,
    policy,
    traces,
    clock,
    wake: () => scheduler.wake(),
  });
  const submitter = createSubmitter({
    settle: settler.settle,
    clock,
    traceSink,
    sign: message => current.chain.sign(message),
  });
  stack.add('settler', { close: () => settler.idle() });
  // No other process of this gateway takes mail yet.
  await queueStore.recover(clock.now());
  await queueStore.sweepBodies(clock.now());
  scheduler.start();
  kept.start();
  const recordings = stack.add(
    'recordings',
    createRecordings(folder, () => current.config, { clock, log }),
  );
  recordings.start();
  stack.add('queue', { close: () => scheduler.stop() });

  // Last, so that the first client finds everything.
  const listeners = stack.add(
    'listeners',
    createListeners({
      hostname,
      spoolDir,
      chain: () => current.chain,
      settle: settler.settle,
      trace: traceSink,
      recorder: recordings,
      directory: users,
      exchanges,
      tokenVerifier: options =>
        tokenVerifierOf(
          { options, folder: deps.config.folder },
          { directory: users, limits, env: deps.env, clock, log },
        ),
      mail,
      flushDomain: recipientDomain => queue.requeue({ recipientDomain }),
      scripts,
      metadata,
      rules: () => pluginHosts.offers(current.names).storedRules,
      tls,
      dns,
      log,
      clock,
    }),
  );
  await listeners.apply(options);

  const intake = stack.add(
    'intake',
    await openIntake({
      config: () => current.config,
      hostname,
      spoolDir,
      state,
      chain: () => current.chain,
      settle: settler.settle,
      queue: { store: queueStore, routes, policy, clock, wake: destinations => scheduler.wake(destinations) },
      trace: traceSink,
      env: deps.env,
      log,
      clock,
    }),
  );

  let onStop: (() => void) | undefined;
  const status = async (): Promise<GatewayStatus> => ({
    version: deps.version,
    hostname,
    pid: process.pid,
    uptimeMs: clock.now() - startedAt,
    memoryBytes: process.memoryUsage.rss(),
    configFile: current.config.file,
    certificate: tls.certificates().map(describeCertificate).join('; '),
    listeners: listeners.list(),
    queue: await queue.counts(),
    quarantine: await quarantine.counts(),
    intake: intake.status(),
    chain: current.chain.describe(),
    plugins: (await current.chain.status()).filter(plugin => Object.keys(plugin.values).length > 0),
    recipients: await recipients.status(),
  });
  let reloaded: Promise<void> = Promise.resolve();
  let stopped: Promise<void> | undefined;
  const reload = (load: () => LoadedConfig): Promise<void> => {
    if (stopped) return Promise.reject(new Error('The gateway stops'));
    const run = reloaded.then(() => loadNext(load));
    reloaded = run.catch(() => undefined);
    return run;
  };
  const loadNext = async (load: () => LoadedConfig): Promise<void> => {
    const previous = current;
    const next = await generate(load(), previous.chain);
    try {
      await listeners.apply(next.config.options);
    } catch (error) {
      await next.chain.close();
      await next.recipients.discard();
      throw error;
    }
    current = next;
    next.adopt();
    await next.recipients.activate();
    await intake.apply(next.config);
    log.info({ event: 'reloaded', file: next.config.file, pluginsKept: next.chain.kept }, 'configuration reloaded');
    const closed = previous.chain
      .close()
      .catch((error: unknown) => log.error({ err: error }, 'Old chain did not close'))
      .finally(() => replaced.delete(closed));
    replaced.add(closed);
  };
  const control = await startControlServer(controlSocketPath(folder), async (request: ControlRequest) => {
    if (request.command === 'status') return status();
    if (request.command === 'reload') return reload(() => loadConfig(current.config.file, process.cwd()));
    if (request.command === 'stop') return onStop?.();
    if (request.command === 'recipients')
      return answerRecipients(recipients, () => current.recipients, request.argument);
    if (request.command === 'wake') return scheduler.wake();
    if (request.command === 'learn') return learnKept(quarantine, current.chain, request.argument);
    if (request.command === 'fetch') return intake.fetch(request.argument);
    throw new Error(`Unknown command '${String(request.command)}'`);
  });
  stack.add('control socket', control);

  return {
    listeners: () => listeners.list(),
    ...(demoUsers === undefined ? {} : { demoUsers }),
    selfSigned: tls.certificates().some(certificate => certificate.selfSigned),
    users,
    scripts,
    traces,
    quarantine,
    status,
    reload,
    onStopRequest(handler) {
      onStop = handler;
    },
    stop() {
      // What a reload under way opens after that, nobody would close.
      stopped ??= reloaded.then(() => stack.closeAll());
      return stopped;
    },
  };
}
