// Builds the chain from its entries: options by each plugin's schema, annotations written before they are read, setup in
// order. Whatever fails, everything that was set up is closed again, so a reload that fails leaves nothing behind.
// `close` waits for the last session, then closes in reverse order: a plugin may rely on those before it.
// An entry that is as it was is kept by the chain that replaces its own: connections, caches and counters live on, and it
// is closed by the last chain that holds it.
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { raceSignal, startDeadline } from '../lib/deadline.ts';
import type { Message } from '../mail/message.ts';
import type { HookName, Host, PluginInstance, Session } from '../plugin/contract.ts';
import { applyEdits, type Draft } from './apply-edits.ts';
import type { Chain, ChainSession } from './chain.ts';
import { type HookLists, LiveSession } from './chain-session.ts';
import { deliverHook } from './deliver-hook.ts';
import { hookNames, mapHooks } from './hook-table.ts';
import { learnFrom } from './learn.ts';
import type { ChainEntry, LoadedEntry } from './loaded-entry.ts';
import { validateOptions } from './validate-options.ts';

export interface ChainProblem {
  /** Name of the entry. */
  readonly entry: string;
  /** Where in the configuration. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** The chain cannot be loaded as configured; `problems` holds all that was found. */
export class ChainError extends Error {
  override readonly name = 'ChainError';
  readonly problems: readonly ChainProblem[];
  constructor(problems: readonly ChainProblem[], cause?: unknown) {
    super(problems.map(problem => `${problem.entry}: ${problem.message}`).join('; '), { cause });
    this.problems = problems;
  }
}

export interface ChainDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** The host of one entry: its own logger and data folder, made before this returns. */
  hostFor(entryName: string): Host | Promise<Host>;
  /** Whether what the entry was given by its host is still as it was: files that it read; default: yes. */
  mayKeep?(entryName: string): boolean | Promise<boolean>;
  /** Longest `setup` of one plugin, and longest `close`; default 60 s and 10 s. */
  readonly setupMs?: number;
  readonly closeMs?: number;
}

/** Longest that `status` waits for one plugin: longer than the usual connectTimeout of engines, so that it says which host hangs. */
const statusMs = 10_000;

/** Options of every entry, or what is wrong with them. Sets nothing up: also for `config check`. */
export function validateChain(entries: readonly ChainEntry[]): {
  readonly options: readonly unknown[];
  readonly problems: readonly ChainProblem[];
} {
  const problems: ChainProblem[] = [];
  const written = new Set<string>();
  const names = new Set<string>();
  const options = entries.map(entry => {
    const at = entry.path ?? [];
    const problem = (message: string, path: readonly PropertyKey[] = []): void => {
      problems.push({ entry: entry.name, path: [...at, ...(path as (string | number)[])], message });
    };
    if (names.has(entry.name)) problem(`There are two entries '${entry.name}': give one of them another name`);
    names.add(entry.name);
    for (const key of entry.plugin.reads ?? [])
      if (!written.has(key.name)) problem(`Reads '${key.name}', which no earlier entry writes`);
    for (const key of entry.plugin.writes ?? []) written.add(key.name);
    const checked = validateOptions(entry.plugin, entry.options);
    if ('options' in checked) return checked.options;
    for (const { message, path } of checked.problems) problem(message, path);
    return undefined;
  });
  return { options, problems };
}

/** A plugin that is set up, and how many chains hold it. */
interface Held {
  readonly entry: ChainEntry;
  readonly instance: PluginInstance;
  holders: number;
}

/**
 * `previous`: the chain that this one replaces, whose entries are kept where nothing changed.
 * @throws ChainError where entries do not validate or a plugin's `setup` fails.
 */
export async function loadChain(entries: readonly ChainEntry[], deps: ChainDeps, previous?: Chain): Promise<Chain> {
  const { options, problems } = validateChain(entries);
  if (problems.length > 0) throw new ChainError(problems);
  const held: Held[] = [];
  const kept: string[] = [];
  for (const [index, entry] of entries.entries()) {
    try {
      const old = previous instanceof LoadedChain ? await keepable(previous.held, entry, deps) : undefined;
      if (old) kept.push(entry.name);
      const one = old ?? { entry, instance: await setUp(entry, options[index], deps), holders: 0 };
      one.holders++;
      held.push(one);
    } catch (cause) {
      await closeAll(held, deps);
      const message = `Setup failed: ${cause instanceof Error ? cause.message : String(cause)}`;
      throw new ChainError([{ entry: entry.name, path: entry.path ?? [], message }], cause);
    }
  }
  return new LoadedChain(entries, held, kept, deps);
}

async function keepable(held: readonly Held[], entry: ChainEntry, deps: ChainDeps): Promise<Held | undefined> {
  const old = held.find(candidate => candidate.entry.name === entry.name);
  if (!old || entry.source === undefined || old.entry.source !== entry.source) return undefined;
  if (!isDeepStrictEqual(old.entry.options, entry.options)) return undefined;
  if (deps.mayKeep && !(await deps.mayKeep(entry.name))) return undefined;
  return old.holders > 0 ? old : undefined;
}

