// What comes from the client, taken line by line and literal by literal. While nobody asks, at most `highWater` bytes
// are held and the socket is paused: a client that sends and never reads costs nothing (invariant I7).
import type { Socket } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { Framer, type Line } from './wire/framer.ts';

const highWater = 64 * 1024;

/** The client closed, or the connection broke. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone';
}

export class Input {
  private socket: Socket;
  private readonly framer = new Framer();
  private ended = false;
  private wake: (() => void) | undefined;
  private received = 0;
  private readonly onData = (chunk: Buffer): void => {
    this.received += chunk.length;
    this.framer.push(chunk);
    if (this.wake) this.wake();
    else if (this.framer.pending >= highWater) this.socket.pause();
  };
  private readonly onEnd = (): void => {
    this.ended = true;
    this.wake?.();
  };

  private readonly clock: Clock;
  private readonly idleMs: number;
  private readonly onIdle: () => void;

  /** `onIdle`: the client was waited for and sent nothing for `idleMs`. */
  constructor(socket: Socket, clock: Clock, idleMs: number, onIdle: () => void) {
    this.socket = socket;
    this.clock = clock;
    this.idleMs = idleMs;
    this.onIdle = onIdle;
    this.attach();
  }

  get bytes(): number {
    return this.received;
  }

  /** Bytes that came and were not yet asked for. */
  get held(): number {
    return this.framer.pending;
  }

  /** Someone waits for the client. */
  get waiting(): boolean {
    return this.wake !== undefined;
  }

  /** Stops reading, for a TLS handshake on the same socket; what came in plain text is forgotten. */
  detach(): Socket {
    this.socket.off('data', this.onData);
    this.socket.off('end', this.onEnd);
    this.socket.off('close', this.onEnd);
    this.socket.pause();
    this.framer.discard();
    return this.socket;
  }

  moveTo(socket: Socket): void {
    this.socket = socket;
    this.framer.discard();
    this.attach();
  }

  /** Ends a wait with `ClientGone`. */
  abort(): void {
    this.onEnd();
  }

  async line(maxBytes: number): Promise<Line> {
    for (;;) {
      const line = this.framer.line(maxBytes);
      if (line) return line;
      await this.more();
    }
  }

  /** The next bytes of a literal of which `left` are missing. */
  async some(left: number): Promise<Buffer> {
    for (;;) {
      const bytes = this.framer.some(left);
      if (bytes) return bytes;
      await this.more();
    }
  }

  private attach(): void {
    this.socket.on('data', this.onData);
    this.socket.on('end', this.onEnd);
    this.socket.on('close', this.onEnd);
  }

  private async more(): Promise<void> {
    if (this.ended || this.socket.destroyed) throw new ClientGone('Client is gone');
    const cancel = this.clock.after(this.idleMs, this.onIdle);
    await new Promise<void>(resolve => {
      this.wake = resolve;
      if (this.socket.isPaused()) this.socket.resume();
    });
    this.wake = undefined;
    cancel();
  }
}
