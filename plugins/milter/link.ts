// One connection to a milter: packets out with back-pressure, packets in one at a time. Never emits an error of its own;
// whoever sends or receives gets it.
import type { Socket } from 'node:net';
import { drained } from '../../core/plugin/index.ts';
import { encodePacket, type Packet, PacketReader } from './packets.ts';

export class MilterLink {
  readonly #socket: Socket;
  readonly #reader = new PacketReader();
  #failure: Error | undefined;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk);
      // One answer at a time is awaited: a milter that talks on must wait.
      socket.pause();
      this.#wake?.();
    });
    socket.on('error', error => {
      this.#failure ??= error;
      this.#wake?.();
    });
    socket.on('close', () => {
      this.#ended = true;
      this.#wake?.();
    });
  }

  async send(code: string, ...data: readonly Buffer[]): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#ended) throw new Error('Milter closed the connection');
    if (this.#socket.write(encodePacket(code, ...data))) return;
    await drained(this.#socket);
  }

  async receive(): Promise<Packet> {
    for (;;) {
      const packet = this.#reader.next();
      if (packet) return packet;
      if (this.#failure) throw this.#failure;
      if (this.#ended) throw new Error('Milter closed the connection without an answer');
      const woken = new Promise<void>(resolve => {
        this.#wake = resolve;
      });
      this.#socket.resume();
      await woken;
    }
  }

  /** Says goodbye where that still makes sense. */
  close(): void {
    if (!this.#ended && !this.#failure) this.#socket.write(encodePacket('Q'));
    this.#socket.destroySoon();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
