// One SMTP, submission or LMTP listener: accepts, limits, unwraps PROXY and TLS, and starts sessions. The entry point of
// this folder for `gateway.ts`.
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { cidrSet, unmapAddress } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import type { TraceSink } from '../mail/trace.ts';
import { type Admission, connectionLimits } from '../net/connection-limits.ts';
import { type Listener, listen } from '../net/listener.ts';
import { type Endpoint, readProxyHeader } from '../net/proxy-protocol.ts';
import type { Tls } from '../net/tls.ts';
import type { Chain } from '../pipeline/chain.ts';
import type { Session } from '../plugin/contract.ts';
import { LibraryServer, tlsFacts } from './connection.ts';
import { defaultLimits, type SmtpListenerOptions } from './listener-options.ts';
import type { FlushQueue, Ids, ReverseName, Settle } from './ports.ts';
import type { SessionContext } from './session-context.ts';

export interface SmtpServerOptions {
  readonly listener: SmtpListenerOptions;
  readonly hostname: string;
  /** Folder that exists, for messages above `spoolAbove`. */
  readonly spoolDir: string;
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
}

export interface SmtpServer {
  listen(): Promise<void>;
  /** After `listen`; a Unix socket's path with port 0. */
  readonly address: Endpoint;
  /** Live sessions. */
  sessions(): number;
  /** Stops accepting; idle sessions hear 421, running transactions get `graceMs` to finish, then all are cut. */
  close(graceMs: number): Promise<void>;
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
  const admitted = connectionLimits(
    {
      total: limits.connections,
      perAddress: limits.connectionsPerAddress,
      perNetwork: limits.connectionsPerNetwork,
      ...(limits.connectionRatePerMinute > 0 && { rate: { count: limits.connectionRatePerMinute, perMs: 60_000 } }),
    },
    clock,
  );
  const proxies = cidrSet(config.proxyProtocol ?? []);
  let listening: Listener | undefined;
  /** Our address of every connection, where the listener is bound to one: saves asking the kernel. */
  let bound: Endpoint | undefined;
  let cancelWatch: (() => void) | undefined;
  let stopping = false;

  function watch(): void {
    cancelWatch = clock.after(1000, () => {
      const now = clock.monotonic();
      for (const connection of library.live) connection.smtp.checkTime(now);
      watch();
    });
  }

  function accept(socket: Socket): void {
    // A Unix socket has no addresses: who can open it is this machine.
    const peer = 'path' in config.target ? loopback : peerOf(socket);
    const local = bound ?? { address: unmapAddress(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
    if (proxies.has(peer.address)) {
      unwrap(socket, peer, local).catch((error: unknown) => drop(socket, error));
      return;
    }
    if (admit(socket, peer)) start(socket, peer, local);
  }

  async function unwrap(socket: Socket, peer: Endpoint, local: Endpoint): Promise<void> {
    const header = await readProxyHeader(socket, limits.handshakeTimeoutMs, clock);
    if (header.kind === 'local') start(socket, peer, local);
    else if (admit(socket, header.source)) start(socket, header.source, header.destination);
  }

  function admit(socket: Socket, client: Endpoint): boolean {
    const admission: Admission = admitted.admit(client.address);
    if (admission.kind === 'ok') {
      socket.once('close', admission.release);
      return true;
    }
    log.info(
      { event: 'smtp-refused', listener: config.name, client: client.address, why: admission.why },
      'too many connections',
    );
    turnAway(socket, clock, config.tls === 'implicit' ? '' : `421 4.7.0 Too many connections, try again later\r\n`);
    return false;
  }

  function start(socket: Socket, remote: Endpoint, local: Endpoint): void {
    if (config.tls !== 'implicit' || !tls) begin(socket, remote, local);
    else
      tls.accept(socket, limits.handshakeTimeoutMs).then(
        secure => begin(secure, remote, local, tlsFacts(secure)),
        (error: unknown) => drop(socket, error),
      );
  }

  function begin(socket: Socket, remote: Endpoint, local: Endpoint, secured?: Session['tls']): void {
    if (stopping) {
      socket.destroy();
      return;
    }
    const { name, role } = config;
    library.begin(socket, {
      id: options.ids.session(),
      listener: name,
      role,
      local,
      remote,
      ...(secured && { tls: secured }),
    });
  }

  function drop(socket: Socket, error: unknown): void {
    log.debug({ event: 'smtp-connection', listener: config.name, err: error }, 'connection failed');
    socket.on('error', () => undefined);
    socket.destroy();
  }

  return {
    get address() {
      if (!listening) throw new Error(`Listener '${config.name}' does not listen yet`);
      return { address: listening.address, port: listening.port };
    },
    sessions: () => library.live.size,
    async listen() {
      listening = await listen({
        target: config.target,
        ...(config.backlog !== undefined && { backlog: config.backlog }),
        onSocket: accept,
        onError: error => log.error({ event: 'smtp-listener', listener: config.name, err: error }, 'listener failed'),
      });
      const { address, port } = listening;
      if ('path' in config.target) bound = loopback;
      else if (address !== '::' && address !== '0.0.0.0') bound = { address, port };
      watch();
    },
    async close(graceMs) {
      stopping = true;
      for (const connection of library.live) connection.smtp.stop();
      await listening?.close(graceMs, clock);
      cancelWatch?.();
    },
  };
}

const loopback: Endpoint = { address: '127.0.0.1', port: 0 };

const peerOf = (socket: Socket): Endpoint => ({
  address: unmapAddress(socket.remoteAddress ?? ''),
  port: socket.remotePort ?? 0,
});

/** A few bytes of reply, then the end, whatever the other side does. */
function turnAway(socket: Socket, clock: Clock, reply: string): void {
  socket.on('error', () => undefined);
  socket.once(
    'close',
    clock.after(5000, () => socket.destroy()),
  );
  socket.resume();
  socket.end(reply);
}

function sessionContext(options: SmtpServerOptions): SessionContext {
  const { listener, tls } = options;
  if (listener.tls === 'implicit' && !tls) throw new Error(`Listener '${listener.name}' needs a certificate for TLS`);
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
    chunking: true,
    binaryMime: false,
    lookupReverseName: false,
    spoolAbove: 256 * 1024,
    headerSize: 256 * 1024,
  };
  return {
    listener: { ...defaults, ...listener },
    limits: { ...defaultLimits, ...listener.limits },
    hostname: options.hostname,
    spoolDir: options.spoolDir,
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
  };
}
