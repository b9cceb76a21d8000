// Protocol dialogues as files (SMTP, IMAP, POP3, ManageSieve): what the client sends, what the server must answer.
//
//   # comment                     empty lines are ignored
//   == name                       a new scenario: fresh server, fresh connections
//   @key value                    an option for the test that starts the server
//   C: text                       sent with CRLF; C lines that follow each other go out in one write
//   C> text                       sent as it is, without line end
//   S: text                       the next line is exactly this
//   S/ regex                      the next line matches (whole line); named groups become {{variables}}
//   S* regex                      lines are skipped up to and including the first that matches
//   S! closed                     the server closes, and nothing came before that
//   C! flush | close | reset      ends the write group | sends FIN | destroys the socket
//   C! tls                        the client's side of a TLS handshake over this connection
//   T! 1500                       the server's clock moves by so many ms (where the test holds one)
//   2C: 2S: …                     another connection; each is opened when first named
//
// In C and S lines: \r \n \t \0 \\ \xNN are bytes, {{name}} is a variable, {{a*1000}} repeats what stands before the star.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdirSync, readFileSync } from 'node:fs';
import { connect as netConnect, type Socket } from 'node:net';
import path from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import type { Test } from 'tap';
import { sourcePath } from './root.ts';

export interface Step {
  readonly line: number;
  readonly connection: number;
  /** `C` sends, `S` expects, `T` moves the clock. */
  readonly side: 'C' | 'S' | 'T';
  readonly form: ':' | '>' | '/' | '*' | '!';
  readonly text: string;
}

export interface Scenario {
  readonly name: string;
  readonly options: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}

export interface TranscriptServer {
  readonly port: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Connections start with a TLS handshake. */
  readonly implicitTls?: boolean;
  /** For {{name}}. */
  readonly variables?: Readonly<Record<string, string>>;
  advance?(ms: number): void;
  /** Called when the dialogue is through; checks of the test's own go here. */
  close(): Promise<void>;
}

/** A reply that does not come fails the scenario after this long; nothing ever waits for it to pass. */
const replyTimeoutMs = 60_000;

