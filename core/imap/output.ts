// What goes to the client: gathered, written in few pieces, and never faster than the client reads. Text is a byte
// string, one character per octet.
import type { Socket } from 'node:net';
import type { Clock } from '../lib/clock.ts';

const flushAtBytes = 32 * 1024;

export class Output {
  private socket: Socket;
  private readonly clock: Clock;
  private readonly stallMs: number;
  private parts: (string | Buffer)[] = [];
  private held = 0;
  private written = 0;

  /** `stallMs`: a client that takes nothing for so long is cut off. */
  constructor(socket: Socket, clock: Clock, stallMs: number) {
    this.socket = socket;
    this.clock = clock;
    this.stallMs = stallMs;
  }

  /** Bytes sent so far. */
  get bytes(): number {
    return this.written;
  }

  /** After STARTTLS. */
  moveTo(socket: Socket): void {
    this.socket = socket;
  }

  write(text: string): void {
    this.parts.push(text);
    this.held += text.length;
  }

  /** A line of untagged data, without `* ` and CRLF. */
  untagged(text: string): void {
    this.write(`* ${text}\r\n`);
  }

  /** Bytes that nobody changes afterwards. */
  bytesOf(bytes: Buffer): void {
    this.parts.push(bytes);
    this.held += bytes.length;
  }

  flush(): void {
    if (this.held === 0) return;
    const pieces = this.pieces();
    this.parts = [];
    this.written += this.held;
    this.held = 0;
    if (!this.socket.writable) return;
    if (pieces.length > 1) this.socket.cork();
    for (const piece of pieces) this.socket.write(piece);
    if (pieces.length > 1) this.socket.uncork();
  }

  /** Runs of text as one buffer each; small things all together. */
  private pieces(): readonly Buffer[] {
    const pieces: Buffer[] = [];
    let texts: string[] = [];
    const closeText = (): void => {
      if (texts.length > 0) pieces.push(Buffer.from(texts.join(''), 'latin1'));
      texts = [];
    };
    for (const part of this.parts) {
      if (typeof part === 'string') texts.push(part);
      else {
        closeText();
        pieces.push(part);
      }
    }
    closeText();
    return pieces.length > 1 && this.held <= 2 * flushAtBytes ? [Buffer.concat(pieces)] : pieces;
  }

  /** Flushes when enough is gathered, and waits while the client is behind. Rejects when it is gone or stalls. */
  async pace(): Promise<void> {
    if (this.held >= flushAtBytes) this.flush();
    if (this.socket.destroyed) throw new Error('Client is gone');
    if (this.socket.writableNeedDrain) await this.drained();
  }

  get behind(): boolean {
    return this.held >= flushAtBytes || this.socket.writableNeedDrain;
  }

  /** Sends what is left and closes our side. */
  end(): void {
    this.flush();
    this.socket.end();
  }

  private drained(): Promise<void> {
    const { socket } = this;
    return new Promise((resolve, reject) => {
      const settle = (error?: Error): void => {
        cancel();
        socket.off('drain', onDrain);
        socket.off('close', onClose);
        if (error) reject(error);
        else resolve();
      };
      const onDrain = (): void => settle();
      const onClose = (): void => settle(new Error('Client is gone'));
      const cancel = this.clock.after(this.stallMs, () => {
        socket.destroy();
        settle(new Error('Client does not read'));
      });
      socket.on('drain', onDrain);
      socket.on('close', onClose);
    });
  }
}
