// One life of an isolated plugin: its process from start to end, whatever ends it. All that is under way then is rejected
// with the reason. The gateway reads at its own pace and never waits: a plugin that floods it is held by its own socket.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { DeadlineError } from '../../lib/deadline.ts';
import { PortServer, type Ports, valuesOf } from './host-ports.ts';
import {
  channels,
  type Ended,
  encodeFrame,
  FrameReader,
  type FromPlugin,
  type Order,
  type Outcome,
  type PluginDescription,
  type PluginSource,
  type Question,
  type ToPlugin,
  type WireArgument,
} from './protocol.ts';
import { errorFromWire } from './wire.ts';

const helper = fileURLToPath(new URL(`./helper${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));

/** Of what a plugin prints, and of the last words of a process. */
const maxPrintedLines = 100;
const maxLineBytes = 500;
/** Log lines between two receipts. */
const receiptEvery = 100;
/** How long the last output is waited for once the process is gone. */
const lastWordsMs = 500;

export interface LifeOptions {
  readonly entry: string;
  readonly source: PluginSource;
  readonly options: unknown;
  readonly purpose: 'describe' | 'check' | 'run';
  readonly memoryBytes: number;
  readonly host: object;
  readonly ports: Ports;
  readonly log: Logger;
}

interface Waiting {
  /** What the plugin may hand back to a port. */
  readonly context: unknown;
  resolve(outcome: Outcome): void;
  reject(error: Error): void;
}

type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';
const levels: Readonly<Record<number, LogLevel>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
};

export class Life {
  readonly #options: LifeOptions;
  readonly #child: ChildProcess;
  readonly #frames: Duplex;
  readonly #ports: PortServer;
  readonly #waiting = new Map<number, Waiting>();
  readonly #questions = new Map<number, AbortController>();
  readonly #first: Promise<FromPlugin>;
  readonly ended: Promise<string>;
  #tellFirst: (message: FromPlugin) => void = () => {};
  #nextId = 1;
  #linesTaken = 0;
  #printed = 0;
  #why: string | undefined;
  #over = false;

  constructor(options: LifeOptions) {
    this.#options = options;
    this.#ports = new PortServer(options.host, options.ports);
    this.#child = spawn(process.execPath, [helper], { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'] });
    this.#first = new Promise(resolve => {
      this.#tellFirst = resolve;
    });
    this.ended = this.#watch();
    const stdio = this.#child.stdio as readonly unknown[] | undefined;
    // Then its `error` is still to come.
    if (!stdio) throw new Error('No file descriptors are left for a process');
    this.#frames = stdio[channels.frames] as Duplex;
    this.#serveHelper(stdio[channels.helper] as Duplex);
    this.#serveFrames();
    this.#serveQuestions(stdio[channels.questions] as Duplex);
    this.#send({
      kind: 'load',
      purpose: options.purpose,
      entry: options.entry,
      source: options.source,
      options: options.options,
      values: valuesOf(options.host, options.ports),
      logLevel: options.log.level,
    });
  }

  /** For the purpose `describe`. */
  async description(): Promise<PluginDescription> {
    const first = await this.#firstOrEnd();
    if (first.kind !== 'described') throw new Error('The plugin did not say what it is');
    return first.description;
  }

  /** Set up; the hooks that there are. */
  async ready(): Promise<ReadonlySet<string>> {
    const first = await this.#firstOrEnd();
    if (first.kind !== 'ready') throw new Error('The plugin did not get ready');
    return new Set(first.methods);
  }

  async #firstOrEnd(): Promise<FromPlugin> {
    const gone = this.ended.then((why): never => {
      throw new Error(why);
    });
    const first = await Promise.race([this.#first, gone]);
    if (first.kind === 'failed') throw errorFromWire(first.error);
    return first;
  }

  /** `abort` takes effect in the plugin; the promise settles with its answer or with its end. */
  order(
    order: Order,
    context?: unknown,
  ): { readonly outcome: Promise<Outcome>; readonly abort: (reason: Error) => void } {
    const id = this.#nextId++;
    const outcome = new Promise<Outcome>((resolve, reject) => {
      if (this.#over) return reject(new Error(this.#why ?? 'The plugin ended'));
      this.#waiting.set(id, { context, resolve, reject });
      try {
        this.#send({ kind: 'order', id, order });
      } catch (error) {
        this.#waiting.delete(id);
        reject(error as Error);
      }
    });
    const abort = (reason: Error): void => {
      const limit = reason instanceof DeadlineError ? { limitMs: reason.limitMs } : {};
      if (this.#waiting.has(id)) this.#send({ kind: 'abort', id, why: reason.message, ...limit });
    };
    return { outcome, abort };
  }

  /** At once, whatever it does. */
  kill(why: string): void {
    this.#why ??= why;
    this.#child.kill('SIGKILL');
  }

  #send(message: ToPlugin): void {
    if (!this.#over) this.#frames.write(encodeFrame(message));
  }

  #watch(): Promise<string> {
    const child = this.#child;
    this.#print(child.stdout);
    this.#print(child.stderr);
    return new Promise(resolve => {
      child.once('error', error => {
        this.#why ??= error.message;
        resolve(this.#end());
      });
      child.once('exit', (code, signal) => {
        const end = (): void => {
          clearTimeout(timer);
          // V8 has no other way to say that a single allocation was too large.
          this.#why ??= signal === null ? `Process ended with code ${code}` : `Process ended by ${signal}`;
          resolve(this.#end());
        };
        // Timers come before input: what lies there already is still read.
        const timer = setTimeout(() => setImmediate(end), lastWordsMs);
        child.once('close', end);
      });
    });
  }

  #end(): string {
    this.#over = true;
    const why = this.#why ?? 'Process ended';
    for (const { reject } of this.#waiting.values()) reject(new Error(`Isolated plugin ended: ${why}`));
    this.#waiting.clear();
    for (const controller of this.#questions.values()) controller.abort(new Error('The plugin ended'));
    this.#questions.clear();
    for (const stream of this.#child.stdio ?? []) stream?.destroy();
    return why;
  }

  #print(stream: NodeJS.ReadableStream | null): void {
    stream?.on('data', (chunk: Buffer) => {
      for (const line of chunk.toString().split('\n')) {
        if (line.startsWith('FATAL ERROR') && /heap|memory|allocation|invalid.*size/i.test(line))
          this.#why ??= `Used more than its ${Math.ceil(this.#options.memoryBytes / 1024 ** 2)} MiB of memory`;
        if (line.trim() === '' || this.#printed >= maxPrintedLines) continue;
        this.#printed++;
        this.#options.log.info({ printed: line.slice(0, maxLineBytes) }, 'Isolated plugin printed');
      }
    });
  }

  #serveHelper(stream: Duplex): void {
    const reader = new FrameReader<Ended>();
    stream.on('error', () => {});
    stream.on('data', (chunk: Buffer) => {
      try {
        for (const { why } of reader.push(chunk)) this.#why ??= String(why);
      } catch (error) {
        this.kill(`Sent what is no message: ${(error as Error).message}`);
      }
    });
    stream.write(encodeFrame({ memoryBytes: this.#options.memoryBytes }));
  }

  #serveFrames(): void {
    const reader = new FrameReader<FromPlugin>();
    this.#frames.on('error', () => {});
    this.#frames.on('data', (chunk: Buffer) => {
      try {
        for (const message of reader.push(chunk)) this.#take(message);
      } catch (error) {
        this.kill(`Sent what is no message: ${(error as Error).message}`);
      }
    });
  }

  #take(message: FromPlugin): void {
    switch (message.kind) {
      case 'outcome': {
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        waiting?.resolve(message.outcome);
        break;
      }
      case 'question':
        void this.#answer(message.id, message.question);
        break;
      case 'cancel':
        this.#questions.get(message.id)?.abort(new Error('No longer wanted'));
        break;
      case 'log':
        this.#log(message.line, message.dropped);
        break;
      default:
        this.#tellFirst(message);
    }
  }

  async #answer(id: number, question: Question): Promise<void> {
    const controller = new AbortController();
    this.#questions.set(id, controller);
    const answer = await this.#ports.answer(question, argument => this.#revive(argument, controller.signal));
    this.#questions.delete(id);
    try {
      this.#send({ kind: 'answer', id, answer });
    } catch (error) {
      const { name, message } = error as Error;
      this.#send({ kind: 'answer', id, answer: { kind: 'error', error: { name, message } } });
    }
  }

  #revive(argument: WireArgument, signal: AbortSignal): unknown {
    if (argument.kind === 'signal') return signal;
    return argument.kind === 'context' ? this.#waiting.get(argument.call)?.context : argument.value;
  }

  /** The plugin's thread stands still meanwhile; ours does not. */
  #serveQuestions(stream: Duplex): void {
    const reader = new FrameReader<Question>();
    stream.on('error', () => {});
    stream.on('data', async (chunk: Buffer) => {
      try {
        for (const question of reader.push(chunk)) {
          const answer = await this.#ports.answer(question, argument =>
            argument.kind === 'value' ? argument.value : undefined,
          );
          if (!this.#over) stream.write(encodeFrame(answer));
        }
      } catch (error) {
        this.kill(`Asked what cannot be answered: ${(error as Error).message}`);
      }
    });
  }

  #log(line: string, dropped: number): void {
    this.#linesTaken++;
    if (this.#linesTaken % receiptEvery === 0) this.#send({ kind: 'logged', lines: receiptEvery });
    const { level, time: _time, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
    const write = levels[Number(level)] ?? 'info';
    this.#options.log[write]({ ...fields, ...(dropped > 0 ? { linesDropped: dropped } : {}) }, String(msg ?? ''));
  }
}
