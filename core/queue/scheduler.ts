// The queue runner: tries what is due, and has owed reports made. Exactly one works on a store.
//
// - Memory does not grow with the queue: it knows only the destinations that it is serving (at most `maxServed`), and of
//   each a window of message ids; a message is read when its attempt begins. A start reads nothing but that.
// - Fair: destinations are served side by side and take turns for the connections; one with a long backlog goes to the
//   back of the line after `turn` messages while others wait. One in trouble leaves the line and costs nothing until
//   its next probe, which is one message; with success it is served again with slowly more at a time (slow start).
// - What was delivered is entered before anything else happens to it. While the store cannot take that, the message is
//   not tried again in this process.
import type { Logger } from 'pino';
import { Cancellation } from '../lib/cancellation.ts';
import type { Clock } from '../lib/clock.ts';
import type { Recipient } from '../mail/envelope.ts';
import { attempt } from './attempt.ts';
import { longestWaitMs } from './backoff.ts';
import type { DestinationHealth } from './destination-health.ts';
import { afterOutcome, jobOf, type QueuedMessage, type QueuedRecipient, type QueuePolicy } from './entry.ts';
import type { Change, DestinationRow, Entry, QueueStore } from './store.ts';
import type { DeliveryOutcome, Route, RouteAnswer, RouteLookup } from './transport.ts';

/**
 * Deals with what is due besides delivery: expiry, delay warnings, reports. One commit per message. Puts off what it cannot
 * do; rejects where that cannot be stored either.
 */
export type Reporter = (entry: Entry, now: number) => Promise<void>;

export interface SchedulerParts {
  readonly store: QueueStore;
  readonly routes: RouteLookup;
  /** Route of a recipient that an operator sent elsewhere (`reroute`). */
  readonly routeVia?: (via: string, recipient: QueuedRecipient['recipient']) => Promise<RouteAnswer>;
  readonly health: DestinationHealth;
  readonly report: Reporter;
  readonly policy: QueuePolicy;
  readonly clock: Clock;
  readonly log: Logger;
  /** Attempts at once, over all destinations. Default 100. */
  readonly concurrency?: number;
  /** Attempts at once at one destination. Default 20. */
  readonly destinationConcurrency?: number | ((destination: string) => number);
  /** Least time between two attempts at a destination, ms; 0 = no limit. */
  readonly intervalMs?: (destination: string) => number;
  /** Recipients of one attempt. RFC 5321 §4.5.3.1.8: every server takes 100. */
  readonly maxRecipients?: number;
  readonly attemptLimitMs?: number;
  /** How often to look for work that another process queued. Default 5 s. */
  readonly pollMs?: number;
  readonly random?: () => number;
  /** Called after each attempt: for the trace, metrics and tests. `recipients` and `outcomes` go together. */
  readonly onAttempt?: (attempt: QueueAttempt) => void;
}

export interface QueueAttempt {
  readonly destination: string;
  /** Queue id. */
  readonly id: string;
  readonly recipients: readonly Recipient[];
  readonly outcomes: readonly DeliveryOutcome[];
}

export interface Scheduler {
  start(): void;
  /** There may be new work, at these destinations where they are known. */
  wake(destinations?: readonly string[]): void;
  /** Begins nothing new; resolves when running attempts are entered. */
  stop(): Promise<void>;
  status(): { readonly serving: readonly string[]; readonly running: number };
}

const recipientKey = (id: string, index: number): string => `${id} ${index}`;
const maxServed = 64;
const windowSize = 64;
const turn = 200;
const lingerMs = 250;
/** Between two looks for times that a wrong clock gave. */
const clockCheckMs = 60_000;

/** One destination while it is served. */
interface Service {
  readonly name: string;
  /** Attempts at once that it is trusted with now. */
  limit: number;
  /** In trouble: nothing new is begun. */
  blocked: boolean;
  begun: number;
  /** Of the monotonic clock. */
  nextBeginAt: number;
  readonly inFlight: Set<string>;
  /** An attempt ended or work came, while nobody waited for that. */
  nudged: boolean;
  resume: (() => void) | undefined;
}

