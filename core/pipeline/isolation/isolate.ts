// `isolate` of a chain entry: the plugin as the chain sees it, running in a process of its own. What ends that process
// costs the verdicts that are under way on it (`onError`), nothing else; it is replaced at once, and after growing pauses
// when it keeps ending. A hook that goes on past its deadline is ended with its process.
import { deserialize } from 'node:v8';
import type { Logger } from 'pino';
import { z } from '../../config/schema.ts';
import type { Clock } from '../../lib/clock.ts';
import { DeadlineError, raceSignal, startDeadline } from '../../lib/deadline.ts';
import type { Message } from '../../mail/message.ts';
import type { CheckHost, HookName, Host, Plugin, PluginInstance } from '../../plugin/contract.ts';
import type { HookContext } from '../hook-context.ts';
import { hookNames } from '../hook-table.ts';
import { checkPorts, hostPorts, type Ports } from './host-ports.ts';
import { Life, type LifeOptions } from './life.ts';
import type { Order, Outcome, PluginDescription, PluginSource } from './protocol.ts';
import { errorFromWire, messageToWire, resultToWire } from './wire.ts';

export interface IsolateTerms {
  readonly memoryBytes: number;
}
export interface IsolatedEntry {
  readonly name: string;
  readonly source: PluginSource;
  readonly options: unknown;
  readonly timeoutMs: number;
  readonly terms: IsolateTerms;
}

/** Longest time to load a plugin and to say what it is. */
const describeMs = 30_000;
/** Longest setup; below what the chain waits for one, so that the reason is ours to give. */
const setupMs = 50_000;
/** What a hook gets to end its work once its deadline passed, before its process is ended. */
const graceMs = 1_000;
/** Pauses before a process that ended is replaced; a life of this length starts over. */
const firstPauseMs = 1_000;
const maxPauseMs = 60_000;
const goodLifeMs = 60_000;

type Base = Omit<LifeOptions, 'purpose' | 'host' | 'ports' | 'log'>;
const baseOf = ({ name, source, options, terms }: IsolatedEntry): Base => ({
  entry: name,
  source,
  options,
  memoryBytes: terms.memoryBytes,
});

/** Loads the plugin in a process of its own only, to learn what it is and whether its options are valid. */
async function describe(entry: IsolatedEntry, clock: Clock, log: Logger): Promise<PluginDescription> {
  const life = new Life({ ...baseOf(entry), purpose: 'describe', host: {}, ports: {}, log });
  const deadline = startDeadline(clock, describeMs);
  try {
    return await raceSignal(life.description(), deadline.signal);
  } catch (cause) {
    const message = `Could not load plugin '${entry.source.spec}': ${(cause as Error).message}`;
    throw new Error(message, { cause });
  } finally {
    deadline.done();
    life.kill('Described');
    await life.ended;
  }
}

/**
 * `known`: a built-in plugin, which is told to be what it is without a process.
 * @throws Error where the module cannot be loaded or is no plugin.
 */
export async function isolatePlugin(
  entry: IsolatedEntry,
  known: Plugin<unknown> | undefined,
  clock: Clock,
  log: Logger,
): Promise<{ readonly plugin: Plugin<unknown>; readonly problems: PluginDescription['problems'] }> {
  const setup = (_: unknown, host: Host): Promise<PluginInstance> => setUpIsolated(entry, host, clock);
  const check = (_: unknown, host: CheckHost): Promise<readonly string[]> => checkIsolated(entry, host, clock, log);
  if (known) return { plugin: { ...known, setup }, problems: [] };
  const { name, doc, reads, writes, checks, history, problems } = await describe(entry, clock, log);
  const plugin: Plugin<unknown> = {
    name,
    doc,
    reads,
    writes,
    options: z.unknown(),
    setup,
    ...(checks ? { check } : {}),
    ...(history ? { history } : {}),
  };
  return { plugin, problems };
}

async function checkIsolated(
  entry: IsolatedEntry,
  host: CheckHost,
  clock: Clock,
  log: Logger,
): Promise<readonly string[]> {
  const life = new Life({ ...baseOf(entry), purpose: 'check', host, ports: checkPorts as Ports, log });
  const deadline = startDeadline(clock, describeMs);
  try {
    await raceSignal(life.ready(), deadline.signal);
    const { answer } = await raceSignal(life.order({ kind: 'check' }).outcome, deadline.signal);
    if ('error' in answer) throw errorFromWire(answer.error);
    return (answer.value as readonly string[] | undefined) ?? [];
  } finally {
    deadline.done();
    life.kill('Checked');
    await life.ended;
  }
}

async function setUpIsolated(entry: IsolatedEntry, host: Host, clock: Clock): Promise<PluginInstance> {
  const process = new IsolatedProcess(entry, host, clock);
  const methods = await process.begin();
  const hooks = hookNames
    .filter(hook => methods.has(hook))
    .map(hook => [hook, (at: HookContext, extra: unknown) => process.hook(hook, at, extra)] as const);
  const instance = {
    ...Object.fromEntries(hooks),
    status: () => process.status(methods.has('status')),
    close: () => process.close(),
  } as PluginInstance;
  if (!methods.has('learn')) return instance;
  return { ...instance, learn: (message, as, recipient, signal) => process.learn(message, as, recipient, signal) };
}

class IsolatedProcess {
  readonly #entry: IsolatedEntry;
  readonly #host: Host;
  readonly #clock: Clock;
  #life: Promise<Life> | undefined;
  #current: Life | undefined;
  #cancelStart: (() => void) | undefined;
  #retryAt = 0;
  #pauseMs = 0;
  #ends = 0;
  #lastWhy: string | undefined;
  #closed: Promise<void> | undefined;

