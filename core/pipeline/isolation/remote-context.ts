// What a hook of an isolated plugin is given: the contract's context over what crossed with the call. Annotations and
// evidence go back with the answer.
import { deserialize } from 'node:v8';
import type { Logger } from 'pino';
import type { Envelope } from '../../mail/envelope.ts';
import type { Message } from '../../mail/message.ts';
import type { Identity, PluginInstance, Session, WithMessage } from '../../plugin/contract.ts';
import type { ResultKey } from '../../plugin/results.ts';
import type { GatewayLink } from './gateway-link.ts';
import type { Order, Outcome, WireResult } from './protocol.ts';
import { errorToWire, messageFromWire, resultToWire } from './wire.ts';

type HookOrder = Extract<Order, { readonly kind: 'hook' }>;

export interface CallParts {
  readonly call: number;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly writes: ReadonlySet<string>;
  readonly link: GatewayLink;
}

const slot = ({ name, scope }: Pick<ResultKey<unknown>, 'name' | 'scope'>): string => `${scope} ${name}`;

export class RemoteContext implements Omit<WithMessage, 'identity'> {
  readonly session: Session;
  readonly helo: string;
  readonly identity: Identity | undefined;
  readonly signal: AbortSignal;
  readonly #order: HookOrder;
  readonly #parts: CallParts;
  readonly #known: ReadonlyMap<string, Buffer>;
  readonly #written = new Map<string, WireResult>();
  readonly #values = new Map<string, unknown>();
  #log: Logger | undefined;
  #message: Message | undefined;
  #evidence: Readonly<Record<string, unknown>> | undefined;

  constructor(order: HookOrder, parts: CallParts) {
    const { context } = order;
    this.session = context.session;
    this.helo = context.helo;
    this.identity = context.identity;
    this.signal = parts.signal;
    this.#order = order;
    this.#parts = parts;
    this.#known = new Map(context.results.map(result => [slot(result), result.value]));
    parts.link.know(this, parts.call);
  }

  // Only hooks of a stage that has them are given these.
  get envelope(): Envelope {
    return this.#order.context.envelope as Envelope;
  }
  get id(): string {
    return this.#order.context.id as string;
  }
  get message(): Message {
    const { message } = this.#order.context;
    if (message) this.#message ??= messageFromWire(message);
    return this.#message as Message;
  }
  get log(): Logger {
    const { id } = this.#order.context;
    this.#log ??= this.#parts.log.child({
      session: this.session.id,
      ...(id === undefined ? {} : { id }),
      hook: this.#order.hook,
    });
    return this.#log;
  }

  get = <T>(key: ResultKey<T>): T | undefined => {
    const at = slot(key);
    if (this.#values.has(at)) return this.#values.get(at) as T;
    const known = this.#known.get(at);
    if (!known) return undefined;
    const value = deserialize(known) as T;
    this.#values.set(at, value);
    return value;
  };

  set = <T>(key: ResultKey<T>, value: T): void => {
    if (!this.#parts.writes.has(key.name)) throw new Error(`Result '${key.name}' is not declared in 'writes'`);
    if (key.scope === 'transaction' && this.#order.context.id === undefined)
      throw new Error(`Result '${key.name}' belongs to a transaction and hook '${this.#order.hook}' has none`);
    const written = resultToWire(key, value);
    if (!written) throw new Error(`Result '${key.name}' of an isolated plugin must be plain data`);
    this.#values.set(slot(key), value);
    this.#written.set(slot(key), written);
  };

  evidence = (values: Readonly<Record<string, unknown>>): void => {
    this.#evidence = { ...this.#evidence, ...values };
  };

  async run(instance: PluginInstance): Promise<Outcome> {
    const hooks = instance as Readonly<Record<string, (at: unknown, extra: unknown) => unknown>>;
    let answer: Outcome['answer'];
    try {
      answer = { value: await hooks[this.#order.hook]?.call(instance, this, this.#order.extra) };
    } catch (error) {
      answer = { error: errorToWire(error) };
    }
    return { results: [...this.#written.values()], evidence: this.#evidence, answer };
  }
}