export function parseTranscript(text: string, file: string): readonly Scenario[] {
  const scenarios: { name: string; options: Record<string, string>; steps: Step[] }[] = [];
  const current = () => {
    const last = scenarios.at(-1) ?? { name: path.basename(file, '.txt'), options: {}, steps: [] };
    if (scenarios.length === 0) scenarios.push(last);
    return last;
  };
  text.split('\n').forEach((raw, index) => {
    const line = raw.replace(/\r$/, '');
    if (line.trim() === '' || line.startsWith('#')) return;
    if (line.startsWith('== ')) {
      scenarios.push({ name: line.slice(3).trim(), options: {}, steps: [] });
      return;
    }
    const option = /^@(\S+)\s*(.*)$/.exec(line);
    if (option?.[1]) {
      current().options[option[1]] = option[2] ?? '';
      return;
    }
    const step = /^(\d*)([CST])([:>/*!])(?: (.*))?$/.exec(line);
    if (!step) throw new Error(`${file}:${index + 1}: not a transcript line: ${line}`);
    const [, connection, side, form, rest] = step;
    current().steps.push({
      line: index + 1,
      connection: Number(connection || 1),
      side: side as Step['side'],
      form: form as Step['form'],
      text: rest ?? '',
    });
  });
  return scenarios;
}

/** Runs every `*.txt` of a folder below test/transcripts; `start` begins a server for each scenario. */
export function runTranscripts(
  t: Test,
  folder: string,
  start: (options: Readonly<Record<string, string>>, name: string) => Promise<TranscriptServer>,
): void {
  const top = sourcePath(path.join('test', 'transcripts', folder));
  for (const file of readdirSync(top).sort()) {
    if (!file.endsWith('.txt')) continue;
    const scenarios = parseTranscript(readFileSync(path.join(top, file), 'utf8'), `${folder}/${file}`);
    t.test(file, async t => {
      for (const scenario of scenarios) {
        const server = await start(scenario.options, scenario.name);
        const failure = await playScenario(scenario, server).catch((error: unknown) => error as Error);
        await server.close();
        if (failure) t.fail(`${folder}/${file}: ${scenario.name}: ${failure.message}`);
        else t.pass(`${file}: ${scenario.name}`);
      }
    });
  }
}

/** Rejects with an Error naming the line that went wrong. */
export async function playScenario(scenario: Scenario, server: TranscriptServer): Promise<void> {
  const peers = new Map<number, Peer>();
  const variables = new Map(Object.entries(server.variables ?? {}));
  // The server runs in this process: its ends of the connections, by the client's port.
  const ends = new Map<number, Socket>();
  const note = (message: unknown): void => {
    const { socket } = message as { readonly socket: Socket };
    if (socket.remotePort !== undefined) ends.set(socket.remotePort, socket);
  };
  subscribe('net.server.socket', note);
  try {
    for (const step of scenario.steps) {
      if (step.side === 'T') {
        for (const peer of peers.values()) peer.flush();
        for (const peer of peers.values()) await peer.settled();
        // After these turns of the loop the server has done what it does with what it read.
        for (let turn = 0; turn < 20; turn++) await new Promise(resolve => setImmediate(resolve));
        server.advance?.(Number(step.text));
        continue;
      }
      let peer = peers.get(step.connection);
      if (!peer) {
        peer = new Peer(server, ends);
        peers.set(step.connection, peer);
      }
      for (const [number, other] of peers) if (number !== step.connection) other.flush();
      try {
        await playStep(step, peer, variables);
      } catch (error) {
        throw new Error(`line ${step.line}: ${(error as Error).message}`, { cause: error });
      }
    }
    for (const peer of peers.values()) peer.flush();
  } finally {
    unsubscribe('net.server.socket', note);
    for (const peer of peers.values()) peer.destroy();
  }
}

async function playStep(step: Step, peer: Peer, variables: Map<string, string>): Promise<void> {
  const text = step.text.replace(
    /\{\{(?:(.+?)\*(\d+)|(\w+))\}\}/g,
    (all, unit?: string, times?: string, name?: string) =>
      unit === undefined ? (variables.get(name ?? '') ?? all) : unit.repeat(Number(times)),
  );
  const form = `${step.side}${step.form}`;
  if (form === 'C:') return peer.queue(Buffer.concat([bytesOf(text), Buffer.from('\r\n')]));
  if (form === 'C>') return peer.queue(bytesOf(text));
  peer.flush();
  if (form === 'C!') return peer.act(text);
  if (form === 'S!') return peer.expectClosed();
  if (form === 'S:') {
    const got = await peer.readLine();
    const wanted = bytesOf(text);
    if (!got.equals(wanted)) throw new Error(`expected ${show(wanted)}, got ${show(got)}`);
    return;
  }
  const pattern = new RegExp(`^(?:${text})$`, 'u');
  for (;;) {
    const got = await peer.readLine();
    const match = pattern.exec(got.toString('utf8'));
    if (match) {
      for (const [name, value] of Object.entries(match.groups ?? {})) variables.set(name, value);
      return;
    }
    if (step.form !== '*') throw new Error(`expected /${text}/, got ${show(got)}`);
  }
}

const show = (bytes: Buffer): string => JSON.stringify(bytes.toString('utf8'));

export function bytesOf(text: string): Buffer {
  const bytes: Buffer[] = [];
  const plain: Readonly<Record<string, string>> = { r: '\r', n: '\n', t: '\t', '0': '\0', '\\': '\\' };
  let from = 0;
  for (const match of text.matchAll(/\\(?:x([0-9a-fA-F]{2})|([rnt0\\]))/g)) {
    bytes.push(Buffer.from(text.slice(from, match.index)));
    bytes.push(match[1] === undefined ? Buffer.from(plain[match[2] ?? ''] ?? '') : Buffer.from(match[1], 'hex'));
    from = match.index + match[0].length;
  }
  return Buffer.concat([...bytes, Buffer.from(text.slice(from))]);
}

/** One client connection. */
class Peer {
  private socket: Socket;
  private received: Buffer = Buffer.alloc(0);
  private closed = false;
  private wake: (() => void) | undefined;
  private outgoing: Buffer[] = [];
  private sent = 0;
  private readonly connected: Promise<void>;
  private readonly ends: ReadonlyMap<number, Socket>;

  /** `ends`: the server's, by our port. */
  constructor(server: TranscriptServer, ends: ReadonlyMap<number, Socket>) {
    this.ends = ends;
    const { port, host = '127.0.0.1' } = server;
    this.socket = server.implicitTls
      ? tlsConnect({ port, host, rejectUnauthorized: false })
      : netConnect({ port, host, noDelay: true });
    this.connected = new Promise(resolve => {
      this.socket.once(server.implicitTls ? 'secureConnect' : 'connect', resolve);
      this.socket.once('close', () => resolve());
    });
    this.listen();
  }

  private listen(): void {
    this.socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.wake?.();
    });
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.closed = true;
      this.wake?.();
    });
  }

  queue(bytes: Buffer): void {
    this.outgoing.push(bytes);
  }

  flush(): void {
    if (this.outgoing.length === 0) return;
    const bytes = Buffer.concat(this.outgoing);
    this.outgoing = [];
    this.sent += bytes.length;
    this.socket.write(bytes);
  }

  /** Connected, and everything that was sent read by the server: on a busy machine the kernel takes its time. */
  async settled(): Promise<void> {
    await this.connected;
    for (const until = Date.now() + replyTimeoutMs; !this.closed && !this.heard(); ) {
      if (Date.now() > until) throw new Error('the server does not read what was sent');
      await new Promise(resolve => setImmediate(resolve));
    }
  }

  private heard(): boolean {
    const end = this.ends.get(this.socket.localPort ?? 0);
    return end !== undefined && end.bytesRead >= this.sent;
  }

  async act(what: string): Promise<void> {
    if (what === 'flush') return;
    if (what === 'close') this.socket.end();
    else if (what === 'reset') this.socket.resetAndDestroy();
    else if (what === 'tls') await this.startTls();
    else throw new Error(`unknown action '${what}'`);
  }

  private async startTls(): Promise<void> {
    const raw = this.socket;
    raw.removeAllListeners('data');
    raw.removeAllListeners('close');
    const secure = tlsConnect({ socket: raw, rejectUnauthorized: false, servername: 'localhost' });
    this.socket = secure;
    this.listen();
    await new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve);
      secure.once('error', reject);
      secure.once('close', () => reject(new Error('connection closed during the TLS handshake')));
    });
  }

  async readLine(): Promise<Buffer> {
    for (;;) {
      const end = this.received.indexOf('\r\n');
      if (end >= 0) {
        const line = this.received.subarray(0, end);
        this.received = this.received.subarray(end + 2);
        return line;
      }
      if (this.closed) throw new Error(`connection closed, unread: ${show(this.received)}`);
      await this.news();
    }
  }

  async expectClosed(): Promise<void> {
    while (!this.closed) {
      if (this.received.length > 0) break;
      await this.news();
    }
    if (this.received.length > 0) throw new Error(`expected the connection to close, got ${show(this.received)}`);
  }

  private news(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.wake = undefined;
        reject(new Error(`no reply, unread: ${show(this.received)}`));
      }, replyTimeoutMs);
      this.wake = () => {
        clearTimeout(timer);
        this.wake = undefined;
        resolve();
      };
    });
  }

  destroy(): void {
    this.socket.destroy();
  }
}