async function setUp(entry: ChainEntry, options: unknown, deps: ChainDeps): Promise<PluginInstance> {
  const host = await deps.hostFor(entry.name);
  const deadline = startDeadline(deps.clock, deps.setupMs ?? 60_000);
  const setting = (async () => entry.plugin.setup(options, host))();
  try {
    return await raceSignal(setting, deadline.signal);
  } catch (error) {
    // What is ready only after its time nobody would close.
    void setting.then(
      instance => closeAll([{ entry, instance, holders: 1 }], deps),
      () => undefined,
    );
    throw error;
  } finally {
    deadline.done();
  }
}

const loadedEntry = (entry: ChainEntry, { instance }: Held): LoadedEntry => ({
  name: entry.name,
  instance,
  timeoutMs: entry.timeoutMs,
  onError: entry.onError,
  observe: entry.mode === 'observe',
  writes: new Set(entry.plugin.writes?.map(key => key.name)),
});

/** In reverse order, those that no other chain holds; one that fails or hangs does not keep the others open. */
async function closeAll(held: readonly Held[], deps: ChainDeps): Promise<void> {
  for (const one of [...held].reverse()) {
    const { entry, instance } = one;
    one.holders--;
    if (one.holders > 0 || !instance.close) continue;
    const deadline = startDeadline(deps.clock, deps.closeMs ?? 10_000);
    try {
      await raceSignal(Promise.resolve(instance.close()), deadline.signal);
    } catch (err) {
      deps.log.error({ err, plugin: entry.name }, 'Plugin did not close');
    } finally {
      deadline.done();
    }
  }
}

class LoadedChain implements Chain {
  readonly held: readonly Held[];
  readonly kept: readonly string[];
  readonly #hooks: HookLists;
  readonly #deps: ChainDeps;
  readonly #idle: Promise<void>;
  #becomeIdle = (): void => {};
  #sessions = 0;
  #closing: Promise<void> | undefined;

  constructor(given: readonly ChainEntry[], held: readonly Held[], kept: readonly string[], deps: ChainDeps) {
    this.held = held;
    this.kept = kept;
    this.#deps = deps;
    // Terms may have changed around an instance that is kept.
    const entries = given.map((entry, index) => loadedEntry(entry, held[index] as Held));
    // Delivering has effects, which a trial run must not have: an observing entry is not asked.
    const having = (hook: HookName) =>
      entries.filter(entry => entry.instance[hook] !== undefined && !(hook === 'deliver' && entry.observe));
    this.#hooks = mapHooks(having);
    this.#idle = new Promise(resolve => {
      this.#becomeIdle = resolve;
    });
  }

  get delivers(): boolean {
    return this.#hooks.deliver.length > 0;
  }

  openSession(session: Session): ChainSession {
    if (this.#closing) throw new Error('Chain is closing: open new sessions on the chain that replaces it');
    this.#sessions++;
    return new LiveSession(session, this.#hooks, this.#deps, () => this.#leave());
  }

  readonly deliver: Chain['deliver'] = async (request, to) => {
    this.#sessions++;
    try {
      return await deliverHook(this.#hooks.deliver, this.#deps, request, to);
    } finally {
      this.#leave();
    }
  };

  readonly learn: Chain['learn'] = async (message, as, recipients) => {
    this.#sessions++;
    try {
      return await learnFrom(this.held, this.#deps.clock, message, as, recipients);
    } finally {
      this.#leave();
    }
  };

  describe(): ReturnType<Chain['describe']> {
    return hookNames.map(hook => ({ hook, plugins: this.#hooks[hook].map(entry => entry.name) }));
  }

  async status(): ReturnType<Chain['status']> {
    return Promise.all(
      this.held.map(async ({ entry: { name }, instance }) => {
        if (!instance.status) return { name, values: {} };
        const deadline = startDeadline(this.#deps.clock, statusMs);
        try {
          return { name, values: await raceSignal(Promise.resolve(instance.status()), deadline.signal) };
        } catch (error) {
          return { name, values: { error: error instanceof Error ? error.message : String(error) } };
        } finally {
          deadline.done();
        }
      }),
    );
  }

  async sign(message: Message): Promise<Message> {
    this.#sessions++;
    try {
      return await this.#signed(message);
    } finally {
      this.#leave();
    }
  }

  async #signed(message: Message): Promise<Message> {
    let draft: Draft = { message, sender: null, recipients: [], originals: new Map() };
    for (const { entry, instance } of this.held) {
      if (!instance.sign || entry.mode === 'observe') continue;
      const deadline = startDeadline(this.#deps.clock, entry.timeoutMs);
      try {
        const edits = await raceSignal(instance.sign(draft.message, deadline.signal), deadline.signal);
        draft = applyEdits(draft, edits, entry.name);
      } catch (err) {
        // Better an unsigned report than none.
        this.#deps.log.error({ err, plugin: entry.name }, 'Plugin did not sign');
      } finally {
        deadline.done();
      }
    }
    return draft.message;
  }

  close(): Promise<void> {
    const closing = this.#closing ?? this.#idle.then(() => closeAll(this.held, this.#deps));
    this.#closing = closing;
    if (this.#sessions === 0) this.#becomeIdle();
    return closing;
  }

  #leave(): void {
    this.#sessions--;
    if (this.#closing && this.#sessions === 0) this.#becomeIdle();
  }
}
