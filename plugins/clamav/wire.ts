// The socket as the package `clamscan` gets it: it never emits `error` (the package would print it), ends where the
// connection ends in whatever way, holds the sender back while the socket is full, and takes no answer without end.
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** An answer is one line. */
const maxAnswerBytes = 64 * 1024;

export interface Source {
  pause(): unknown;
  resume(): unknown;
}

export class Wire extends Duplex {
  /** Why the connection ended, where it did not end in order. */
  failure: Error | undefined;
  readonly #socket: Socket;
  readonly #source: Source | undefined;
  #received = 0;
  #ended = false;

  constructor(socket: Socket, source?: Source) {
    super();
    this.#socket = socket;
    this.#source = source;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.once('error', error => this.#finish(error));
    socket.once('end', () => this.#finish());
    socket.once('close', () => this.#finish());
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.#socket.destroyed || this.#socket.write(chunk)) {
      done();
      return;
    }
    this.#source?.pause();
    const proceed = (): void => {
      this.#socket.off('drain', proceed);
      this.#socket.off('close', proceed);
      if (!this.#ended) this.#source?.resume();
      done();
    };
    this.#socket.once('drain', proceed);
    this.#socket.once('close', proceed);
  }

  override _destroy(_error: Error | null, done: (error?: Error | null) => void): void {
    this.#ended = true;
    this.#socket.destroy();
    done(null);
  }

  #take(chunk: Buffer): void {
    if (this.#ended) return;
    this.#received += chunk.length;
    if (this.#received > maxAnswerBytes) this.#finish(new Error('Answer has no end'));
    else this.push(chunk);
  }

  #finish(failure?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.failure = failure;
    this.push(null);
    if (failure) this.#socket.destroy();
  }
}
