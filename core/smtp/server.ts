// One SMTP, submission or LMTP listener. The entry point of this folder for `gateway.ts`.
import type { Logger } from 'pino';
import { cidrSet } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import type { TraceSink } from '../mail/trace.ts';
import { createSocketServer, type SocketServer } from '../net/socket-server.ts';
import type { Tls } from '../net/tls.ts';
import type { Chain } from '../pipeline/chain.ts';
import { LibraryServer, tlsFacts } from './connection.ts';
import { defaultLimits, type SmtpListenerOptions } from './listener-options.ts';
import type { FlushQueue, Ids, Recorder, ReverseName, SaslParts, Settle } from './ports.ts';
import type { SessionContext } from './session-context.ts';
import { createSpoolMemory, type SpoolMemory } from './spool-memory.ts';

export interface SmtpServerOptions {
  readonly listener: SmtpListenerOptions;
  readonly hostname: string;
  /** Folder that exists, for messages above `spoolAbove`. */
  readonly spoolDir: string;
  /** Shared with other listeners; default 64 MiB of its own. */
  readonly spoolMemory?: SpoolMemory;
  /** The chain of now; a session keeps the one it began with. */
  readonly chain: () => Chain;
  readonly settle: Settle;
  readonly trace: TraceSink;
  readonly log: Logger;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly tls?: Tls;
  readonly reverseName?: ReverseName;
  readonly flushQueue?: FlushQueue;
  readonly recorder?: Recorder;
  /** Absent: PLAIN and LOGIN only. */
  readonly sasl?: SaslParts;
}

export interface SmtpServer extends SocketServer {
  /** Live sessions. On `close` idle ones hear 421, running transactions finish. */
  sessions(): number;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createSmtpServer(options: SmtpServerOptions): SmtpServer {
  const context = sessionContext(options);
  const { limits } = context;
  const { clock, listener: config, log, tls } = options;
  const library = new LibraryServer({
    context,
    ...(tls && { tls }),
    onError: error => log.debug({ event: 'smtp-connection', listener: config.name, err: error }, 'connection failed'),
  });
  const { name, role } = config;
  const server = createSocketServer({
    protocol: 'smtp',
    listener: config,
    connections: {
      total: limits.connections,
      perAddress: limits.connectionsPerAddress,
      perNetwork: limits.connectionsPerNetwork,
      ...(limits.connectionRatePerMinute > 0 && { rate: { count: limits.connectionRatePerMinute, perMs: 60_000 } }),
    },
    busyReply: '421 4.7.0 Too many connections, try again later\r\n',
    handshakeMs: limits.handshakeTimeoutMs,
    log,
    clock,
    ...(tls && { tls }),
    begin(socket, remote, local, secured) {
      const id = options.ids.session();
      library.begin(socket, { id, listener: name, role, local, remote, ...(secured && { tls: tlsFacts(secured) }) });
    },
    stop() {
      for (const connection of library.live) connection.smtp.stop();
    },
  });
  let cancelWatch: (() => void) | undefined;

  function watch(): void {
    cancelWatch = clock.after(1000, () => {
      const now = clock.monotonic();
      for (const connection of library.live) connection.smtp.checkTime(now);
      watch();
    });
  }

  return {
    get address() {
      return server.address;
    },
    sessions: () => library.live.size,
    async listen() {
      await server.listen();
      watch();
    },
    async close(graceMs) {
      await server.close(graceMs);
      cancelWatch?.();
    },
  };
}

function sessionContext(options: SmtpServerOptions): SessionContext {
  const { listener, tls } = options;
  if (listener.role === 'submission' && !tls && !listener.allowPlaintextAuth)
    throw new Error(`Listener '${listener.name}' demands TLS and has no certificate`);
  const defaults = {
    allowPlaintextAuth: false,
    banner: '',
    greetDelayMs: 0,
    lineEnds: 'refuse' as const,
    nul: 'refuse' as const,
    proxyProtocol: [],
    xclient: [],
    prdr: false,
    recipientsTogether: 'all' as const,
    chunking: true,
    binaryMime: false,
    lookupReverseName: false,
    spoolAbove: 2 * 1024 * 1024,
    headerSize: 256 * 1024,
  };
  return {
    listener: { ...defaults, ...listener },
    limits: { ...defaultLimits, ...listener.limits },
    hostname: options.hostname,
    spoolDir: options.spoolDir,
    spoolMemory: options.spoolMemory ?? createSpoolMemory(64 * 1024 * 1024),
    startTlsOffered: listener.tls === 'starttls' && tls !== undefined,
    xclientFrom: cidrSet(listener.xclient ?? []),
    chain: options.chain,
    settle: options.settle,
    trace: options.trace,
    log: options.log,
    clock: options.clock,
    ids: options.ids,
    ...(options.reverseName && { reverseName: options.reverseName }),
    ...(options.flushQueue && { flushQueue: options.flushQueue }),
    ...(options.recorder && { recorder: options.recorder }),
    ...(options.sasl && { sasl: options.sasl }),
  };
}
