// One connection of a line-based protocol (POP3, ManageSieve): lines and counted bytes in, text out, TLS begun in between.
// Invariants:
// - While nobody asks, at most `highWaterBytes` of input are held and the socket is paused: a client that sends and never
//   reads costs nothing. A line longer than asked for is dropped up to its end, not held.
// - Output is gathered and goes out when the client is waited for, or in pieces of `flushAtBytes` that wait for the client
//   to take them; one that takes nothing for `stallMs` is cut off.
// - What came in plain text before a TLS handshake is forgotten: nothing can be injected into the encrypted session.
// - `readLine` and `readBytes` end with `SessionEnd`; there is no other way for a session to learn that it is over.
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../lib/clock.ts';
import { drained } from '../lib/drained.ts';
import type { Tls } from './tls.ts';

/** `gone`: closed or broken by the client; `idle`: it sent nothing for too long; `shutdown`: we stop. */
export class SessionEnd extends Error {
  override readonly name = 'SessionEnd';
  readonly reason: 'gone' | 'idle' | 'shutdown';
  constructor(reason: SessionEnd['reason']) {
    super(`Session ends: ${reason}`);
    this.reason = reason;
  }
}

/** The line was dropped whole; the next one can be read. */
export class LineTooLong extends Error {
  override readonly name = 'LineTooLong';
}

export interface LineSessionOptions {
  readonly clock: Clock;
  /** How long a client may be silent; `setIdle` changes it. */
  readonly idleMs: number;
  /** Default 60 s. */
  readonly stallMs?: number;
  readonly secure: boolean;
}

const highWaterBytes = 64 * 1024;
const flushAtBytes = 64 * 1024;
const lineFeed = 0x0a;
const carriageReturn = 0x0d;

export class LineSession {
  readonly #clock: Clock;
  readonly #stallMs: number;
  #socket: Socket;
  #secure: boolean;
  #idleMs: number;
  #held: Buffer[] = [];
  #heldBytes = 0;
  /** Bytes at the start of what is held that are known to have no line feed. */
  #scanned = 0;
  #end: SessionEnd['reason'] | undefined;
  #wake: (() => void) | undefined;
  #out: Buffer[] = [];
  #outBytes = 0;
  #received = 0;
  #sent = 0;

  constructor(socket: Socket, options: LineSessionOptions) {
    this.#clock = options.clock;
    this.#stallMs = options.stallMs ?? 60_000;
    this.#idleMs = options.idleMs;
    this.#secure = options.secure;
    this.#socket = socket;
    this.#attach();
  }

