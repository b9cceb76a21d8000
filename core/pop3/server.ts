// One POP3 listener. The entry point of this folder for `gateway.ts`.
import type { Logger } from 'pino';
import type { Directory } from '../accounts/directory.ts';
import type { VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { Clock } from '../lib/clock.ts';
import type { MailStore } from '../mailstore/mailbox.ts';
import { createLineServer } from '../net/line-server.ts';
import type { SessionListenerOptions, SessionServer } from '../net/session-server.ts';
import type { Tls } from '../net/tls.ts';
import type { Pop3Service } from './command.ts';
import { defaultLimits, type Pop3Limits } from './limits.ts';
import { loginTimes } from './login-times.ts';
import type { MaildropLocks } from './maildrop.ts';
import { defaultOptions, type Pop3Options } from './options.ts';
import { Pop3Session } from './session.ts';

export interface Pop3ServerOptions {
  readonly listener: SessionListenerOptions;
  readonly hostname: string;
  readonly directory: Directory;
  readonly store: MailStore;
  readonly log: Logger;
  readonly clock: Clock;
  readonly tls?: Tls;
  readonly options?: Partial<Pop3Options>;
  readonly limits?: Partial<Pop3Limits>;
  /** One set for all POP3 servers of the process; matters with `lock: 'session'`. */
  readonly locks?: MaildropLocks;
  readonly verifyToken?: VerifyToken;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createPop3Server(given: Pop3ServerOptions): SessionServer {
  const { listener, hostname, directory, store, log, clock, tls, verifyToken } = given;
  const limits = { ...defaultLimits, ...given.limits };
  const options = { ...defaultOptions, ...given.options };
  const service: Pop3Service = {
    hostname,
    directory,
    store,
    clock,
    limits,
    options,
    locks: given.locks ?? new Set(),
    logins: loginTimes(clock, options.loginDelaySeconds),
    ...(verifyToken && { verifyToken }),
  };
  return createLineServer({
    protocol: 'pop3',
    listener,
    busyReply: '-ERR [SYS/TEMP] Too many connections\r\n',
    handshakeMs: limits.handshakeMs,
    idleMs: limits.loginIdleMs,
    log,
    clock,
    ...(tls && { tls }),
    startSession: connection => new Pop3Session(connection, service).run(),
  });
}
