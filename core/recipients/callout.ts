// Asks the next hop whether it takes a recipient: MAIL from the null sender, RCPT, RSET. What it says is kept, durably.
//
// - An address that was taken is asked about again in the background: the client never waits for a second time.
// - While the next hop cannot be asked, an address that it once took is still good (up to `staleMs`).
// - A next hop that takes an address made up of random letters takes all: its "yes" says nothing, and it is not asked
//   about others until the next day. Its "no" still counts.
// - A client waits as long as the budget; the question goes on without it, and its next attempt finds the answer.
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { type Address, makeAddress } from '../mail/address.ts';
import type { CalloutStore } from './callout-store.ts';
import { keyOf, type RecipientSource, type Verification } from './source.ts';

/** What the next hop said of one address. `unsure`: nothing that is about the address. */
export interface CalloutAnswer {
  readonly kind: 'taken' | 'unknown' | 'unsure';
  readonly why: string;
}

/** Where an address would go and how to ask there. */
export interface CalloutBackend {
  /** Names the next hop in the store. */
  readonly name: string;
  /** One answer per address, in order. */
  ask(addresses: readonly Address[], signal: AbortSignal): Promise<readonly CalloutAnswer[]>;
}

export interface CalloutOptions {
  /** An address that was taken is asked about again after so long, ms. */
  readonly positiveMs: number;
  /** One that was refused. */
  readonly negativeMs: number;
  /** How long an address that was taken stays good while nobody can be asked. */
  readonly staleMs: number;
  /** Longest wait of a client, ms. */
  readonly budgetMs: number;
  /** Questions at once. */
  readonly concurrency: number;
  /** What to say where the next hop takes everything. */
  readonly acceptsAll: 'accept' | 'defer';
}

export interface CalloutParts {
  readonly options: CalloutOptions;
  readonly store: CalloutStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly backend: (address: Address) => Promise<CalloutBackend | undefined>;
}

export interface Callout extends RecipientSource {
  /** Next hop → whether it takes every address, as far as it was found out. */
  backends(): Promise<Readonly<Record<string, boolean>>>;
  close(): Promise<void>;
}

/** How long it is believed that a next hop takes all, or does not. */
const natureMs = 86_400_000;
/** A question that nobody waits for any more ends after so long. */
const askMs = 60_000;
const maxWaiting = 1_000;

const unavailable = (why: string): Verification => ({ kind: 'unavailable', why });

export function createCallout(parts: CalloutParts): Callout {
  const { options, store, clock, log } = parts;
  const controller = new AbortController();
  const asking = new Map<string, Promise<Verification>>();
  const waiting: (() => void)[] = [];
  let running = 0;

  async function slot(): Promise<boolean> {
    if (running >= options.concurrency) {
      if (waiting.length >= maxWaiting) return false;
      await new Promise<void>(resolve => waiting.push(resolve));
    } else running += 1;
    return true;
  }
  function free(): void {
    const next = waiting.shift();
    if (next) next();
    else running -= 1;
  }

  const takesAll = (name: string): Verification =>
    options.acceptsAll === 'accept'
      ? { kind: 'found', why: `${name} takes every address` }
      : unavailable(`${name} takes every address`);

  /** Asks, and keeps what comes of it. Never rejects. */
  async function ask(address: Address): Promise<Verification> {
    if (!(await slot())) return unavailable('too many callouts at once');
    const cancel = new AbortController();
    const stop = clock.after(askMs, () => cancel.abort(new Error('Callout took too long')));
    try {
      const backend = await parts.backend(address);
      if (!backend) return unavailable(`no next hop for ${address.domain}`);
      return await askBackend(backend, address, AbortSignal.any([cancel.signal, controller.signal]));
    } catch (error) {
      return unavailable(`callout failed: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      stop();
      free();
    }
  }

  async function askBackend(backend: CalloutBackend, address: Address, signal: AbortSignal): Promise<Verification> {
    const nature = await store.nature(backend.name);
    const fresh = nature !== undefined && clock.now() - nature.checkedAt < natureMs;
    if (fresh && nature.acceptsAll) return takesAll(backend.name);
    const made = makeAddress(`no-such-user-${randomBytes(9).toString('hex')}`, address.domain);
    const [own, random] = await backend.ask(fresh ? [address] : [address, made], signal);
    const now = clock.now();
    if (random && random.kind !== 'unsure') {
      const acceptsAll = random.kind === 'taken';
      if (acceptsAll) log.warn({ backend: backend.name }, 'callout-accepts-all');
      await store.setNature(backend.name, acceptsAll, now);
      if (acceptsAll && own?.kind === 'taken') return takesAll(backend.name);
    }
    if (!own || own.kind === 'unsure') return unavailable(own?.why ?? 'no answer');
    await store.set(keyOf(address), own.kind === 'taken', now);
    return own.kind === 'taken'
      ? { kind: 'found', why: `callout: ${own.why}` }
      : { kind: 'none', why: `callout: ${own.why}` };
  }

  /** One question about an address at a time, however many ask. */
  function askOnce(address: Address): Promise<Verification> {
    const key = keyOf(address);
    const under = asking.get(key);
    if (under) return under;
    const answer = ask(address).finally(() => asking.delete(key));
    asking.set(key, answer);
    return answer;
  }

  function withinBudget(answer: Promise<Verification>, signal: AbortSignal): Promise<Verification> {
    return new Promise(resolve => {
      const end = (value: Verification): void => {
        cancel();
        signal.removeEventListener('abort', onAbort);
        resolve(value);
      };
      const cancel = clock.after(options.budgetMs, () =>
        end(unavailable(`callout has no answer after ${options.budgetMs} ms`)),
      );
      const onAbort = (): void => end(unavailable('client is gone'));
      signal.addEventListener('abort', onAbort, { once: true });
      void answer.then(end);
    });
  }

  return {
    async verify(address, signal) {
      const key = keyOf(address);
      const row = await store.get(key);
      const age = row === undefined ? Number.POSITIVE_INFINITY : clock.now() - row.checkedAt;
      if (row?.known && age < options.staleMs) {
        if (age >= options.positiveMs) void askOnce(address);
        return { kind: 'found', why: 'callout, from the cache' };
      }
      if (row && !row.known && age < options.negativeMs) return { kind: 'none', why: 'callout, from the cache' };
      return withinBudget(askOnce(address), signal);
    },
    backends: () => store.natures(),
    async close() {
      controller.abort(new Error('Closed'));
      await Promise.all(asking.values());
    },
  };
}