  /** Inside TLS. */
  get secure(): boolean {
    return this.#secure;
  }
  get bytesIn(): number {
    return this.#received;
  }
  get bytesOut(): number {
    return this.#sent;
  }
  /** `TLSv1.3 TLS_AES_256_GCM_SHA384`; undefined in plain text. */
  get cipher(): string | undefined {
    if (!this.#secure) return undefined;
    const { version, name } = (this.#socket as TLSSocket).getCipher();
    return `${version} ${name}`;
  }

  setIdle(ms: number): void {
    this.#idleMs = ms;
  }

  /** Without its line end (CRLF, or LF alone). Rejects with `LineTooLong` or `SessionEnd`. */
  async readLine(maxBytes: number): Promise<Buffer> {
    let tooLong = false;
    for (;;) {
      const end = this.#findLineFeed();
      if (end >= 0) {
        const line = this.#take(end + 1);
        const stop = line[end - 1] === carriageReturn ? end - 1 : end;
        if (tooLong || stop > maxBytes) throw new LineTooLong(`Line of more than ${maxBytes} bytes`);
        return line.subarray(0, stop);
      }
      if (this.#heldBytes > maxBytes + 1) {
        tooLong = true;
        this.#discardInput();
      }
      await this.#more();
    }
  }

  /** At least one byte and at most `left`: the next piece of a counted literal. */
  async readBytes(left: number): Promise<Buffer> {
    while (this.#heldBytes === 0) await this.#more();
    return this.#take(Math.min(left, this.#held[0]?.length ?? 0));
  }

  /** A complete line is there already: the client pipelines. */
  get hasLine(): boolean {
    return this.#findLineFeed() >= 0;
  }

  /** Gathers; nothing is sent before `flush`, or before the client is waited for. */
  write(data: string | Buffer): void {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    this.#out.push(bytes);
    this.#outBytes += bytes.length;
  }

  /** Sends when much has gathered, and waits while the client is slow. For the loop that writes a long reply. */
  async pace(): Promise<void> {
    if (this.#outBytes >= flushAtBytes) await this.flush();
  }

  /** Resolves when the socket takes more. Rejects with `SessionEnd` where it never will. */
  async flush(): Promise<void> {
    if (this.#out.length === 0) return;
    const pieces = this.#out;
    this.#out = [];
    this.#sent += this.#outBytes;
    this.#outBytes = 0;
    if (this.#socket.destroyed) throw new SessionEnd('gone');
    if (!this.#socket.write(pieces.length === 1 ? (pieces[0] ?? '') : Buffer.concat(pieces))) await this.#drained();
  }

  /** Sends what was gathered, forgets what came, and speaks TLS from here on. Rejects where the handshake fails. */
  async startTls(tls: Tls, timeoutMs: number): Promise<void> {
    await this.flush();
    const socket = this.#socket;
    this.#detach();
    this.#discardInput();
    this.#socket = await tls.accept(socket, timeoutMs);
    this.#secure = true;
    this.#attach();
    if (this.#end === 'shutdown') this.#wake?.();
  }

  /** A running command ends as it would; the next wait for the client ends with `SessionEnd('shutdown')`. */
  shutdown(): void {
    this.#end ??= 'shutdown';
    this.#wake?.();
  }

  /** Sends what was gathered and closes; a client that does not take it is cut off. Never rejects. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } catch {
      // Gone already: there is nobody left to tell.
    }
    this.#detach();
    const socket = this.#socket;
    if (socket.destroyed) return;
    socket.resume();
    const cancel = this.#clock.after(this.#stallMs, () => socket.destroy());
    await new Promise<void>(resolve => {
      socket.once('close', () => resolve());
      socket.end();
    });
    cancel();
  }

  /** At once, with whatever was not sent yet: the client must not take what it got for the whole. */
  destroy(): void {
    this.#detach();
    this.#out = [];
    this.#socket.destroy();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#received += chunk.length;
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    // A line that comes byte by byte stays one piece.
    if (this.#held.length > 16) this.#held = [Buffer.concat(this.#held)];
    if (this.#wake !== undefined) this.#wake();
    else if (this.#heldBytes >= highWaterBytes) this.#socket.pause();
  };
  readonly #onEnd = (): void => {
    this.#end ??= 'gone';
    this.#wake?.();
  };
  readonly #onError = (): void => {
    // `close` follows and ends the session.
  };

  #attach(): void {
    this.#socket.on('data', this.#onData);
    this.#socket.on('end', this.#onEnd);
    this.#socket.on('close', this.#onEnd);
    this.#socket.on('error', this.#onError);
  }

  /** The error listener stays: a dying socket may still complain. */
  #detach(): void {
    this.#socket.pause();
    this.#socket.off('data', this.#onData);
    this.#socket.off('end', this.#onEnd);
    this.#socket.off('close', this.#onEnd);
  }

  #discardInput(): void {
    this.#held = [];
    this.#heldBytes = 0;
    this.#scanned = 0;
  }

  #findLineFeed(): number {
    let before = 0;
    for (const chunk of this.#held) {
      if (before + chunk.length > this.#scanned) {
        const at = chunk.indexOf(lineFeed, Math.max(0, this.#scanned - before));
        if (at >= 0) return before + at;
      }
      before += chunk.length;
    }
    this.#scanned = before;
    return -1;
  }

  #take(count: number): Buffer {
    const first = this.#held[0] ?? Buffer.alloc(0);
    this.#scanned = 0;
    this.#heldBytes -= count;
    if (first.length > count) {
      this.#held[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    if (first.length === count) {
      this.#held.shift();
      return first;
    }
    const all = Buffer.concat(this.#held);
    this.#held = all.length > count ? [all.subarray(count)] : [];
    return all.subarray(0, count);
  }

  async #more(): Promise<void> {
    if (this.#end !== undefined) throw new SessionEnd(this.#end);
    await this.flush();
    // The flush may have taken a while.
    if (this.#end !== undefined) throw new SessionEnd(this.#end);
    let idle = false;
    const before = this.#received;
    const cancel = this.#clock.after(this.#idleMs, () => {
      idle = true;
      this.#wake?.();
    });
    await new Promise<void>(resolve => {
      this.#wake = resolve;
      if (this.#socket.isPaused()) this.#socket.resume();
    });
    this.#wake = undefined;
    cancel();
    if (this.#received > before) return;
    const end = this.#end ?? (idle ? 'idle' : undefined);
    if (end !== undefined) throw new SessionEnd(end);
  }

  async #drained(): Promise<void> {
    const socket = this.#socket;
    const cancel = this.#clock.after(this.#stallMs, () => socket.destroy());
    await drained(socket);
    cancel();
    if (socket.destroyed) throw new SessionEnd('gone');
  }
}
