// The plugin's end of what it may ask of the gateway: the host, built from the table of ports, and the log.
import { readSync, writeSync } from 'node:fs';
import { deserialize } from 'node:v8';
import type { Logger } from 'pino';
import { systemClock } from '../../lib/clock.ts';
import type { Ports } from './host-ports.ts';
import {
  channels,
  encodeFrame,
  type FromPlugin,
  type Question,
  type WireAnswer,
  type WireArgument,
} from './protocol.ts';
import { errorFromWire } from './wire.ts';

/** Questions under way, and log lines that the gateway has not taken yet: more are refused or left out. */
const maxQuestions = 10_000;
const maxLines = 1_000;

type Waiting = (answer: WireAnswer) => void;

export class GatewayLink {
  readonly #send: (message: FromPlugin) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #contexts = new WeakMap<object, number>();
  #nextId = 1;
  #lines = 0;
  #dropped = 0;

  constructor(send: (message: FromPlugin) => void) {
    this.#send = send;
  }

  /** One line of JSON, as the logger writes it. */
  log(line: string): void {
    if (this.#lines >= maxLines) {
      this.#dropped++;
      return;
    }
    this.#lines++;
    this.#send({ kind: 'log', line, dropped: this.#dropped });
    this.#dropped = 0;
  }
  logged(lines: number): void {
    this.#lines -= lines;
  }

  answered(id: number, answer: WireAnswer): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    waiting?.(answer);
  }

  /** The context of a call may be handed to a port: there it stands for the gateway's own. */
  know(context: object, call: number): void {
    this.#contexts.set(context, call);
  }

  host(ports: Ports, values: Readonly<Record<string, unknown>>, local: { readonly log: Logger }): unknown {
    return this.#build(ports, values, { clock: systemClock, ...local }, []);
  }

  #build(
    ports: Ports,
    values: Readonly<Record<string, unknown>>,
    local: Readonly<Record<string, unknown>>,
    path: readonly string[],
  ): unknown {
    const built: Record<string, unknown> = {};
    for (const [name, crossing] of Object.entries(ports)) {
      const here = [...path, name];
      if (crossing === 'value') built[name] = values[here.join('.')];
      else if (crossing === 'local') built[name] = local[name];
      else if (crossing === 'sync')
        built[name] = (...args: readonly unknown[]) => this.#askNow({ of: 'host', path: here, args: args.map(value) });
      else if (crossing === 'async')
        built[name] = (...args: readonly unknown[]) => this.#ask({ of: 'host', path: here }, args);
      else if (crossing === 'none')
        built[name] = () => {
          throw new Error(`'host.${here.join('.')}' is not available to an isolated plugin`);
        };
      else built[name] = this.#build(crossing, values, local, here);
    }
    return built;
  }

  async #ask(named: Pick<Question, 'of' | 'path'>, args: readonly unknown[]): Promise<unknown> {
    const signal = args.find(argument => argument instanceof AbortSignal);
    signal?.throwIfAborted();
    if (this.#waiting.size >= maxQuestions) throw new Error('Too many questions to the host under way');
    const id = this.#nextId++;
    const cancel = (): void => this.#send({ kind: 'cancel', id });
    try {
      const answer = await new Promise<WireAnswer>(resolve => {
        this.#send({ kind: 'question', id, question: { ...named, args: args.map(arg => this.#argument(arg)) } });
        this.#waiting.set(id, resolve);
        signal?.addEventListener('abort', cancel, { once: true });
      });
      // What a signal aborts with is known on this side better than on the other.
      if (answer.kind === 'error') signal?.throwIfAborted();
      return this.#open(answer);
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  #argument(argument: unknown): WireArgument {
    if (argument instanceof AbortSignal) return { kind: 'signal' };
    const call = typeof argument === 'object' && argument !== null ? this.#contexts.get(argument) : undefined;
    return call === undefined ? value(argument) : { kind: 'context', call };
  }

  #open(answer: WireAnswer): unknown {
    if (answer.kind === 'error') throw errorFromWire(answer.error);
    if (answer.kind === 'value') return answer.value;
    const { object: of, methods } = answer;
    const methodOf =
      (name: string) =>
      (...args: readonly unknown[]) =>
        this.#ask({ of, path: [name] }, args);
    return Object.fromEntries(methods.map(name => [name, methodOf(name)]));
  }

  #askNow(question: Question): unknown {
    writeAll(encodeFrame(question));
    const length = readExactly(4).readUInt32BE();
    return this.#open(deserialize(readExactly(length)) as WireAnswer);
  }
}

const value = (argument: unknown): WireArgument => ({ kind: 'value', value: argument });

function writeAll(bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(channels.questions, bytes, at);
}

function readExactly(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const read = readSync(channels.questions, bytes, at, size - at, null);
    if (read === 0) throw new Error('The gateway is gone');
    at += read;
  }
  return bytes;
}
