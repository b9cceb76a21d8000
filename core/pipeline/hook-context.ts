// What one hook call sees. Everything that costs (signal, logger) is made when it is first asked for, because most hooks
// answer at once. Annotations and evidence are held back until the hook returned in time with a legal verdict: a plugin
// that fails leaves no half of its work behind, and what it does after its deadline has no effect.
import type { Logger } from 'pino';
import { Cancellation } from '../lib/cancellation.ts';
import type { Clock } from '../lib/clock.ts';
import { DeadlineError } from '../lib/deadline.ts';
import type { Envelope } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { HookName, Identity, Session, WithMessage } from '../plugin/contract.ts';
import type { ResultKey } from '../plugin/results.ts';
import type { LoadedEntry } from './loaded-entry.ts';
import type { Results } from './results.ts';

/** Facts of the stage. Fields of later stages are undefined, and a plugin cannot name them: `Connected` has no envelope. */
export interface Stage {
  readonly session: Session;
  readonly helo: string;
  readonly identity: Identity | undefined;
  readonly envelope: Envelope | undefined;
  readonly id: string | undefined;
  readonly message: Message | undefined;
  readonly sessionResults: Results;
  readonly transactionResults: Results | undefined;
  /** Aborts when the client is gone or the transaction over. */
  readonly parent: Cancellation;
}

export class HookContext implements Omit<WithMessage, 'identity'> {
  readonly session: Session;
  readonly helo: string;
  readonly identity: Identity | undefined;
  readonly #entry: LoadedEntry;
  readonly #hook: HookName;
  readonly #stage: Stage;
  readonly #clock: Clock;
  readonly #baseLog: Logger;
  #log: Logger | undefined;
  #deadline: Cancellation | undefined;
  #stopTimer: (() => void) | undefined;
  #leaveParent: (() => void) | undefined;
  #pending: Map<ResultKey<unknown>, unknown> | undefined;
  #evidence: Readonly<Record<string, unknown>> | undefined;
  #over = false;

  constructor(entry: LoadedEntry, hook: HookName, stage: Stage, clock: Clock, log: Logger) {
    this.#entry = entry;
    this.#hook = hook;
    this.#stage = stage;
    this.#clock = clock;
    this.#baseLog = log;
    this.session = stage.session;
    this.helo = stage.helo;
    this.identity = stage.identity;
  }

  // Only hooks of a stage that has them are given these; the cast is the price of one class for all stages.
  get envelope(): Envelope {
    return this.#stage.envelope as Envelope;
  }
  get id(): string {
    return this.#stage.id as string;
  }
  get message(): Message {
    return this.#stage.message as Message;
  }
  get signal(): AbortSignal {
    return this.#startDeadline().signal;
  }
  get log(): Logger {
    this.#log ??= this.#baseLog.child({
      session: this.session.id,
      ...(this.#stage.id === undefined ? {} : { id: this.#stage.id }),
      plugin: this.#entry.name,
      hook: this.#hook,
    });
    return this.#log;
  }

  get = <T>(key: ResultKey<T>): T | undefined => {
    if (this.#pending?.has(key)) return this.#pending.get(key) as T;
    const results = key.scope === 'session' ? this.#stage.sessionResults : this.#stage.transactionResults;
    return results?.get(key, this.#entry.observe) as T | undefined;
  };

  /** Everything that `get` would find, for a plugin that is elsewhere. */
  known(): readonly { readonly key: ResultKey<unknown>; readonly value: unknown }[] {
    const of = (scope: ResultKey<unknown>['scope'], results: Results | undefined) =>
      [...(results?.all(this.#entry.observe) ?? [])].map(([name, value]) => ({ key: { name, scope }, value }));
    return [...of('session', this.#stage.sessionResults), ...of('transaction', this.#stage.transactionResults)];
  }

  set = <T>(key: ResultKey<T>, value: T): void => {
    if (this.#over) return;
    if (!this.#entry.writes.has(key.name)) throw new Error(`Result '${key.name}' is not declared in 'writes'`);
    if (key.scope === 'transaction' && !this.#stage.transactionResults)
      throw new Error(`Result '${key.name}' belongs to a transaction and hook '${this.#hook}' has none`);
    this.#pending ??= new Map();
    this.#pending.set(key, value);
  };

  evidence = (values: Readonly<Record<string, unknown>>): void => {
    if (!this.#over) this.#evidence = this.#evidence ? { ...this.#evidence, ...values } : values;
  };

  /** Starts the clock of this call at first use. */
  #startDeadline(): Cancellation {
    if (this.#deadline) return this.#deadline;
    const deadline = new Cancellation();
    const { timeoutMs } = this.#entry;
    this.#deadline = deadline;
    this.#stopTimer = this.#clock.after(timeoutMs, () => deadline.abort(new DeadlineError(timeoutMs)));
    this.#leaveParent = this.#stage.parent.onAbort(reason => deadline.abort(reason));
    return deadline;
  }

  /** Settles as `answer` does, or rejects when the deadline passes or the client is gone, whichever is first. */
  inTime<T>(answer: PromiseLike<T>): Promise<T> {
    const deadline = this.#startDeadline();
    return new Promise<T>((resolve, reject) => {
      const forget = deadline.onAbort(reject);
      answer.then(
        value => {
          forget();
          resolve(value);
        },
        (error: unknown) => {
          forget();
          reject(error);
        },
      );
    });
  }

  /** Ends the call; `keep` takes its annotations over. Returns the evidence, which is worth having even of a failure. */
  finish(keep: boolean): Readonly<Record<string, unknown>> | undefined {
    this.#over = true;
    this.#stopTimer?.();
    this.#leaveParent?.();
    if (keep && this.#pending)
      for (const [key, value] of this.#pending) {
        const results = key.scope === 'session' ? this.#stage.sessionResults : this.#stage.transactionResults;
        results?.set(key, value, this.#entry.observe);
      }
    return this.#evidence;
  }
}
