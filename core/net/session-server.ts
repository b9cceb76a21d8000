// One listener of a protocol whose sessions run to an end of their own: names them for the log, counts them, and waits for
// them when the server closes. Over `socket-server.ts`.
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { ConnectionLimitOptions } from './connection-limits.ts';
import type { Endpoint } from './proxy-protocol.ts';
import {
  createSocketServer,
  type SocketListenerOptions,
  type SocketServer,
  type SocketServerOptions,
} from './socket-server.ts';
import type { Tls } from './tls.ts';

export interface SessionListenerOptions extends SocketListenerOptions {
  readonly connections?: ConnectionLimitOptions;
}

export interface Connection {
  readonly socket: Socket;
  /** TLS is active already. */
  readonly secure: boolean;
  /** For STARTTLS; undefined where it is not offered. */
  readonly startTls: Tls | undefined;
  readonly allowPlaintextAuth: boolean;
  /** The real client, after PROXY. */
  readonly remote: Endpoint;
  /** With listener, session and client. */
  readonly log: Logger;
}

export interface RunningSession {
  /** Ends the session as soon as no command is running. */
  shutdown(): void;
  /** Once it is over and let go of all it held. Never rejects. */
  readonly done: Promise<void>;
}

export interface SessionServerOptions extends Omit<SocketServerOptions, 'listener' | 'connections' | 'begin' | 'stop'> {
  readonly listener: SessionListenerOptions;
  startSession(connection: Connection): RunningSession;
}

export interface SessionServer extends SocketServer {
  /** Live sessions. */
  sessions(): number;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createSessionServer(options: SessionServerOptions): SessionServer {
  const { listener, tls, log, protocol } = options;
  const live = new Set<RunningSession>();
  let count = 0;
  const server = createSocketServer({
    ...options,
    connections: listener.connections ?? {},
    begin(socket, remote, _local, secured) {
      count += 1;
      const session = options.startSession({
        socket,
        secure: secured !== undefined,
        startTls: listener.tls === 'starttls' ? tls : undefined,
        allowPlaintextAuth: listener.allowPlaintextAuth ?? false,
        remote,
        log: log.child({ listener: listener.name, session: `${protocol[0]}${count}`, client: remote.address }),
      });
      live.add(session);
      void session.done.then(() => live.delete(session));
    },
    stop() {
      for (const session of live) session.shutdown();
    },
  });
  return {
    listen: server.listen,
    get address() {
      return server.address;
    },
    sessions: () => live.size,
    async close(graceMs) {
      const ending = [...live];
      await server.close(graceMs);
      // What a session holds, such as a mailbox, is let go after its socket.
      await Promise.all(ending.map(session => session.done));
    },
  };
}