  constructor(entry: IsolatedEntry, host: Host, clock: Clock) {
    this.#entry = entry;
    this.#host = host;
    this.#clock = clock;
  }

  /** The first start, whose failure is the caller's. */
  async begin(): Promise<ReadonlySet<string>> {
    const life = this.#newLife();
    const startedAt = this.#clock.monotonic();
    try {
      const methods = await this.#readyInTime(life);
      this.#life = Promise.resolve(life);
      void life.ended.then(why => this.#onEnd(life, why, startedAt));
      return methods;
    } catch (error) {
      life.kill('Setup failed');
      throw error;
    }
  }

  async hook(hook: HookName, at: HookContext, extra: unknown): Promise<unknown> {
    // First, so that waiting for a process that begins counts too.
    const { signal } = at;
    const life = await this.#ready(signal);
    const context = {
      session: at.session,
      helo: at.helo,
      identity: at.identity,
      envelope: at.envelope,
      id: at.id,
      message: at.message && messageToWire(at.message),
      results: at.known().flatMap(({ key, value }) => resultToWire(key, value) ?? []),
    };
    const { results, evidence, answer } = await this.#order(life, { kind: 'hook', hook, context, extra }, signal, at);
    if (evidence) at.evidence(evidence);
    for (const { name, scope, value } of results) at.set({ name, scope }, deserialize(value));
    if ('error' in answer) throw errorFromWire(answer.error);
    return answer.value;
  }

  async learn(message: Message, as: 'spam' | 'ham', recipient: string, signal: AbortSignal): Promise<void> {
    const life = await this.#ready(signal);
    const order: Order = { kind: 'learn', message: messageToWire(message), as, recipient };
    const { answer } = await this.#order(life, order, signal);
    if ('error' in answer) throw errorFromWire(answer.error);
  }

  async status(asks: boolean): Promise<Readonly<Record<string, unknown>>> {
    const own = {
      isolated: this.#current ? 'running' : 'not running',
      ...(this.#ends > 0 ? { restarts: this.#ends, lastEnd: this.#lastWhy } : {}),
    };
    if (!asks || !this.#current) return own;
    const { answer } = await this.#current.order({ kind: 'status' }).outcome;
    if ('error' in answer) throw errorFromWire(answer.error);
    return { ...own, ...(answer.value as object) };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#cancelStart?.();
    const life = await this.#life?.catch(() => undefined);
    if (!life) return;
    const deadline = startDeadline(this.#clock, this.#entry.timeoutMs);
    try {
      await raceSignal(life.order({ kind: 'close' }).outcome, deadline.signal);
    } catch (err) {
      this.#host.log.warn({ err }, 'Isolated plugin did not close');
    } finally {
      deadline.done();
      life.kill('Closed');
      await life.ended;
    }
  }

  #newLife(): Life {
    const life = new Life({
      ...baseOf(this.#entry),
      purpose: 'run',
      host: this.#host,
      ports: hostPorts as Ports,
      log: this.#host.log,
    });
    this.#current = life;
    return life;
  }

  async #ready(signal: AbortSignal): Promise<Life> {
    if (this.#life) return raceSignal(this.#life, signal);
    const inMs = Math.max(0, this.#retryAt - this.#clock.monotonic());
    throw new Error(`Isolated plugin ended (${this.#lastWhy}) and starts again in ${Math.ceil(inMs / 1000)} s`);
  }

  /** Ends the process of a plugin that does not come back from an order after it was told to. */
  async #order(life: Life, order: Order, signal: AbortSignal, context?: unknown): Promise<Outcome> {
    const { outcome, abort } = life.order(order, context);
    const startedAt = this.#clock.monotonic();
    let cancel = (): void => {};
    const onAbort = (): void => {
      const reason = signal.reason as Error;
      abort(reason);
      // A client that is gone takes nothing from the time that the plugin has.
      const spent = this.#clock.monotonic() - startedAt;
      const left = reason instanceof DeadlineError ? 0 : Math.max(0, this.#entry.timeoutMs - spent);
      cancel = this.#clock.after(left + graceMs, () => life.kill('Did not stop at its deadline'));
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await outcome;
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** `life`: absent where it could not even begin. */
  #onEnd(life: Life | undefined, why: string, startedAt: number): void {
    if (this.#current === life) this.#current = undefined;
    if (this.#closed) return;
    this.#ends++;
    this.#lastWhy = why;
    this.#life = undefined;
    const lived = this.#clock.monotonic() - startedAt;
    this.#pauseMs = lived >= goodLifeMs ? 0 : Math.min(maxPauseMs, Math.max(firstPauseMs, this.#pauseMs * 2));
    // The first of a series is replaced at once.
    const pauseMs = this.#ends === 1 ? 0 : this.#pauseMs;
    this.#host.log.warn({ why, retryMs: pauseMs }, 'Isolated plugin ended');
    this.#retryAt = this.#clock.monotonic() + pauseMs;
    if (pauseMs === 0) this.#restart();
    else this.#cancelStart = this.#clock.after(pauseMs, () => this.#restart());
  }

  async #readyInTime(life: Life): Promise<ReadonlySet<string>> {
    const deadline = startDeadline(this.#clock, setupMs);
    try {
      return await raceSignal(life.ready(), deadline.signal);
    } finally {
      deadline.done();
    }
  }

  #restart(): void {
    const startedAt = this.#clock.monotonic();
    let life: Life;
    try {
      life = this.#newLife();
    } catch (error) {
      this.#onEnd(undefined, (error as Error).message, startedAt);
      return;
    }
    void life.ended.then(why => this.#onEnd(life, why, startedAt));
    this.#life = this.#readyInTime(life).then(
      () => life,
      (error: Error) => {
        life.kill(`Setup failed: ${error.message}`);
        throw error;
      },
    );
    this.#life.catch(() => undefined);
  }
}
