// A small POP3 client for tests that compare bytes: un-stuffs dots, changes nothing else.
import { connect, type Socket } from 'node:net';

export class Pop3Client {
  readonly #socket: Socket;
  #bytes = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #failure: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake?.();
    });
    const fail = (error: Error): void => {
      this.#failure ??= error;
      this.#wake?.();
    };
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('Connection closed')));
  }

  static async open(port: number): Promise<Pop3Client> {
    const client = new Pop3Client(connect({ port, host: '127.0.0.1', noDelay: true }));
    await client.#line();
    return client;
  }

  async #until(mark: string): Promise<Buffer> {
    for (;;) {
      const at = this.#bytes.indexOf(mark);
      if (at >= 0) {
        const found = this.#bytes.subarray(0, at + mark.length);
        this.#bytes = this.#bytes.subarray(at + mark.length);
        return found;
      }
      if (this.#failure) throw this.#failure;
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
  }

  async #line(): Promise<string> {
    const line = (await this.#until('\r\n')).toString('latin1').trimEnd();
    if (!line.startsWith('+OK')) throw new Error(`POP3 said: ${line}`);
    return line;
  }

  async #command(line: string): Promise<string> {
    this.#socket.write(`${line}\r\n`);
    return this.#line();
  }

  /** The lines of a multi-line answer, un-stuffed (RFC 1939 §3). */
  async #multiLine(): Promise<Buffer> {
    if (this.#bytes.length < 3) await this.#more(3);
    if (this.#bytes.subarray(0, 3).toString('latin1') === '.\r\n') {
      this.#bytes = this.#bytes.subarray(3);
      return Buffer.alloc(0);
    }
    const text = (await this.#until('\r\n.\r\n')).subarray(0, -3).toString('latin1');
    return Buffer.from(text.replace(/^\.\./gm, '.'), 'latin1');
  }

  async #more(size: number): Promise<void> {
    while (this.#bytes.length < size && !this.#failure) {
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
  }

  async login(user: string, password: string): Promise<void> {
    await this.#command(`USER ${user}`);
    await this.#command(`PASS ${password}`);
  }

  /** Number and size of each message. */
  async list(): Promise<readonly (readonly [number: number, size: number])[]> {
    await this.#command('LIST');
    const lines = (await this.#multiLine()).toString('latin1').trim().split('\r\n');
    return lines.filter(line => line !== '').map(line => line.split(' ').map(Number) as [number, number]);
  }

  async retrieve(number: number): Promise<Buffer> {
    await this.#command(`RETR ${number}`);
    return this.#multiLine();
  }

  async quit(): Promise<void> {
    await this.#command('QUIT');
    this.#socket.destroy();
  }
}
