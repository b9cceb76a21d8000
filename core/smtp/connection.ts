// The only file that knows `smtp-server` (3.21.6, pinned; `test/core/smtp/library.test.ts` is the contract test).
//
// What is kept of the library: its connection object with the life of the socket (close, half-closed deadline, error
// handling) and its set of live connections. What is replaced, and why:
// - `init`: it waits 100 ms before each greeting and looks up reverse names;
// - `_createParser`, `_setListeners`: its parser reads data line by line, un-stuffs dots with one timer each, passes bare
//   line ends and runs a cut-off last line as a command; ours is `input.ts`, fed by the socket without a pipe;
// - `send`: it guesses enhanced status codes; replies are made in `session.ts`;
// - `upgrade`: it takes all listeners off the socket; ours is the handshake of `core/net/tls.ts`;
// - `updateSecureContext`, `_warnAboutDefaultCertificate`: it falls back to a published test key; here is no TLS without
//   our own certificate;
// - `_armTimeout`: one timer per connection that every byte restarts; the server's clock looks at all sessions instead.
// Its command handlers (WIZ, SHELL and KILL among them) are never reached.
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { SMTPServer } from 'smtp-server';
import { SMTPConnection } from 'smtp-server/lib/smtp-connection';
import type { SMTPStream } from 'smtp-server/lib/smtp-stream';
import { drained } from '../lib/drained.ts';
import type { Tls } from '../net/tls.ts';
import type { Session } from '../plugin/contract.ts';
import { dispatch } from './dispatch.ts';
import { type Done, SmtpInput } from './input.ts';
import { maxCommandLine, SmtpSession } from './session.ts';
import type { Client, SessionContext } from './session-context.ts';

export interface LibraryOptions {
  readonly context: SessionContext;
  /** For STARTTLS. */
  readonly tls?: Tls;
  onError(error: Error): void;
}

/** Sockets are accepted by `core/net/listener.ts` and handed to `begin`; the library never listens. */
export class LibraryServer extends SMTPServer {
  readonly given: LibraryOptions;
  readonly live = new Set<LibraryConnection>();

  constructor(given: LibraryOptions) {
    super({
      logger: false,
      name: given.context.hostname,
      disableReverseLookup: true,
      authOptional: true,
      lmtp: given.context.listener.role === 'lmtp',
    });
    this.given = given;
    this.on('error', given.onError);
  }

  override updateSecureContext(): void {
    this.secureContext = new Map();
  }

  override _warnAboutDefaultCertificate(): void {}

  begin(socket: Socket, facts: Session): LibraryConnection {
    const connection = new LibraryConnection(this, socket, facts);
    this.live.add(connection);
    connection.init();
    return connection;
  }
}

export class LibraryConnection extends SMTPConnection implements Client {
  smtp: SmtpSession;
  private readonly host: LibraryServer;
  private readonly limits: SessionContext['limits'];

  constructor(server: LibraryServer, socket: Socket, facts: Session) {
    // All given, so that the library makes no ids and asks the kernel for no addresses.
    super(server, socket, {
      id: facts.id,
      localAddress: facts.local.address,
      localPort: facts.local.port,
      remoteAddress: facts.remote.address,
      remotePort: facts.remote.port,
    });
    this.host = server;
    this.limits = server.given.context.limits;
    this.smtp = new SmtpSession(
      server.given.context,
      this,
      handler => new SmtpInput(handler, maxCommandLine),
      dispatch,
      facts,
    );
  }

  /** The library only ever sets `isClosed` on its parser and unpipes it. Runs within its constructor. */
  override _createParser(): SMTPStream {
    const connection = this;
    const parser = {
      set isClosed(_: boolean) {
        connection.smtp.input.close();
      },
    };
    return parser as unknown as SMTPStream;
  }

  override init(): void {
    this._socket.on('close', () => this._onClose());
    this._socket.on('error', error => this._onError(error));
    this.listen(this._socket);
    void this.smtp.greet();
  }

  private listen(socket: Socket): void {
    let free = true;
    const next = (): void => {
      if (free) return;
      free = true;
      socket.resume();
    };
    socket.on('data', (chunk: Buffer) => {
      if (this.smtp.isOver) return;
      this.smtp.sawInput(chunk.length);
      free = false;
      this.smtp.input.feed(chunk, next);
      if (!free) socket.pause();
    });
  }

  // ---- what a session asks for

  write(text: string): Done {
    const socket = this._socket;
    if (this._upgrading || socket.destroyed || !socket.writable) return undefined;
    if (socket.write(text, 'latin1')) return undefined;
    return drained(socket);
  }

  hangUp(done: boolean): void {
    if (!done || this._upgrading || this._socket.writableLength > 0) {
      this.close();
      return;
    }
    // After QUIT there is nothing to wait for: no half-closed state, no deadline for it.
    this._closing = true;
    this._server.connections.delete(this);
    this._socket.destroySoon();
  }

  startTls(): void {
    const { tls } = this.host.given;
    const raw = this._socket;
    if (!tls) throw new Error('STARTTLS without a certificate');
    // What came behind STARTTLS in plain text must not run inside TLS (RFC 3207 §5): its parser ends here.
    this.smtp.input.close();
    raw.removeAllListeners('data');
    raw.pause();
    this._upgrading = true;
    tls.accept(raw, this.limits.handshakeTimeoutMs).then(
      secure => this.upgraded(secure),
      error => this.host.given.onError(error as Error),
    );
  }

  private upgraded(secure: TLSSocket): void {
    this._upgrading = false;
    this._socket = secure;
    secure.on('error', error => this._onError(error));
    secure.on('close', () => this._onClose());
    if (this.smtp.isOver) {
      secure.destroy();
      return;
    }
    this.secure = true;
    this.session.secure = true;
    this.smtp.secured(tlsFacts(secure), new SmtpInput(this.smtp, maxCommandLine));
    this.listen(secure);
  }

  // ---- what the library calls

  override _onClose(): void {
    this.host.live.delete(this);
    super._onClose();
    this.smtp.gone();
  }

  /** Everything is a way for a connection to end; the session's own record says how far it came. */
  override _onError(error: Error & { code?: string }): void {
    this.smtp.log.debug({ event: 'smtp-socket', session: this.smtp.id, err: error }, 'socket error');
    this._socket.destroy();
  }

  /** Only what the library says of its own accord comes here. */
  override send(code: number): void {
    if (code === 421) this.close();
  }

  override _armTimeout(): void {}
}

export function tlsFacts(socket: TLSSocket): NonNullable<Session['tls']> {
  return { version: socket.getProtocol() ?? 'TLS', cipher: socket.getCipher().name };
}
