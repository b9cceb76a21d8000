// One IMAP listener. The entry point of this folder for `gateway.ts`.
import type { Logger } from 'pino';
import type { Directory } from '../accounts/directory.ts';
import type { VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { Clock } from '../lib/clock.ts';
import type { MailStore } from '../mailstore/mailbox.ts';
import type { Metadata } from '../mailstore/metadata.ts';
import { createSessionServer, type SessionListenerOptions, type SessionServer } from '../net/session-server.ts';
import type { Tls } from '../net/tls.ts';
import { appendSpool } from './append-spool.ts';
import type { ImapService } from './command.ts';
import { defaultLimits, type ImapLimits } from './limits.ts';
import type { StoredMailRules } from './ports.ts';
import { Session } from './session.ts';

export interface ImapListenerOptions extends SessionListenerOptions {
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
  readonly metadata?: Metadata;
  readonly rules?: () => StoredMailRules | undefined;
  readonly verifyToken?: VerifyToken;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createImapServer(options: ImapServerOptions): SessionServer {
  const { listener: config, clock, log, tls } = options;
  const limits: ImapLimits = { ...defaultLimits, ...config.limits };
  const spool = appendSpool(options.spoolDir, limits.memoryBytes);
  const { hostname, directory, store, metadata, rules, verifyToken } = options;
  const service: ImapService = {
    hostname,
    directory,
    store,
    clock,
    limits,
    spool,
    ...(metadata && { metadata }),
    ...(rules && { rules }),
    ...(verifyToken && { verifyToken }),
  };
  const server = createSessionServer({
    protocol: 'imap',
    listener: config,
    busyReply: '* BYE [UNAVAILABLE] Too many connections\r\n',
    handshakeMs: limits.tlsHandshakeMs,
    log,
    clock,
    ...(tls && { tls }),
    startSession(connection) {
      const session = new Session(connection, service);
      return { shutdown: () => session.shutdown(), done: session.run() };
    },
  });
  return {
    get address() {
      return server.address;
    },
    sessions: server.sessions,
    async listen() {
      await spool.prepare();
      await server.listen();
    },
    close: server.close,
  };
}
