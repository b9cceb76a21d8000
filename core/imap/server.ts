// One IMAP listener: accepts, limits, unwraps PROXY and TLS, and starts sessions. The entry point of this folder for
// `gateway.ts`.
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Directory } from '../accounts/directory.ts';
import { cidrSet, unmapAddress } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import type { MailStore } from '../mailstore/mailbox.ts';
import { type ConnectionLimitOptions, connectionLimits } from '../net/connection-limits.ts';
import { type Listener, type ListenTarget, listen } from '../net/listener.ts';
import { type Endpoint, readProxyHeader } from '../net/proxy-protocol.ts';
import type { Tls } from '../net/tls.ts';
import { appendSpool } from './append-spool.ts';
import type { ImapService } from './command.ts';
import { defaultLimits, type ImapLimits } from './limits.ts';
import { Session } from './session.ts';

export interface ImapListenerOptions {
  /** As in the configuration; for the log. */
  readonly name: string;
  readonly target: ListenTarget;
  readonly backlog?: number;
  /** `starttls` needs a certificate to be offered; without one passwords are refused unless `allowPlaintextAuth`. */
  readonly tls: 'none' | 'starttls' | 'implicit';
  /** Take passwords on an unencrypted connection: loopback only, unless the operator knows what he does (invariant I8). */
  readonly allowPlaintextAuth?: boolean;
  /** Networks whose connections begin with a PROXY header. */
  readonly proxyProtocol?: readonly string[];
  readonly connections?: ConnectionLimitOptions;
  readonly limits?: Partial<ImapLimits>;
}

export interface ImapServerOptions {
  readonly listener: ImapListenerOptions;
  readonly hostname: string;
  /** Folder for messages that are being appended; made if missing, and cleared of what a crash left. */
  readonly spoolDir: string;
  readonly directory: Directory;
  readonly store: MailStore;
  readonly log: Logger;
  readonly clock: Clock;
  readonly tls?: Tls;
}

export interface ImapServer {
  listen(): Promise<void>;
  /** After `listen`; a Unix socket's path with port 0. */
  readonly address: Endpoint;
  /** Live sessions. */
  sessions(): number;
  /** Stops accepting; sessions hear BYE, running commands get `graceMs` to finish, then all are cut. */
  close(graceMs: number): Promise<void>;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createImapServer(options: ImapServerOptions): ImapServer {
  const { listener: config, clock, log, tls } = options;
  if (config.tls === 'implicit' && !tls) throw new Error(`Listener '${config.name}' needs a certificate for TLS`);
  const limits: ImapLimits = { ...defaultLimits, ...config.limits };
  const spool = appendSpool(options.spoolDir, limits.memoryBytes);
  const { hostname, directory, store } = options;
  const service: ImapService = { hostname, directory, store, clock, limits, spool };
  const admitted = connectionLimits(config.connections ?? {}, clock);
  const proxies = cidrSet(config.proxyProtocol ?? []);
  const live = new Set<{ readonly session: Session; readonly done: Promise<void> }>();
  let listening: Listener | undefined;
  let stopping = false;
  let count = 0;

  function accept(socket: Socket): void {
    const peer = { address: unmapAddress(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    if (!proxies.has(peer.address)) {
      if (admit(socket, peer)) start(socket, peer);
      return;
    }
    readProxyHeader(socket, limits.tlsHandshakeMs, clock).then(
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
    log.info(
      { event: 'imap-refused', listener: config.name, client: client.address, why: admission.why },
      'too many connections',
    );
    turnAway(socket, config.tls === 'implicit' ? '' : '* BYE [UNAVAILABLE] Too many connections\r\n');
    return false;
  }

  function start(socket: Socket, remote: Endpoint): void {
    if (config.tls !== 'implicit' || !tls) begin(socket, remote, false);
    else
      tls.accept(socket, limits.tlsHandshakeMs).then(
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
    const session = new Session(socket, {
      service,
      startTls: config.tls === 'starttls' ? tls : undefined,
      secure,
      allowPlaintext: config.allowPlaintextAuth ?? false,
      remote,
      log: log.child({ listener: config.name, session: `i${count}`, client: remote.address }),
    });
    const entry = { session, done: session.run() };
    live.add(entry);
    void entry.done.then(() => live.delete(entry));
  }

  function drop(socket: Socket, error: unknown): void {
    log.debug({ event: 'imap-connection', listener: config.name, err: error }, 'connection failed');
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
      await spool.prepare();
      listening = await listen({
        target: config.target,
        ...(config.backlog !== undefined && { backlog: config.backlog }),
        onSocket: accept,
        onError: error => log.error({ event: 'imap-listener', listener: config.name, err: error }, 'listener failed'),
      });
    },
    async close(graceMs) {
      stopping = true;
      const entries = [...live];
      for (const { session } of entries) session.shutdown();
      await listening?.close(graceMs, clock);
      // The mailboxes of a session are released after its socket.
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
