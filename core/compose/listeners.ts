// The ports of the configuration as running servers, one for each `listeners` entry. A reload keeps those that did not
// change, so their sessions and their port stay; a changed one is closed, its sessions finish, and it is opened anew.
import path from 'node:path';
import type { Logger } from 'pino';
import type { Directory } from '../accounts/directory.ts';
import type { VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { PendingExchanges } from '../accounts/sasl/pending-exchanges.ts';
import type { GatewayOptions, ListenerOptions } from '../config/gateway-options.ts';
import { createImapServer } from '../imap/server.ts';
import { cidrSet } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import type { TraceSink } from '../mail/trace.ts';
import type { MailStore } from '../mailstore/mailbox.ts';
import type { Metadata } from '../mailstore/metadata.ts';
import { createManageSieveServer } from '../managesieve/server.ts';
import type { SessionListenerOptions, SessionServer } from '../net/session-server.ts';
import type { Tls } from '../net/tls.ts';
import type { Chain } from '../pipeline/chain.ts';
import type { Dns } from '../plugin/contract.ts';
import { createPop3Server } from '../pop3/server.ts';
import type { SieveScripts } from '../sieve/script-store.ts';
import { defaultSettings } from '../sieve/settings.ts';
import type { FlushQueue, Recorder, Settle } from '../smtp/ports.ts';
import { createSmtpServer } from '../smtp/server.ts';
import { createSpoolMemory } from '../smtp/spool-memory.ts';
import type { ListenerAddress } from './first-run.ts';
import { verifiedReverseName } from './reverse-name.ts';
import { ruleRegistry } from './sieve-scripts.ts';
import type { StoredRules } from './sieve-stored.ts';

export interface ListenerParts {
  readonly hostname: string;
  readonly spoolDir: string;
  readonly chain: () => Chain;
  readonly settle: Settle;
  readonly trace: TraceSink;
  readonly recorder: Recorder;
  readonly directory: Directory;
  readonly exchanges: PendingExchanges;
  /** For the issuer that the options name. */
  readonly tokenVerifier: (options: GatewayOptions) => VerifyToken | undefined;
  readonly mail: MailStore;
  /** Makes what waits for a domain due now; resolves to the number of recipients. */
  readonly flushDomain: (domain: string) => Promise<number>;
  readonly scripts: SieveScripts;
  readonly metadata: Metadata;
  /** Over stored mail, as the configuration is now. */
  readonly rules: () => StoredRules | undefined;
  readonly tls: Tls;
  readonly dns: Dns;
  readonly log: Logger;
  readonly clock: Clock;
}

interface ServerParts extends ListenerParts {
  readonly tokens: { readonly verifyToken?: VerifyToken };
}

export interface Listeners {
  list(): readonly (ListenerAddress & { readonly sessions: number })[];
  /** Opens, keeps and closes ports so that they are those of `options`. When one cannot be opened, those before stay. */
  apply(options: GatewayOptions): Promise<void>;
  close(): Promise<void>;
}

function smtpServer(
  listener: ListenerOptions & { readonly role: 'smtp' | 'submission' | 'lmtp' },
  options: GatewayOptions,
  parts: ServerParts,
): SessionServer {
  const { limits } = listener;
  const reverseName = verifiedReverseName(parts.dns);
  return createSmtpServer({
    listener: {
      name: listener.name,
      role: listener.role,
      target: targetOf(listener),
      tls: listener.tls,
      allowPlaintextAuth: listener.allowPlaintextAuth,
      ...(listener.banner === undefined ? {} : { banner: listener.banner }),
      greetDelayMs: listener.greetDelay,
      lineEnds: listener.lineEnds,
      proxyProtocol: listener.proxyProtocol,
      xclient: listener.xclient,
      chunking: listener.chunking,
      prdr: listener.prdr,
      recipientsTogether: listener.recipientsTogether,
      lookupReverseName: listener.lookupReverseName,
      maxSize: options.message.maxSize,
      spoolAbove: options.message.spoolAbove,
      headerSize: options.message.headerSize,
      limits: {
        connections: limits.connections,
        connectionsPerAddress: limits.connectionsPerAddress,
        connectionsPerNetwork: limits.connections,
        connectionRatePerMinute: limits.connectionRatePerMinute,
        idleTimeoutMs: limits.idleTimeout,
        sessionLifetimeMs: limits.sessionLifetime,
        messagesPerSession: limits.messagesPerSession,
        recipients: limits.recipients,
        errors: limits.errors,
        authFailures: limits.authFailures,
        minDataRate: limits.minDataRate,
        lineLength: limits.lineLength,
      },
    },
    hostname: parts.hostname,
    spoolDir: parts.spoolDir,
    spoolMemory: createSpoolMemory(options.message.memory),
    chain: parts.chain,
    settle: parts.settle,
    trace: parts.trace,
    recorder: parts.recorder,
    sasl: { directory: parts.directory, exchanges: parts.exchanges, ...parts.tokens },
    ...commonParts(listener, parts),
    ids: { session: () => randomId(parts.clock.now()), message: () => randomId(parts.clock.now()) },
    ...(listener.lookupReverseName ? { reverseName } : {}),
    ...(listener.etrn.length > 0 ? { flushQueue: flushQueueFor(listener, parts) } : {}),
  });
}

/** ETRN (RFC 1985) for the clients that the listener names. */
function flushQueueFor(listener: ListenerOptions, parts: ListenerParts): FlushQueue {
  const allowed = cidrSet(listener.etrn);
  return async (domain, client) => {
    if (!allowed.has(client.remote.address)) return 'not-allowed';
    try {
      return (await parts.flushDomain(domain)) > 0 ? 'started' : 'nothing-pending';
    } catch (error) {
      parts.log.warn({ err: error, domain }, 'ETRN could not reach the queue');
      return 'unable';
    }
  };
}

function imapServer(listener: ListenerOptions, options: GatewayOptions, parts: ServerParts): SessionServer {
  const { limits } = listener;
  return createImapServer({
    listener: {
      ...sessionListener(listener),
      // RFC 3501 §5.4: 30 minutes at least, whatever the configuration says.
      limits: { appendBytes: options.message.maxSize, idleTimeoutMs: Math.max(limits.idleTimeout, 30 * 60_000) },
    },
    hostname: parts.hostname,
    spoolDir: path.join(parts.spoolDir, `imap-${listener.name}`),
    directory: parts.directory,
    store: parts.mail,
    metadata: parts.metadata,
    rules: parts.rules,
    ...parts.tokens,
    ...commonParts(listener, parts),
  });
}

function pop3Server(listener: ListenerOptions, parts: ServerParts): SessionServer {
  return createPop3Server({
    listener: sessionListener(listener),
    hostname: parts.hostname,
    directory: parts.directory,
    store: parts.mail,
    ...parts.tokens,
    ...commonParts(listener, parts),
    // RFC 1939 §3: ten minutes at least, whatever the configuration says.
    limits: { idleMs: Math.max(listener.limits.idleTimeout, 10 * 60_000) },
  });
}

function manageSieveServer(listener: ListenerOptions, parts: ServerParts): SessionServer {
  return createManageSieveServer({
    listener: sessionListener(listener),
    directory: parts.directory,
    scripts: parts.scripts,
    extensions: ruleRegistry({ imap: true }).capabilities,
    notifyMethods: ['mailto'],
    maxRedirects: defaultSettings.maxRedirects,
    ...parts.tokens,
    ...commonParts(listener, parts),
  });
}

/** RFC 5804 §3: where users of this gateway manage their scripts. */
export function sieveUrlOf({ listeners }: Pick<GatewayOptions, 'listeners'>, hostname: string): string | undefined {
  const listener = listeners.find(({ role }) => role === 'managesieve');
  if (!listener) return undefined;
  return `sieve://${hostname}${listener.port === 4190 || listener.port === 0 ? '' : `:${listener.port}`}`;
}

function sessionListener(listener: ListenerOptions): SessionListenerOptions {
  const { limits } = listener;
  return {
    name: listener.name,
    target: targetOf(listener),
    tls: listener.tls,
    allowPlaintextAuth: listener.allowPlaintextAuth,
    proxyProtocol: listener.proxyProtocol,
    connections: {
      total: limits.connections,
      perAddress: limits.connectionsPerAddress,
      ...(limits.connectionRatePerMinute > 0 ? { rate: { count: limits.connectionRatePerMinute, perMs: 60_000 } } : {}),
    },
  };
}

function createServer(listener: ListenerOptions, options: GatewayOptions, parts: ServerParts): SessionServer {
  const { role } = listener;
  switch (role) {
    case 'smtp':
    case 'submission':
    case 'lmtp':
      return smtpServer({ ...listener, role }, options, parts);
    case 'imap':
      return imapServer(listener, options, parts);
    case 'pop3':
      return pop3Server(listener, parts);
    case 'managesieve':
      return manageSieveServer(listener, parts);
  }
}

const commonParts = (listener: ListenerOptions, { log, clock, tls }: ListenerParts) => ({
  log,
  clock,
  ...(listener.tls === 'none' ? {} : { tls }),
});

const targetOf = (listener: ListenerOptions) =>
  path.isAbsolute(listener.address) ? { path: listener.address } : { host: listener.address, port: listener.port };

interface Running {
  readonly listener: ListenerOptions;
  /** All that makes the server what it is; a listener with the same key is kept by a reload. */
  readonly key: string;
  readonly server: SessionServer;
  /** Opens it once more, on the port it had, when it gave way in vain. */
  again(): Promise<Running>;
}

/** The wanted listener cannot be opened beside it. Addresses may overlap (0.0.0.0 and 127.0.0.1), so the port decides. */
function isInTheWay({ listener, server }: Running, wanted: ListenerOptions): boolean {
  if ([listener, wanted].some(({ address }) => path.isAbsolute(address))) return listener.address === wanted.address;
  return server.address.port === wanted.port;
}

export function createListeners(parts: ListenerParts): Listeners {
  let running: readonly Running[] = [];
  let graceMs = 30_000;
  const closing = new Set<Promise<void>>();

  const retireLater = ({ server, listener }: Running): void => {
    const closed = server
      .close(graceMs)
      .catch((error: unknown) => parts.log.error({ err: error, listener: listener.name }, 'Listener did not close'))
      .finally(() => closing.delete(closed));
    closing.add(closed);
  };

  async function open(
    listener: ListenerOptions,
    key: string,
    options: GatewayOptions,
    given: ServerParts,
    port = listener.port,
  ): Promise<Running> {
    const server = createServer({ ...listener, port }, options, given);
    await server.listen();
    const { address } = server;
    return { listener, key, server, again: () => open(listener, key, options, given, address.port) };
  }

  /** None where somebody else has its place now. */
  async function reopened(entry: Running): Promise<readonly Running[]> {
    try {
      return [await entry.again()];
    } catch (error) {
      parts.log.error({ err: error, listener: entry.listener.name }, 'Listener does not open again');
      return [];
    }
  }

  return {
    list: () =>
      running.map(({ listener, server }) => ({
        name: listener.name,
        role: listener.role,
        tls: listener.tls,
        address: server.address.address,
        port: server.address.port,
        sessions: server.sessions(),
      })),
    async apply(options) {
      graceMs = options.shutdownGrace;
      const verifyToken = parts.tokenVerifier(options);
      const given: ServerParts = { ...parts, tokens: verifyToken ? { verifyToken } : {} };
      const wanted = options.listeners.map(listener => ({
        listener,
        key: JSON.stringify([listener, options.message, options.oauth]),
      }));
      const slots: { readonly listener: ListenerOptions; readonly key: string; entry: Running | undefined }[] = [];
      for (const each of wanted) {
        const entry = running.find(old => old.key === each.key && !slots.some(slot => slot.entry === old));
        slots.push({ ...each, entry });
      }
      const retired = running.filter(entry => !slots.some(slot => slot.entry === entry));
      const changed = slots.filter(slot => !slot.entry);
      const isTaken = ({ listener }: { readonly listener: ListenerOptions }): boolean =>
        retired.some(old => isInTheWay(old, listener));
      const opened: Running[] = [];
      const gaveWay = new Set<Running>();
      try {
        // Those that need nobody's place come first: where one of them cannot be opened, nothing has happened.
        for (const slot of [...changed.filter(each => !isTaken(each)), ...changed.filter(isTaken)]) {
          for (const old of retired)
            if (!gaveWay.has(old) && isInTheWay(old, slot.listener)) {
              gaveWay.add(old);
              // `close` frees the port at once and lets the sessions finish.
              retireLater(old);
            }
          slot.entry = await open(slot.listener, slot.key, options, given);
          opened.push(slot.entry);
        }
      } catch (error) {
        for (const entry of opened) retireLater(entry);
        running = running.filter(entry => !gaveWay.has(entry));
        for (const entry of gaveWay) running = [...running, ...(await reopened(entry))];
        throw error;
      }
      for (const entry of retired) if (!gaveWay.has(entry)) retireLater(entry);
      running = slots.flatMap(({ entry }) => entry ?? []);
    },
    async close() {
      for (const entry of running) retireLater(entry);
      await Promise.allSettled([...closing]);
    },
  };
}
