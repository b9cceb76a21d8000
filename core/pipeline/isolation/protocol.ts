// What the gateway and an isolated plugin say to each other: one typed list for both ends. Frames over a socket, four
// bytes of length and then a structured clone, so that values arrive as they were sent; objects with a life (signals,
// contexts, messages, what a port hands out) cross as what `wire.ts` makes of them.
// On a second socket the plugin asks what its contract answers at once (`host.isRelayClient`): there it waits for the
// answer with its thread standing still. The gateway never waits for the plugin in that way.
import { deserialize, serialize } from 'node:v8';
import type { Envelope } from '../../mail/envelope.ts';
import type { FileRange } from '../../mail/rope.ts';
import type { HookName, Identity, Session } from '../../plugin/contract.ts';
import type { ResultKey } from '../../plugin/results.ts';
import type { OptionProblem } from '../validate-options.ts';

/** Bytes of one frame; a replaced body is the largest that is sent. */
const maxFrameBytes = 256 * 1024 * 1024;
const lengthBytes = 4;

/** Numbers of the sockets in the plugin's process. */
export const channels = { frames: 3, questions: 4, helper: 5 } as const;

export interface WireError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
}

export interface WireMessage {
  readonly section: { readonly bytes: Buffer; readonly end: number; readonly bodyStart: number };
  /** What lies in a file is read by the plugin's process itself. */
  readonly pieces: readonly (Buffer | FileRange)[];
}

/** An annotation as it travels: its value is read where somebody asks for it. */
export interface WireResult {
  readonly name: string;
  readonly scope: ResultKey<unknown>['scope'];
  readonly value: Buffer;
}

export interface WireContext {
  readonly session: Session;
  readonly helo: string;
  readonly identity: Identity | undefined;
  readonly envelope: Envelope | undefined;
  readonly id: string | undefined;
  readonly message: WireMessage | undefined;
  readonly results: readonly WireResult[];
}

/** What is asked of the plugin. */
export type Order =
  | { readonly kind: 'hook'; readonly hook: HookName; readonly context: WireContext; readonly extra: unknown }
  | {
      readonly kind: 'learn';
      readonly message: WireMessage;
      readonly as: 'spam' | 'ham';
      readonly recipient: string;
    }
  | { readonly kind: 'status' | 'close' | 'check' };

export interface Outcome {
  readonly results: readonly WireResult[];
  readonly evidence: Readonly<Record<string, unknown>> | undefined;
  readonly answer: { readonly value: unknown } | { readonly error: WireError };
}

/** Arguments of a port: a signal and the context of a call cannot be copied. */
export type WireArgument =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'signal' }
  | { readonly kind: 'context'; readonly call: number };

/** A function of the host, by its path, or of an object that a port handed out, by its number. */
export interface Question {
  readonly of: 'host' | number;
  readonly path: readonly string[];
  readonly args: readonly WireArgument[];
}

export type WireAnswer =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'object'; readonly object: number; readonly methods: readonly string[] }
  | { readonly kind: 'error'; readonly error: WireError };

export interface PluginSource {
  readonly spec: string;
  /** URL of the module. */
  readonly module: string;
}

export type ToPlugin =
  /** The first frame. `describe`: only say what the plugin is and whether the options are valid. */
  | {
      readonly kind: 'load';
      readonly purpose: 'describe' | 'check' | 'run';
      readonly entry: string;
      readonly source: PluginSource;
      readonly options: unknown;
      /** Of the host, what is a plain value, by path. */
      readonly values: Readonly<Record<string, unknown>>;
      readonly logLevel: string;
    }
  | { readonly kind: 'order'; readonly id: number; readonly order: Order }
  /** `limitMs`: its deadline passed. */
  | { readonly kind: 'abort'; readonly id: number; readonly why: string; readonly limitMs?: number }
  | { readonly kind: 'answer'; readonly id: number; readonly answer: WireAnswer }
  | { readonly kind: 'logged'; readonly lines: number };

export interface PluginDescription {
  readonly name: string;
  readonly doc: string;
  readonly reads: readonly ResultKey<unknown>[];
  readonly writes: readonly ResultKey<unknown>[];
  readonly checks: boolean;
  /** As `Plugin.history`. */
  readonly history: boolean;
  readonly problems: readonly OptionProblem[];
}

export type FromPlugin =
  | { readonly kind: 'described'; readonly description: PluginDescription }
  /** Set up: the hooks that there are, and `status`, `learn`. */
  | { readonly kind: 'ready'; readonly methods: readonly string[] }
  | { readonly kind: 'failed'; readonly error: WireError }
  | { readonly kind: 'outcome'; readonly id: number; readonly outcome: Outcome }
  | { readonly kind: 'question'; readonly id: number; readonly question: Question }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'log'; readonly line: string; readonly dropped: number };

/**
 * Between the gateway and the first thread of the plugin's process. On a socket of ours and not Node's own between processes,
 * whose parser throws where nobody can catch it: the plugin can write there, too.
 */
export interface Start {
  readonly memoryBytes: number;
}
export interface Ended {
  readonly why: string;
}

/** @throws where a value cannot be copied: it is or holds a function. */
export function encodeFrame(message: ToPlugin | FromPlugin | Question | WireAnswer | Start | Ended): Buffer {
  const body = serialize(message);
  const frame = Buffer.allocUnsafe(lengthBytes + body.length);
  frame.writeUInt32BE(body.length);
  body.copy(frame, lengthBytes);
  return frame;
}

/** Puts frames together from what a socket gives. */
export class FrameReader<Message> {
  #chunks: Buffer[] = [];
  #held = 0;
  #wanted: number | undefined;

  /** @throws where a frame is larger than any may be. */
  push(chunk: Buffer): readonly Message[] {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    const messages: Message[] = [];
    for (;;) {
      if (this.#wanted === undefined) {
        const head = this.#take(lengthBytes);
        if (!head) return messages;
        this.#wanted = head.readUInt32BE();
        if (this.#wanted > maxFrameBytes) throw new Error(`Frame of ${this.#wanted} bytes`);
      }
      const body = this.#take(this.#wanted);
      if (!body) return messages;
      this.#wanted = undefined;
      messages.push(deserialize(body) as Message);
    }
  }

  #take(size: number): Buffer | undefined {
    if (this.#held < size) return undefined;
    const first = this.#chunks[0];
    const all = this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks);
    this.#held -= size;
    this.#chunks = this.#held > 0 ? [all.subarray(size)] : [];
    return all.subarray(0, size);
  }
}
