// One ManageSieve listener. The entry point of this folder for `gateway.ts`.
import type { Logger } from 'pino';
import type { Directory } from '../accounts/directory.ts';
import type { VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { Clock } from '../lib/clock.ts';
import { createLineServer } from '../net/line-server.ts';
import type { SessionListenerOptions, SessionServer } from '../net/session-server.ts';
import type { Tls } from '../net/tls.ts';
import type { SieveScripts } from '../sieve/script-store.ts';
import type { ManageSieveService } from './command.ts';
import { defaultLimits, type ManageSieveLimits } from './limits.ts';
import { ManageSieveSession } from './session.ts';

export interface ManageSieveServerOptions {
  readonly listener: SessionListenerOptions;
  readonly directory: Directory;
  readonly scripts: SieveScripts;
  /** Names that `require` accepts. */
  readonly extensions: readonly string[];
  /** URI schemes of `notify`. Default none; with the extension `enotify` there must be one, such as `mailto`. */
  readonly notifyMethods?: readonly string[];
  /** Redirects that one run of a script may do. */
  readonly maxRedirects: number;
  readonly log: Logger;
  readonly clock: Clock;
  readonly tls?: Tls;
  readonly limits?: Partial<ManageSieveLimits>;
  /** Offer SCRAM-SHA-1 (RFC 5804 §2.1), for accounts that hold a verifier for it. Default false. */
  readonly scramSha1?: boolean;
  readonly verifyToken?: VerifyToken;
}

/** Throws where the options cannot work: TLS demanded without a certificate. */
export function createManageSieveServer(given: ManageSieveServerOptions): SessionServer {
  const { listener, directory, scripts, extensions, maxRedirects, log, clock, tls, verifyToken } = given;
  const limits = { ...defaultLimits, ...given.limits };
  const service: ManageSieveService = {
    directory,
    scripts,
    clock,
    limits,
    extensions,
    notifyMethods: given.notifyMethods ?? [],
    maxRedirects,
    scramSha1: given.scramSha1 ?? false,
    ...(verifyToken && { verifyToken }),
  };
  return createLineServer({
    protocol: 'managesieve',
    listener,
    busyReply: 'BYE (TRYLATER) "Too many connections"\r\n',
    handshakeMs: limits.handshakeMs,
    idleMs: limits.loginIdleMs,
    log,
    clock,
    ...(tls && { tls }),
    startSession: connection => new ManageSieveSession(connection, service).run(),
  });
}
