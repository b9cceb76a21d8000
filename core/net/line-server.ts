// One listener of a line-based protocol: accepts, limits, unwraps PROXY and TLS, starts sessions, ends them in good order.
// What is spoken is the business of `startSession`.
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { cidrSet, unmapAddress } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import { type ConnectionLimitOptions, connectionLimits } from './connection-limits.ts';
import { LineSession } from './line-session.ts';
import { type Listener, type ListenTarget, listen } from './listener.ts';
import { type Endpoint, readProxyHeader } from './proxy-protocol.ts';
import type { Tls } from './tls.ts';

export interface LineListenerOptions {
  /** As in the configuration; for the log. */
  readonly name: string;
  readonly target: ListenTarget;
  readonly backlog?: number;
  /** `starttls`: offered where there is a certificate. */
  readonly tls: 'none' | 'starttls' | 'implicit';
  /** Take passwords on an unencrypted connection: loopback only, unless the operator knows what he does (invariant I8). */
  readonly allowPlaintextAuth?: boolean;
  /** Networks whose connections begin with a PROXY header. */
  readonly proxyProtocol?: readonly string[];
  readonly connections?: ConnectionLimitOptions;
}

export interface LineServerOptions {
  /** `pop3`, `managesieve`: for the log. */
  readonly protocol: string;
  readonly listener: LineListenerOptions;
  /** For a connection that is one too many. */
  readonly busyReply: string;
  readonly handshakeMs: number;
  /** Before the first login. */
  readonly idleMs: number;
  readonly log: Logger;
  readonly clock: Clock;
  readonly tls?: Tls;
  /** Speaks the protocol until it is over, closes the session, never rejects. */
  startSession(connection: LineConnection): Promise<void>;
}

export interface LineConnection {
  readonly session: LineSession;
  /** The real client, after PROXY. */
  readonly remote: Endpoint;
  /** With listener, session and client. */
  readonly log: Logger;
  /** For STARTTLS; undefined where it is not offered. */
  readonly startTls: Tls | undefined;
}

export interface LineServer {
  listen(): Promise<void>;
  /** After `listen`; a Unix socket's path with port 0. */
  readonly address: Endpoint;
  /** Live sessions. */
  sessions(): number;
  /** Stops accepting; running commands get `graceMs` to finish, then all are cut. */
  close(graceMs: number): Promise<void>;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createLineServer(options: LineServerOptions): LineServer {
  const { listener: config, clock, log, tls, protocol } = options;
  if (config.tls === 'implicit' && !tls) throw new Error(`Listener '${config.name}' needs a certificate for TLS`);
  const admitted = connectionLimits(config.connections ?? {}, clock);
  const proxies = cidrSet(config.proxyProtocol ?? []);
  const live = new Set<{ readonly session: LineSession; readonly done: Promise<void> }>();
  let listening: Listener | undefined;
  let stopping = false;
  let count = 0;

  function accept(socket: Socket): void {
    const peer = { address: unmapAddress(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    if (!proxies.has(peer.address)) {
      if (admit(socket, peer)) start(socket, peer);
      return;
    }
    readProxyHeader(socket, options.handshakeMs, clock).then(
      header => {
        const client = header.kind === 'local' ? peer : header.source;
        if (header.kind === 'local' || admit(socket, client)) start(socket, client);
      },
      (error: unknown) => drop(socket, error),
    );
  }

  function admit(socket: Socket, client: Endpoint): boolean {
    const admission = admitted.admit(client.address);
    if (admission.kind === 'ok') {
      socket.once('close', admission.release);
      return true;
    }
    const { why } = admission;
    log.info(
      { event: `${protocol}-refused`, listener: config.name, client: client.address, why },
      'too many connections',
    );
    turnAway(socket, config.tls === 'implicit' ? '' : options.busyReply);
    return false;
  }

  function start(socket: Socket, remote: Endpoint): void {
    if (config.tls !== 'implicit' || !tls) begin(socket, remote, false);
    else
      tls.accept(socket, options.handshakeMs).then(
        secure => begin(secure, remote, true),
        (error: unknown) => drop(socket, error),
      );
  }

  function begin(socket: Socket, remote: Endpoint, secure: boolean): void {
    if (stopping) {
      socket.destroy();
      return;
    }
    count += 1;
    const session = new LineSession(socket, { clock, idleMs: options.idleMs, secure });
    const connection: LineConnection = {
      session,
      remote,
      log: log.child({ listener: config.name, session: `${protocol[0]}${count}`, client: remote.address }),
      startTls: config.tls === 'starttls' ? tls : undefined,
    };
    const entry = { session, done: options.startSession(connection) };
    live.add(entry);
    void entry.done.then(() => live.delete(entry));
  }

  function drop(socket: Socket, error: unknown): void {
    log.debug({ event: `${protocol}-connection`, listener: config.name, err: error }, 'connection failed');
    socket.on('error', () => undefined);
    socket.destroy();
  }

  return {
    get address() {
      if (!listening) throw new Error(`Listener '${config.name}' does not listen yet`);
      return { address: listening.address, port: listening.port };
    },
    sessions: () => live.size,
    async listen() {
      listening = await listen({
        target: config.target,
        ...(config.backlog !== undefined && { backlog: config.backlog }),
        onSocket: accept,
        onError: error =>
          log.error({ event: `${protocol}-listener`, listener: config.name, err: error }, 'listener failed'),
      });
    },
    async close(graceMs) {
      stopping = true;
      const entries = [...live];
      for (const { session } of entries) session.shutdown();
      await listening?.close(graceMs, clock);
      await Promise.all(entries.map(entry => entry.done));
    },
  };
}

/** A few bytes, then the end, whatever the other side does. */
function turnAway(socket: Socket, text: string): void {
  socket.on('error', () => undefined);
  socket.setTimeout(5000, () => socket.destroy());
  socket.resume();
  socket.end(text);
}
