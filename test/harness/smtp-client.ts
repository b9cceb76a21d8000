// A small SMTP client for tests that count: it sends what it is told and says exactly what it heard.
import { connect, type Socket } from 'node:net';

export class SmtpClient {
  readonly #socket: Socket;
  #text = '';
  #waiting: { readonly resolve: (reply: string) => void; readonly reject: (error: Error) => void } | undefined;
  #failure: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      this.#text += chunk;
      this.#deliver();
    });
    socket.on('error', error => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('Connection closed')));
  }

  static async open(port: number, host = '127.0.0.1'): Promise<SmtpClient> {
    const client = new SmtpClient(connect({ port, host, noDelay: true }));
    await client.expect(/^220 /);
    return client;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
  }

  #deliver(): void {
    const reply = /^(?:\d{3}-.*\r\n)*\d{3} .*\r\n/.exec(this.#text)?.[0];
    if (reply === undefined || !this.#waiting) return;
    this.#text = this.#text.slice(reply.length);
    const { resolve } = this.#waiting;
    this.#waiting = undefined;
    resolve(reply);
  }

  /** The next whole reply. */
  reply(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      // What came before the connection ended is still heard.
      this.#deliver();
      if (this.#failure) this.#fail(this.#failure);
    });
  }

  async expect(pattern: RegExp): Promise<string> {
    const reply = await this.reply();
    if (!pattern.test(reply)) throw new Error(`Expected ${pattern}, got ${reply.trim()}`);
    return reply;
  }

  async command(line: string, pattern: RegExp = /^[23]/): Promise<string> {
    this.#socket.write(`${line}\r\n`);
    return this.expect(pattern);
  }

  /** Sends one message, CRLF line ends, dot-stuffing done here; resolves to the reply after the final dot. */
  async send(mail: {
    readonly from: string;
    readonly to: readonly string[];
    readonly body: Buffer | string;
  }): Promise<string> {
    await this.command(`MAIL FROM:<${mail.from}>`);
    for (const to of mail.to) await this.command(`RCPT TO:<${to}>`);
    await this.command('DATA', /^354/);
    const text = typeof mail.body === 'string' ? mail.body : mail.body.toString('latin1');
    const stuffed = text.replace(/^\./gm, '..');
    this.#socket.write(`${stuffed}${stuffed.endsWith('\r\n') ? '' : '\r\n'}.\r\n`, 'latin1');
    return this.reply();
  }

  /** Bytes as they are; the reply is for `expect`. */
  write(text: string): void {
    this.#socket.write(text, 'latin1');
  }

  close(): void {
    this.#socket.destroy();
  }
}