export function createScheduler(parts: SchedulerParts): Scheduler {
  const { store, health, policy, clock, log } = parts;
  const total = parts.concurrency ?? 100;
  const { destinationConcurrency = 20 } = parts;
  const perDestination = (name: string): number =>
    typeof destinationConcurrency === 'number' ? destinationConcurrency : destinationConcurrency(name);
  const maxRecipients = parts.maxRecipients ?? 100;
  const attemptLimitMs = parts.attemptLimitMs ?? 15 * 60_000;
  const pollMs = parts.pollMs ?? 5_000;
  const random = parts.random ?? Math.random;
  const services = new Map<string, Service>();
  const tasks = new Set<Promise<void>>();
  /** Recipients that are being tried, by message id and index, whatever their destination has become meanwhile. */
  const underWay = new Map<string, Promise<void>>();
  const slotWaiters: (() => void)[] = [];
  /** Message that a report is being made of: it is not tried meanwhile, or its sender would hear of a failure that was none. */
  let reporting: string | undefined;
  let running = 0;
  /** Of the monotonic clock. */
  let clockCheckAt = Number.NEGATIVE_INFINITY;
  let stopping = false;
  let crowded = false;
  let woken = false;
  let wakeLoop: (() => void) | undefined;
  let loop: Promise<void> | undefined;

  const track = (task: Promise<void>): void => {
    const settled = task.catch((error: unknown) => log.error({ err: error }, 'queue-runner'));
    tasks.add(settled);
    void settled.finally(() => tasks.delete(settled));
  };

  /** A connection slot, first come first served over all destinations. */
  async function takeSlot(): Promise<void> {
    if (running >= total) await new Promise<void>(resolve => slotWaiters.push(resolve));
    else running += 1;
  }
  function giveSlot(): void {
    const next = slotWaiters.shift();
    if (next) next();
    else running -= 1;
  }

  const pause = (ms: number): Promise<void> => new Promise(resolve => clock.after(ms, resolve));
  /** Until the service is nudged; at once where that happened since the last wait. */
  const nudged = (service: Service, ms?: number): Promise<void> => {
    if (service.nudged) {
      service.nudged = false;
      return Promise.resolve();
    }
    return new Promise(resolve => {
      const cancel = ms === undefined ? () => undefined : clock.after(ms, () => service.resume?.());
      service.resume = () => {
        cancel();
        service.resume = undefined;
        resolve();
      };
    });
  };
  function nudge(service: Service): void {
    if (service.resume) service.resume();
    else service.nudged = true;
  }

  async function routeOf(entry: QueuedRecipient): Promise<RouteAnswer> {
    const { via } = entry.notes;
    try {
      return via !== undefined && parts.routeVia
        ? await parts.routeVia(via, entry.recipient)
        : await parts.routes(entry.recipient);
    } catch (error) {
      return { kind: 'unavailable', why: `Route lookup threw: ${String(error)}` };
    }
  }

  /** Retries until the store takes it: forgetting a delivery would repeat it. */
  async function enter(id: string, changes: readonly Change[]): Promise<void> {
    for (let waitMs = 100; ; waitMs = Math.min(waitMs * 2, 10_000)) {
      try {
        return await store.change(id, changes);
      } catch (error) {
        log.error({ err: error, id }, 'queue-change');
        if (stopping && waitMs > 1_000) throw error;
        await pause(waitMs);
      }
    }
  }

  /** Sorts recipients by what the routes of now say; those that belong elsewhere move there. */
  async function sortByRoute(destination: string, { message, recipients }: Entry) {
    const now = clock.now();
    const here: { readonly entry: QueuedRecipient; readonly route: Route }[] = [];
    const changes: Change[] = [];
    const moved: string[] = [];
    for (const entry of recipients) {
      const answer = await routeOf(entry);
      if (answer.kind === 'route' && answer.route.destination === destination)
        here.push({ entry, route: answer.route });
      else if (answer.kind === 'route') {
        moved.push(answer.route.destination);
        changes.push([entry, { ...entry, destination: answer.route.destination, dueAt: now }]);
      } else {
        const outcome: DeliveryOutcome =
          answer.kind === 'none'
            ? { kind: 'failed', reply: answer.reply, why: answer.why }
            : {
                kind: 'deferred',
                reply: { code: 451, enhanced: '4.4.3', text: 'Routing is unavailable' },
                why: answer.why,
              };
        changes.push([entry, afterOutcome(message, entry, outcome, { now, policy, random })]);
      }
    }
    return { here, changes, moved };
  }

  async function tryBatch(service: Service, batch: Entry): Promise<void> {
    const { message } = batch;
    const { here, changes, moved } = await sortByRoute(service.name, batch);
    const route = here[0]?.route;
    const startedAt = clock.now();
    let outcomes: readonly DeliveryOutcome[] = [];
    const recipients = here.map(each => each.entry.recipient);
    if (route) {
      const stop = new Cancellation();
      const cancel = clock.after(attemptLimitMs, () => stop.abort(new Error('Attempt took too long')));
      outcomes = await attempt(route.transport, jobOf(message, recipients), recipients, stop);
      cancel();
      await judge(service, outcomes, startedAt);
      const context = { now: clock.now(), policy, random };
      const tried = here.flatMap(({ entry }, index): Change[] => {
        const outcome = outcomes[index];
        return outcome ? [[entry, afterOutcome(message, entry, outcome, context)]] : [];
      });
      changes.unshift(...tried);
    }
    await enter(message.id, changes);
    logAttempt(service.name, message, changes, outcomes);
    if (moved.length > 0) wake(moved);
    if (changes.some(([, after]) => after !== undefined && after.state !== 'pending')) wake();
    parts.onAttempt?.({ destination: service.name, id: message.id, recipients, outcomes });
  }

  /** One line per attempt: what became of each recipient. */
  function logAttempt(
    destination: string,
    message: QueuedMessage,
    changes: readonly Change[],
    outcomes: readonly DeliveryOutcome[],
  ): void {
    const recipients = changes.map(([{ recipient }, after], index) => {
      const outcome = outcomes[index];
      const why = outcome?.kind === 'delivered' ? outcome.detail : (outcome?.why ?? after?.notes.why);
      return { to: recipient.address.text, outcome: outcome?.kind ?? 'rerouted', why, next: after?.dueAt };
    });
    const delayMs = clock.now() - message.receivedAt;
    log.info({ id: message.id, destination, sender: message.sender?.text ?? '', delayMs, recipients }, 'queue-attempt');
  }

  /** What an attempt says about its destination. That the store cannot note it must not keep a delivery from being entered. */
  async function judge(service: Service, outcomes: readonly DeliveryOutcome[], startedAt: number): Promise<void> {
    const trouble = outcomes.find(each => each.kind === 'deferred' && each.destination);
    if (trouble?.kind !== 'deferred') {
      service.limit = Math.min(perDestination(service.name), service.limit + 1);
      if (health.recovered(service.name))
        await store.unblock(service.name, clock.now()).catch(error => log.error({ err: error }, 'queue-unblock'));
      return;
    }
    service.blocked = true;
    service.limit = 1;
    const { failures, until } = health.fail(service.name, startedAt, clock.now());
    log.info({ destination: service.name, failures, until, why: trouble.why }, 'destination-trouble');
    await store
      .block(service.name, failures, until, trouble.why)
      .catch((error: unknown) => log.error({ err: error, destination: service.name }, 'queue-block'));
  }

  /** Not beside another attempt at the same recipients, which an operator sent elsewhere meanwhile: waits for its end and leaves them due. */
  async function alone({ message, recipients }: Entry, run: () => Promise<void>): Promise<void> {
    const keys = recipients.map(({ index }) => recipientKey(message.id, index));
    const others = keys.flatMap(key => underWay.get(key) ?? []);
    if (others.length > 0) {
      await Promise.allSettled(others);
      return;
    }
    const done = run();
    for (const key of keys) underWay.set(key, done);
    try {
      await done;
    } finally {
      for (const key of keys) underWay.delete(key);
    }
  }

  async function runOne(service: Service, id: string): Promise<void> {
    try {
      const batch = await store.batch(id, service.name, clock.now(), maxRecipients);
      if (batch) await alone(batch, () => tryBatch(service, batch));
    } catch (error) {
      log.error({ err: error, id }, 'queue-attempt');
      await pause(1_000);
    } finally {
      service.inFlight.delete(id);
      giveSlot();
      nudge(service);
    }
  }

  /** Until nothing is due, the destination is in trouble, or its turn is over. */
  async function serve(service: Service): Promise<void> {
    try {
      await beginDue(service);
    } finally {
      // Who serves the destination next knows nothing of these, and would try them a second time.
      while (service.inFlight.size > 0) await nudged(service);
    }
    await store.rest(service.name, clock.now());
  }

  async function beginDue(service: Service): Promise<void> {
    let lingered = false;
    while (!stopping && !service.blocked) {
      if (crowded && service.begun >= turn) {
        await store.yieldTurn(service.name, clock.now());
        break;
      }
      const found = await store.due(service.name, clock.now(), windowSize + service.inFlight.size * maxRecipients);
      const fresh = found.filter(id => !service.inFlight.has(id) && id !== reporting);
      if (fresh.length === 0) {
        // A moment's patience spares a commit and three queries for each message of a steady stream.
        if (service.inFlight.size === 0 && lingered) break;
        lingered = service.inFlight.size === 0;
        await nudged(service, lingered ? lingerMs : undefined);
        continue;
      }
      lingered = false;
      for (const id of fresh) if (!(await begin(service, id))) break;
    }
  }

  /** Begins one attempt when it may; false: the window is to be left. */
  async function begin(service: Service, id: string): Promise<boolean> {
    while (service.inFlight.size >= service.limit) await nudged(service);
    const early = service.nextBeginAt - clock.monotonic();
    if (early > 0) await pause(early);
    await takeSlot();
    if (stopping || service.blocked) {
      giveSlot();
      return false;
    }
    if (id === reporting) {
      giveSlot();
      return true;
    }
    service.nextBeginAt = clock.monotonic() + (parts.intervalMs?.(service.name) ?? 0);
    service.begun += 1;
    service.inFlight.add(id);
    track(runOne(service, id));
    return true;
  }

  function startService({ name, failures }: DestinationRow): void {
    const service: Service = {
      name,
      limit: failures > 0 ? 1 : Math.min(5, perDestination(name)),
      blocked: false,
      begun: 0,
      nextBeginAt: 0,
      inFlight: new Set(),
      nudged: false,
      resume: undefined,
    };
    health.remember(name, failures);
    services.set(name, service);
    track(
      serve(service).finally(() => {
        services.delete(name);
        wake();
      }),
    );
  }

  async function startServices(now: number): Promise<void> {
    if (services.size >= maxServed) {
      crowded = true;
      return;
    }
    const ready = await store.ready(now, maxServed + services.size + 1);
    const waiting = ready.filter(row => !services.has(row.name));
    const free = maxServed - services.size;
    crowded = waiting.length > free;
    for (const row of waiting.slice(0, free)) {
      // The store says that it may be tried, whatever this process remembers: an operator flushed it.
      if (health.trouble(row.name).until > now) health.recovered(row.name);
      startService(row);
    }
  }

  async function sweepEvents(now: number): Promise<void> {
    const seen = new Set<string>();
    /** Recipients that are due but under way: until their attempts end they stand before the others. */
    let kept = 0;
    for (let more = true; more && !stopping; ) {
      const entries = await store.events(now, 100 + kept);
      more = false;
      for (const entry of entries) {
        // What is still there after its turn is dealt with in the next pass.
        if (stopping || seen.has(entry.message.id)) continue;
        seen.add(entry.message.id);
        more = true;
        const { id } = entry.message;
        const recipients = entry.recipients.filter(
          each =>
            each.state !== 'pending' ||
            !(services.get(each.destination)?.inFlight.has(id) || underWay.has(recipientKey(id, each.index))),
        );
        kept += entry.recipients.length - recipients.length;
        if (recipients.length === 0) continue;
        reporting = id;
        await parts
          .report({ ...entry, recipients }, now)
          .catch((error: unknown) => log.error({ err: error, id }, 'report'));
        reporting = undefined;
      }
      if (seen.size > 10_000) return;
    }
  }

  async function pass(): Promise<number> {
    const now = clock.now();
    if (clock.monotonic() >= clockCheckAt) {
      clockCheckAt = clock.monotonic() + clockCheckMs;
      await store
        .mendTimes(now, longestWaitMs(policy), policy.lifetimeMs)
        .catch((error: unknown) => log.error({ err: error }, 'queue-times'));
    }
    await sweepEvents(now);
    await startServices(now);
    const [ready, event] = await Promise.all([store.nextReady(now), store.nextEvent()]);
    const next = Math.min(ready ?? Number.POSITIVE_INFINITY, event ?? Number.POSITIVE_INFINITY);
    // An event that is still due waits for its attempt, whose end wakes us.
    return Math.min(pollMs, Math.max(next - clock.now(), event !== undefined && event <= now ? 1_000 : 1));
  }

  async function run(): Promise<void> {
    while (!stopping) {
      woken = false;
      let waitMs = pollMs;
      try {
        waitMs = await pass();
      } catch (error) {
        log.error({ err: error }, 'queue-pass');
      }
      if (woken || stopping) continue;
      await new Promise<void>(resolve => {
        const cancel = clock.after(waitMs, resolve);
        wakeLoop = () => {
          cancel();
          resolve();
        };
      });
      wakeLoop = undefined;
    }
  }

  function wake(destinations?: readonly string[]): void {
    let served = destinations !== undefined;
    for (const name of destinations ?? []) {
      const service = services.get(name);
      if (service) nudge(service);
      else served = false;
    }
    if (served) return;
    woken = true;
    wakeLoop?.();
  }

  return {
    start() {
      loop ??= run();
    },
    wake,
    async stop() {
      stopping = true;
      wakeLoop?.();
      for (const service of services.values()) nudge(service);
      await loop;
      while (tasks.size > 0) await Promise.allSettled([...tasks]);
    },
    status: () => ({ serving: [...services.keys()], running }),
  };
}
