// One listener of any protocol up to the point where a session begins: accepts, limits connections, unwraps PROXY and
// implicit TLS, turns away what is too much, drains and closes. What is spoken is the business of `begin`.
// Invariant: nothing here allocates per connection but what PROXY, TLS and the limits need.
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import { cidrSet, unmapAddress } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import { type ConnectionLimitOptions, connectionLimits } from './connection-limits.ts';
import { type Listener, type ListenTarget, listen } from './listener.ts';
import { type Endpoint, readProxyHeader } from './proxy-protocol.ts';
import type { Tls } from './tls.ts';

/** What the listeners of all protocols are configured with. */
export interface SocketListenerOptions {
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
}

export interface SocketServerOptions {
  /** `smtp`, `imap` …: for the log. */
  readonly protocol: string;
  readonly listener: SocketListenerOptions;
  readonly connections: ConnectionLimitOptions;
  /** For a connection that is one too many; with implicit TLS there is none. */
  readonly busyReply: string;
  /** For the PROXY header and for TLS, each. */
  readonly handshakeMs: number;
  readonly log: Logger;
  readonly clock: Clock;
  readonly tls?: Tls;
  /** A client is there. `socket` is the TLS socket where `secured` is; `remote` and `local` are as PROXY told them. */
  begin(socket: Socket, remote: Endpoint, local: Endpoint, secured: TLSSocket | undefined): void;
  /** The server stops: tell the sessions. No session begins any more. */
  stop(): void;
}

export interface SocketServer {
  listen(): Promise<void>;
  /** After `listen`; a Unix socket's path with port 0. */
  readonly address: Endpoint;
  /** Stops accepting and tells the sessions; they get `graceMs` to finish, then all are cut. */
  close(graceMs: number): Promise<void>;
}

/** A Unix socket has no addresses: who can open it is this machine. */
const loopback: Endpoint = { address: '127.0.0.1', port: 0 };

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createSocketServer(options: SocketServerOptions): SocketServer {
  const { listener: config, clock, log, tls, protocol } = options;
  if (config.tls === 'implicit' && !tls) throw new Error(`Listener '${config.name}' needs a certificate for TLS`);
  const implicit = config.tls === 'implicit' ? tls : undefined;
  const overUnixSocket = 'path' in config.target;
  const admitted = connectionLimits(options.connections, clock);
  const proxies = cidrSet(config.proxyProtocol ?? []);
  let listening: Listener | undefined;
  /** Our address of every connection, where the listener is bound to one: saves asking the kernel. */
  let bound: Endpoint | undefined;
  let stopping = false;

  function accept(socket: Socket): void {
    const peer = overUnixSocket ? loopback : endpoint(socket.remoteAddress, socket.remotePort);
    const local = bound ?? endpoint(socket.localAddress, socket.localPort);
    if (proxies.has(peer.address)) unwrap(socket, peer, local).catch((error: unknown) => drop(socket, error));
    else if (admit(socket, peer)) start(socket, peer, local);
  }

  async function unwrap(socket: Socket, peer: Endpoint, local: Endpoint): Promise<void> {
    const header = await readProxyHeader(socket, options.handshakeMs, clock);
    if (header.kind === 'local') start(socket, peer, local);
    else if (admit(socket, header.source)) start(socket, header.source, header.destination);
  }

  function admit(socket: Socket, client: Endpoint): boolean {
    const admission = admitted.admit(client.address);
    if (admission.kind === 'ok') {
      socket.once('close', admission.release);
      return true;
    }
    log.info(
      { event: `${protocol}-refused`, listener: config.name, client: client.address, why: admission.why },
      'too many connections',
    );
    turnAway(socket, clock, implicit ? '' : options.busyReply);
    return false;
  }

  function start(socket: Socket, remote: Endpoint, local: Endpoint): void {
    if (!implicit) begin(socket, remote, local, undefined);
    else
      implicit.accept(socket, options.handshakeMs).then(
        secure => begin(secure, remote, local, secure),
        (error: unknown) => drop(socket, error),
      );
  }

  function begin(socket: Socket, remote: Endpoint, local: Endpoint, secured: TLSSocket | undefined): void {
    if (stopping) socket.destroy();
    else options.begin(socket, remote, local, secured);
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
    async listen() {
      listening = await listen({
        target: config.target,
        ...(config.backlog !== undefined && { backlog: config.backlog }),
        onSocket: accept,
        onError: error =>
          log.error({ event: `${protocol}-listener`, listener: config.name, err: error }, 'listener failed'),
      });
      const { address, port } = listening;
      if (overUnixSocket) bound = loopback;
      else if (address !== '::' && address !== '0.0.0.0') bound = { address, port };
    },
    async close(graceMs) {
      stopping = true;
      options.stop();
      await listening?.close(graceMs, clock);
    },
  };
}

const endpoint = (address: string | undefined, port: number | undefined): Endpoint => ({
  address: unmapAddress(address ?? ''),
  port: port ?? 0,
});

/** A few bytes, then the end, whatever the other side does. */
function turnAway(socket: Socket, clock: Clock, reply: string): void {
  socket.on('error', () => undefined);
  socket.once(
    'close',
    clock.after(5000, () => socket.destroy()),
  );
  socket.resume();
  socket.end(reply);
}
