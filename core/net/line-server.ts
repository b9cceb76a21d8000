// One listener of a protocol of lines (POP3, ManageSieve): a session server whose sessions get a `LineSession`.

import { LineSession } from './line-session.ts';
import {
  type Connection,
  createSessionServer,
  type SessionServer,
  type SessionServerOptions,
} from './session-server.ts';

export interface LineServerOptions extends Omit<SessionServerOptions, 'startSession'> {
  /** Before the first login. */
  readonly idleMs: number;
  /** Speaks the protocol until it is over, closes the session, never rejects. */
  startSession(connection: LineConnection): Promise<void>;
}

export interface LineConnection extends Omit<Connection, 'socket' | 'secure'> {
  readonly session: LineSession;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createLineServer(options: LineServerOptions): SessionServer {
  const { clock, idleMs } = options;
  return createSessionServer({
    ...options,
    startSession({ socket, secure, ...connection }) {
      const session = new LineSession(socket, { clock, idleMs, secure });
      return { shutdown: () => session.shutdown(), done: options.startSession({ ...connection, session }) };
    },
  });
}
