// The client side of a line protocol (POP3, IMAP, SMTP) over a socket: lines, counted bytes, the upgrade to TLS. Whatever the
// server does, no wait is longer than the limit and no line longer than what the caller takes.
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import type { Clock } from './clock.ts';
import { startDeadline } from './deadline.ts';

export interface TlsTrust {
  readonly servername: string;
  /** PEM of authorities in place of those that Node trusts. */
  readonly ca?: string;
  /** SHA-256 of the one certificate that is trusted, whoever signed it. */
  readonly fingerprint?: string;
  /** Any certificate will do: to look at what there is. */
  readonly anything?: true;
}

export interface WireOptions {
  readonly host: string;
  readonly port: number;
  readonly implicitTls: boolean;
  readonly trust: TlsTrust;
  readonly clock: Clock;
  /** Longest wait for the server, ms. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** The server said no, or something that is not the protocol. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

const plainFingerprint = (text: string): string => text.replaceAll(':', '').toLowerCase();

function secure(socket: net.Socket | undefined, options: WireOptions): tls.TLSSocket {
  const { trust } = options;
  return tls.connect({
    ...(socket ? { socket } : { host: options.host, port: options.port }),
    ...(net.isIP(trust.servername) ? {} : { servername: trust.servername }),
    ...(trust.ca === undefined ? {} : { ca: trust.ca }),
    minVersion: 'TLSv1.2',
    rejectUnauthorized: trust.fingerprint === undefined && !trust.anything,
  });
}

/** More than this is not read ahead. */
const highWater = 262_144;

export class WireClient {
  #socket: net.Socket;
  #held: Buffer = Buffer.alloc(0);
  #arrived: Buffer[] = [];
  #arrivedBytes = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  readonly #options: WireOptions;

  private constructor(socket: net.Socket, options: WireOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#attach(socket);
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  readonly #onAbort = (): void => void this.#socket.destroy();
  readonly #onData = (chunk: Buffer): void => {
    this.#arrived.push(chunk);
    this.#arrivedBytes += chunk.length;
    if (this.#arrivedBytes > highWater) this.#socket.pause();
    this.#wake?.();
  };
  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#wake?.();
  };

  #attach(socket: net.Socket): void {
    socket.on('error', () => undefined);
    socket.on('data', this.#onData).once('end', this.#onEnd).once('close', this.#onEnd);
  }

  static async open(options: WireOptions): Promise<WireClient> {
    const socket = options.implicitTls
      ? secure(undefined, options)
      : net.connect({ host: options.host, port: options.port });
    await WireClient.#ready(socket, options.implicitTls ? 'secureConnect' : 'connect', options);
    return new WireClient(socket, options);
  }

  static async #ready(socket: net.Socket, event: string, options: WireOptions): Promise<void> {
    const deadline = startDeadline(options.clock, options.timeoutMs, options.signal);
    try {
      await once(socket, event, { signal: deadline.signal });
      WireClient.#checkPin(socket, options.trust);
    } catch (error) {
      socket.on('error', () => undefined);
      socket.destroy();
      throw deadline.signal.aborted ? (deadline.signal.reason as Error) : error;
    } finally {
      deadline.done();
    }
  }

  static #checkPin(socket: net.Socket, { fingerprint }: TlsTrust): void {
    if (fingerprint === undefined || !(socket instanceof tls.TLSSocket)) return;
    const { fingerprint256 } = socket.getPeerCertificate();
    if (plainFingerprint(fingerprint256 ?? '') !== plainFingerprint(fingerprint))
      throw new WireError(`The server's certificate is another one: ${fingerprint256}`);
  }

  /** After the server agreed. What it sent beyond that in plain text is thrown away (RFC 2595 §2.2, RFC 3501 §11.1). */
  async startTls(): Promise<void> {
    this.#socket.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onEnd);
    this.#held = Buffer.alloc(0);
    this.#arrived = [];
    this.#arrivedBytes = 0;
    const upgraded = secure(this.#socket, this.#options);
    await WireClient.#ready(upgraded, 'secureConnect', this.#options);
    this.#socket = upgraded;
    this.#attach(upgraded);
  }

  /** What the server showed, once there is TLS; `refusal`: why Node would not trust it. */
  get certificate(): { readonly seen: tls.PeerCertificate; readonly refusal: string | undefined } | undefined {
    if (!(this.#socket instanceof tls.TLSSocket)) return undefined;
    const { authorizationError } = this.#socket;
    // The types say Error; it is a code such as DEPTH_ZERO_SELF_SIGNED_CERT.
    return {
      seen: this.#socket.getPeerCertificate(),
      refusal: authorizationError ? String(authorizationError) : undefined,
    };
  }

  get localAddress(): string {
    return this.#socket.localAddress ?? '';
  }

  write(text: string): void {
    this.#socket.write(text, 'utf8');
  }

  async #more(): Promise<Buffer> {
    const { clock, timeoutMs } = this.#options;
    let late = false;
    if (this.#arrived.length === 0 && !this.#ended) {
      await new Promise<void>(resolve => {
        const cancel = clock.after(timeoutMs, () => {
          late = true;
          this.#socket.destroy();
          this.#wake?.();
        });
        this.#wake = () => {
          cancel();
          resolve();
        };
      });
      this.#wake = undefined;
    }
    if (this.#arrived.length === 0)
      throw new WireError(late ? `The server was silent for ${timeoutMs} ms` : 'The server closed the connection');
    const bytes = Buffer.concat(this.#arrived);
    this.#arrived = [];
    this.#arrivedBytes = 0;
    this.#socket.resume();
    return bytes;
  }

  /** A line without its end. */
  async line(maxBytes = 65_536): Promise<Buffer> {
    let searched = 0;
    let end = this.#held.indexOf(0x0a);
    while (end < 0) {
      if (this.#held.length > maxBytes) throw new WireError('The server sent too long a line');
      searched = this.#held.length;
      this.#held = Buffer.concat([this.#held, await this.#more()]);
      end = this.#held.indexOf(0x0a, searched);
    }
    const line = this.#held.subarray(0, this.#held[end - 1] === 0x0d ? end - 1 : end);
    this.#held = this.#held.subarray(end + 1);
    return line;
  }

  async *bytes(count: number): AsyncGenerator<Buffer> {
    for (let left = count; left > 0; ) {
      if (this.#held.length === 0) this.#held = await this.#more();
      const piece = this.#held.subarray(0, left);
      this.#held = this.#held.subarray(piece.length);
      left -= piece.length;
      yield piece;
    }
  }

  close(): void {
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    this.#socket.destroy();
  }
}
