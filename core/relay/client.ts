// Opens a connection to a next hop: TCP, greeting, EHLO or LHLO, STARTTLS, certificate, AUTH. The only file that knows
// nodemailer, whose connection does all of that (with its safeguards against replies injected before TLS); the session
// then takes over the socket, see `session.ts` for why.
//
// Each phase has its limit, so that another host can be tried in time. Credentials never cross an unencrypted
// connection, unless it is to this very machine (invariant I8).
import net, { type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import type { Clock } from '../lib/clock.ts';
import { type SessionTimeouts, SmtpSession } from './session.ts';
import { certificateFault, demandsTls, type TlsPolicy } from './tls-policy.ts';

export interface RelayCredentials {
  readonly username: string;
  readonly password: string;
}

export interface ConnectOptions {
  /** IP address, or the path of a socket (LMTP). */
  readonly address: string;
  readonly port: number;
  /** Name for SNI and certificates. */
  readonly host: string;
  /** Our name in EHLO. */
  readonly helo: string;
  readonly lmtp: boolean;
  /** TLS from the first byte (port 465). */
  readonly implicitTls: boolean;
  readonly policy: TlsPolicy;
  readonly credentials?: RelayCredentials;
  /** ms for the TCP connection. */
  readonly connectMs: number;
  /** ms from there until the session may be used. RFC 5321 §4.5.3.2.1 grants 5 minutes where nobody else is left to try. */
  readonly greetingMs: number;
  readonly localAddress?: string;
  readonly timeouts?: SessionTimeouts;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Where opening failed. `tls`: the policy cannot be kept; `auth`: the credentials were refused. */
export class ConnectError extends Error {
  override readonly name = 'ConnectError';
  readonly phase: 'connect' | 'greeting' | 'tls' | 'auth';
  /** Reply code, where the server said something. */
  readonly code: number | undefined;
  constructor(phase: ConnectError['phase'], message: string, code?: number, options?: ErrorOptions) {
    super(message, options);
    this.phase = phase;
    this.code = code;
  }
}

/** What nodemailer's types hide: listeners of its own, taken off when the session takes over. */
interface Internals {
  readonly _onSocketData: (chunk: Buffer) => void;
  readonly _onSocketError: (error: Error) => void;
  readonly _onSocketClose: () => void;
  readonly _onSocketEnd: () => void;
  readonly _onSocketTimeout: () => void;
}

const isLoopback = (address: string): boolean =>
  address.startsWith('/') || address.startsWith('127.') || address === '::1';

export async function openSession(options: ConnectOptions): Promise<SmtpSession> {
  // A socket of the file system is as private as its folder, and has no name for SNI.
  const needless = options.address.startsWith('/') && options.policy.kind === 'opportunistic';
  try {
    return await open(options, needless || options.policy.kind === 'none');
  } catch (error) {
    // RFC 7435: opportunistic means in clear rather than not at all.
    const retry = options.policy.kind === 'opportunistic' && error instanceof ConnectError && error.phase === 'tls';
    if (!retry || options.implicitTls) throw error;
    return open(options, true);
  }
}

async function open(options: ConnectOptions, inClear: boolean): Promise<SmtpSession> {
  const socket = await connect(options);
  const connection = new SMTPConnection({
    connection: socket,
    host: options.host,
    port: options.port,
    name: options.helo,
    lmtp: options.lmtp,
    logger: false,
    secure: options.implicitTls,
    ignoreTLS: inClear,
    requireTLS: demandsTls(options.policy) && !options.implicitTls,
    connectionTimeout: options.greetingMs,
    greetingTimeout: options.greetingMs,
    socketTimeout: options.greetingMs,
    maxResponseSize: 128 * 1024,
    tls: {
      rejectUnauthorized: false,
      ...(net.isIP(options.host) === 0 ? { servername: options.host } : {}),
      // With a list of names they are checked here, after the handshake.
      ...(options.policy.kind === 'verified' && options.policy.names ? { checkServerIdentity: () => undefined } : {}),
    },
  });
  const ehlo = await greet(connection, options);
  try {
    checkTls(connection, options);
    if (options.credentials) await login(connection, options.credentials, options);
    return takeOver(connection, ehlo, options);
  } catch (error) {
    connection.close();
    throw error;
  }
}

function connect(options: ConnectOptions): Promise<Socket> {
  const { address, port, localAddress, signal, clock, connectMs } = options;
  return new Promise((resolve, reject) => {
    const socket = address.startsWith('/')
      ? net.connect({ path: address })
      : net.connect({
          host: address,
          port,
          noDelay: true,
          keepAlive: true,
          ...(localAddress === undefined ? {} : { localAddress }),
        });
    const fail = (message: string, cause?: Error): void => {
      done();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(new ConnectError('connect', message, undefined, cause === undefined ? undefined : { cause }));
    };
    const onError = (error: Error): void => fail(`Cannot connect to ${address}:${port}: ${error.message}`, error);
    const onAbort = (): void => fail('Attempt was aborted');
    const cancel = clock.after(connectMs, () => fail(`Cannot connect to ${address}:${port} within ${connectMs} ms`));
    const done = (): void => {
      cancel();
      socket.off('error', onError);
      signal.removeEventListener('abort', onAbort);
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      done();
      resolve(socket);
    });
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** Runs a step of the connection; errors come by callback or by event, whichever is first. */
function step(
  connection: SMTPConnection,
  options: ConnectOptions,
  phase: ConnectError['phase'],
  run: (done: (error?: Error | null) => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => done(new Error('Attempt was aborted'));
    const cancel = options.clock.after(options.greetingMs, () =>
      done(new Error(`No answer within ${options.greetingMs} ms`)),
    );
    const onEnd = (): void => done(new Error('Connection closed by the server'));
    const done = (error?: Error | null): void => {
      cancel();
      connection.off('end', onEnd);
      connection.off('error', done);
      options.signal.removeEventListener('abort', onAbort);
      if (!error) {
        resolve();
        return;
      }
      connection.on('error', () => undefined);
      connection.close();
      const { code, responseCode } = error as { readonly code?: string; readonly responseCode?: number };
      const where = connection.upgrading === true || code === 'ETLS' ? 'tls' : phase;
      reject(new ConnectError(where, error.message, responseCode, { cause: error }));
    };
    connection.once('error', done);
    connection.once('end', onEnd);
    options.signal.addEventListener('abort', onAbort, { once: true });
    run(done);
  });
}

async function greet(connection: SMTPConnection, options: ConnectOptions): Promise<readonly string[]> {
  await step(connection, options, 'greeting', done => connection.connect(done));
  const reply = connection.lastServerResponse || '';
  return reply
    .split(/\r?\n/)
    .slice(1)
    .map(line => line.replace(/^\d{3}[ -]/, ''));
}

function checkTls(connection: SMTPConnection, { policy, credentials, address }: ConnectOptions): void {
  const socket = connection._socket as TLSSocket;
  if (!connection.secure) {
    if (demandsTls(policy)) throw new ConnectError('tls', 'The server offers no TLS');
    if (credentials && !isLoopback(address)) throw new ConnectError('tls', 'Credentials need an encrypted connection');
    return;
  }
  const fault = certificateFault(policy, socket);
  if (fault !== undefined) throw new ConnectError('tls', fault);
}

async function login(connection: SMTPConnection, credentials: RelayCredentials, options: ConnectOptions) {
  const { username: user, password: pass } = credentials;
  await step(connection, options, 'auth', done => connection.login({ user, pass, credentials: { user, pass } }, done));
}

function takeOver(connection: SMTPConnection, ehlo: readonly string[], options: ConnectOptions): SmtpSession {
  const socket = connection._socket;
  if (!socket) throw new ConnectError('greeting', 'Connection is gone');
  const internals = connection as unknown as Internals;
  socket.off('data', internals._onSocketData);
  socket.off('error', internals._onSocketError);
  socket.off('close', internals._onSocketClose);
  socket.off('end', internals._onSocketEnd);
  socket.off('timeout', internals._onSocketTimeout);
  socket.setTimeout(0);
  socket.setNoDelay(true);
  return new SmtpSession({
    socket,
    clock: options.clock,
    lmtp: options.lmtp,
    helo: options.helo,
    ehlo,
    ...(options.timeouts === undefined ? {} : { timeouts: options.timeouts }),
  });
}
