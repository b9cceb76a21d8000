// From the end of the chain to the reply: settles every recipient of a message or makes it durable, then says so.
//
// - One destination that may be tried directly: it is tried first, and only what stays open enters the queue. The common
//   message costs no write here at all.
// - Several destinations, or some that only the queue serves: the message enters the queue first (leased to us), then the
//   direct ones are tried. If it cannot be stored, nobody has got it yet and the client hears 452/451.
// - A direct attempt that outlasts the budget is not cut off (that would deliver twice): its recipients are queued under
//   a lease, the client hears 250, and the attempt's result is entered when it comes.
// - With one destination and several recipients, some may be delivered while the others can neither be delivered nor
//   stored. Then the client hears 4xx: the delivered ones may get it again, nothing is lost.
import type { Logger } from 'pino';
import { Cancellation } from '../lib/cancellation.ts';
import type { Clock } from '../lib/clock.ts';
import type { KeptOriginal } from '../mail/deliverable.ts';
import type { Reply } from '../mail/reply.ts';
import { attempt } from './attempt.ts';
import type { DestinationHealth } from './destination-health.ts';
import {
  afterOutcome,
  jobOf,
  pendingRecipient,
  type QueuedMessage,
  type QueuedRecipient,
  type QueuePolicy,
} from './entry.ts';
import {
  accepted,
  judge,
  type Leg,
  localProblem,
  messageOf,
  refusal,
  type Settlement,
  type SettleRequest,
  settlement,
  storageReply,
  unitsOf,
} from './judge.ts';
import type { QueueStore } from './store.ts';
import type { RouteLookup } from './transport.ts';

/** Takes mail out of the way. */
export interface Quarantine {
  /** A message that goes to nobody now. Durable when it resolves. */
  hold(request: SettleRequest, settlement: Settlement): Promise<void>;
  /** `deliverable.kept`, before the edited message is settled. Durable when it resolves. */
  keep(request: SettleRequest, kept: KeptOriginal): Promise<void>;
  /** What became of the edited message; undefined: nobody has got it, and what `keep` took goes again. */
  conclude(request: SettleRequest, settlement: Settlement | undefined): Promise<void>;
}

export interface SettleParts {
  readonly store: QueueStore;
  readonly routes: RouteLookup;
  readonly health: DestinationHealth;
  readonly policy: QueuePolicy;
  readonly clock: Clock;
  readonly log: Logger;
  /** A direct delivery that takes longer is queued instead, ms. */
  readonly directBudgetMs: number;
  /** Longest direct attempt, ms; its lease lasts as long. Above RFC 5321 §4.5.3.2.6 (10 minutes for the final reply). */
  readonly attemptLimitMs?: number;
  /** Names this process in leases. */
  readonly instance: string;
  /** There is new work for the runner at these destinations. */
  readonly wake?: (destinations: readonly string[]) => void;
  readonly quarantine: Quarantine;
  readonly random?: () => number;
}

export interface Settler {
  settle(request: SettleRequest): Promise<Settlement>;
  /** Resolves when no direct attempt is running any more. */
  idle(): Promise<void>;
}

const defaultAttemptLimitMs = 15 * 60_000;

export function createSettler(parts: SettleParts): Settler {
  const { store, routes, health, policy, clock, log, instance, quarantine } = parts;
  const random = parts.random ?? Math.random;
  const attemptLimitMs = parts.attemptLimitMs ?? defaultAttemptLimitMs;
  const running = new Set<Promise<unknown>>();

  async function routeLegs(request: SettleRequest): Promise<Leg[]> {
    const { recipients, originals } = request.deliverable;
    const clientNames = request.envelope.recipients.map(each => each.address.text);
    return Promise.all(
      recipients.map(async (recipient, index): Promise<Leg> => {
        const text = recipient.address.text;
        const unit = clientNames.indexOf(originals.get(text) ?? text);
        const answer = await routes(recipient).catch((error: unknown) => ({
          kind: 'unavailable' as const,
          why: `Route lookup threw: ${String(error)}`,
        }));
        const base = { index, recipient, unit };
        if (answer.kind === 'route') return { ...base, destination: answer.route.destination, route: answer.route };
        const destination = `unrouted:${recipient.address.domain}`;
        if (answer.kind === 'none')
          return { ...base, destination, outcome: { kind: 'failed', reply: answer.reply, why: answer.why } };
        return { ...base, destination, outcome: { kind: 'deferred', reply: localProblem, why: answer.why } };
      }),
    );
  }

  /** Legs by destination, those that may be tried now. */
  function directGroups(legs: readonly Leg[]): readonly (readonly Leg[])[] {
    const groups = new Map<string, Leg[]>();
    for (const leg of legs) {
      if (!leg.route?.direct || leg.outcome || health.trouble(leg.destination).until > clock.now()) continue;
      const key = `${leg.route.transport.name}\0${leg.destination}`;
      const group = groups.get(key);
      if (group) group.push(leg);
      else groups.set(key, [leg]);
    }
    return [...groups.values()];
  }

  /** Tries a group; sets the outcomes of its legs. */
  async function tryGroup(
    message: QueuedMessage,
    all: readonly Leg[],
    group: readonly Leg[],
    stop: Cancellation,
  ): Promise<void> {
    const route = group[0]?.route;
    if (!route) return;
    const startedAt = clock.now();
    const job = jobOf(
      message,
      all.map(leg => leg.recipient),
    );
    const outcomes = await attempt(
      route.transport,
      job,
      group.map(leg => leg.recipient),
      stop,
    );
    group.forEach((leg, index) => {
      const outcome = outcomes[index];
      if (outcome) leg.outcome = outcome;
    });
    const trouble = outcomes.find(each => each.kind === 'deferred' && each.destination);
    if (trouble) health.fail(route.destination, startedAt, clock.now());
    else if (health.recovered(route.destination)) {
      await store.unblock(route.destination, clock.now()).catch(error => log.error({ err: error }, 'queue-unblock'));
      parts.wake?.([route.destination]);
    }
  }

  /** Runs the groups; true when all are done within the budget, otherwise `rest` settles when they are. */
  function tryGroups(
    message: QueuedMessage,
    legs: readonly Leg[],
    groups: readonly (readonly Leg[])[],
  ): Promise<{ readonly inTime: boolean; readonly rest: Promise<void> }> {
    return new Promise((resolve, reject) => {
      const stop = new Cancellation();
      const tooLong = (): void => stop.abort(new Error('Attempt took too long'));
      // One timer at a time: most messages are delivered before the first rings.
      let cancel = clock.after(parts.directBudgetMs, () => {
        cancel = clock.after(attemptLimitMs - parts.directBudgetMs, tooLong);
        resolve({ inTime: false, rest });
      });
      const rest: Promise<void> = Promise.all(groups.map(group => tryGroup(message, legs, group, stop)))
        .then(() => resolve({ inTime: true, rest }), reject)
        .finally(() => {
          cancel();
          running.delete(rest);
        });
      running.add(rest);
    });
  }

  const entryOf = (message: QueuedMessage, request: SettleRequest, leg: Leg, dueAt: number): QueuedRecipient => {
    const original = request.deliverable.originals.get(leg.recipient.address.text);
    const from = { recipient: leg.recipient, destination: leg.destination, dueAt };
    return pendingRecipient(message, leg.index, original === undefined ? from : { ...from, original }, policy);
  };

  /** State of a leg after its outcome; undefined when nothing is left to do for it. */
  function afterwards(message: QueuedMessage, entry: QueuedRecipient, leg: Leg): QueuedRecipient | undefined {
    if (!leg.outcome) return entry;
    return afterOutcome(message, entry, leg.outcome, { now: clock.now(), policy, random });
  }

  /** A message whose single destination is tried before anything is stored. */
  async function directFirst(
    request: SettleRequest,
    message: QueuedMessage,
    legs: readonly Leg[],
    group: readonly Leg[],
  ) {
    const { inTime, rest } = await tryGroups(message, legs, [group]);
    if (!inTime) return lateGroup(request, message, legs, rest);
    return concludeFresh(request, message, legs);
  }

  /** Nothing is stored yet: stores what stays open. */
  async function concludeFresh(
    request: SettleRequest,
    message: QueuedMessage,
    legs: readonly Leg[],
  ): Promise<Settlement> {
    const replies = new Map<Leg, Reply>();
    const entries: QueuedRecipient[] = [];
    const storing: Leg[] = [];
    for (const unit of unitsOf(request, legs)) {
      const { reply, keep } = judge(request, unit);
      for (const leg of unit) {
        replies.set(leg, reply);
        if (!keep) continue;
        const after = afterwards(message, entryOf(message, request, leg, clock.now()), leg);
        if (after === undefined) continue;
        entries.push(after);
        if (leg.outcome?.kind !== 'delivered') storing.push(leg);
      }
    }
    if (entries.length === 0) return settlement(request, legs, replies);
    try {
      await store.add({ message, recipients: entries });
      await blockTroubled(legs);
      parts.wake?.(legs.map(leg => leg.destination));
    } catch (error) {
      log.error({ err: error, id: request.id }, 'queue-add');
      const refusal = storageReply(error);
      // Only a success report is lost where nothing but that was to be stored.
      for (const unit of unitsOf(request, legs))
        if (unit.some(leg => storing.includes(leg))) for (const leg of unit) replies.set(leg, refusal);
    }
    return settlement(request, legs, replies);
  }

  /** The runner must know which destinations back off, or it would find out again by itself; that is all that it costs. */
  async function blockTroubled(legs: readonly Leg[]): Promise<void> {
    for (const destination of new Set(legs.map(leg => leg.destination))) {
      const leg = legs.find(each => each.destination === destination && each.outcome?.kind === 'deferred');
      const { failures, until } = health.trouble(destination);
      if (leg?.outcome?.kind !== 'deferred' || !leg.outcome.destination || until <= clock.now()) continue;
      await store
        .block(destination, failures, until, leg.outcome.why)
        .catch((error: unknown) => log.error({ err: error, destination }, 'queue-block'));
    }
  }

  /** The budget is used up: queued under a lease while the attempt goes on. */
  async function lateGroup(
    request: SettleRequest,
    message: QueuedMessage,
    legs: readonly Leg[],
    rest: Promise<void>,
  ): Promise<Settlement> {
    const leaseUntil = clock.now() + attemptLimitMs + 60_000;
    const entries = legs.map(leg => entryOf(message, request, leg, leaseUntil));
    try {
      await store.add({ message, recipients: entries }, instance);
    } catch (error) {
      // The attempt may still succeed; waiting for it is the honest way, for nothing is stored.
      log.error({ err: error, id: request.id }, 'queue-add');
      await rest;
      return concludeUnstored(request, legs, storageReply(error));
    }
    return finishLater(request, message, legs, entries, rest);
  }

  /** All attempts are done and nothing can be stored: what is open is for the client to repeat. */
  function concludeUnstored(request: SettleRequest, legs: readonly Leg[], refusal: Reply<4>): Settlement {
    const replies = new Map<Leg, Reply>();
    for (const unit of unitsOf(request, legs)) {
      const { reply, keep } = judge(request, unit);
      const open = keep && unit.some(leg => leg.outcome?.kind === 'deferred');
      for (const leg of unit) replies.set(leg, open ? refusal : reply);
    }
    return settlement(request, legs, replies);
  }

  /** The message is stored under a lease; what the attempts come to is entered when they end. */
  async function finishLater(
    request: SettleRequest,
    message: QueuedMessage,
    legs: readonly Leg[],
    entries: readonly QueuedRecipient[],
    rest: Promise<void>,
  ): Promise<Settlement> {
    const late = legs.filter(leg => leg.route?.direct && !leg.outcome);
    const finish = rest.then(() => enterResults(message, legs, entries));
    running.add(finish);
    void finish.finally(() => running.delete(finish));
    await slowDown(late);
    return settlement(
      request,
      legs.map(({ outcome: _unknown, ...leg }) => leg),
      new Map(),
    );
  }

  /** Nobody else waits for a destination that is too slow, or attempts without end would pile up. */
  async function slowDown(late: readonly Leg[]): Promise<void> {
    const now = clock.now();
    for (const destination of new Set(late.map(leg => leg.destination))) {
      // Its attempt may have come to an end while another one was noted.
      if (late.every(leg => leg.destination !== destination || leg.outcome)) continue;
      const { failures, until } = health.fail(destination, now - parts.directBudgetMs, now);
      await store
        .block(destination, failures, until, 'Slower than the budget of a direct delivery')
        .catch((error: unknown) => log.error({ err: error, destination }, 'queue-block'));
    }
  }

  /** Enters what became of leased recipients. Retried while the store fails: the lease alone would deliver twice. */
  async function enterResults(
    message: QueuedMessage,
    legs: readonly Leg[],
    entries: readonly QueuedRecipient[],
    dropped: ReadonlySet<Leg> = new Set(),
  ): Promise<void> {
    const changes = legs.flatMap((leg, index) => {
      const entry = entries[index];
      if (!entry || !leg.outcome) return [];
      return [[entry, dropped.has(leg) ? undefined : afterwards(message, entry, leg)] as const];
    });
    if (changes.length === 0) return;
    for (let waitMs = 100; ; waitMs = Math.min(waitMs * 2, 30_000)) {
      try {
        await store.change(message.id, changes);
        await blockTroubled(legs);
        parts.wake?.(legs.map(leg => leg.destination));
        return;
      } catch (error) {
        log.error({ err: error, id: message.id }, 'queue-change');
        if (waitMs > 20_000) return;
        await new Promise<void>(resolve => clock.after(waitMs, resolve));
      }
    }
  }

  /** Several destinations: stored before the first of them is tried, so that it can still be taken back whole. */
  async function queueFirst(
    request: SettleRequest,
    message: QueuedMessage,
    legs: readonly Leg[],
    groups: readonly (readonly Leg[])[],
  ): Promise<Settlement> {
    const direct = new Set(groups.flat());
    const now = clock.now();
    const leaseUntil = now + attemptLimitMs + 60_000;
    // What has an outcome already is entered with the others, when it is known whether the client hears of it.
    const entries = legs.map(leg => entryOf(message, request, leg, direct.has(leg) || leg.outcome ? leaseUntil : now));
    const leased = new Set(legs.filter(leg => direct.has(leg) || leg.outcome));
    await store.add({ message, recipients: entries }, instance, new Set([...leased].map(leg => leg.index)));
    const { inTime, rest } = await tryGroups(message, legs, groups);
    parts.wake?.(legs.map(leg => leg.destination));
    if (!inTime) return finishLater(request, message, legs, entries, rest);
    return concludeQueued(request, message, legs, entries);
  }

  async function concludeQueued(
    request: SettleRequest,
    message: QueuedMessage,
    legs: readonly Leg[],
    entries: readonly QueuedRecipient[],
  ): Promise<Settlement> {
    const replies = new Map<Leg, Reply>();
    const dropped = new Set<Leg>();
    for (const unit of unitsOf(request, legs)) {
      const { reply, keep } = judge(request, unit);
      for (const leg of unit) {
        replies.set(leg, reply);
        if (!keep) dropped.add(leg);
      }
    }
    await enterResults(message, legs, entries, dropped);
    return settlement(request, legs, replies);
  }

  async function quarantined(request: SettleRequest): Promise<Settlement> {
    const { why = 'quarantined', recipients } = request.deliverable;
    const settled: Settlement = {
      reply: accepted(request.id),
      perRecipient: request.envelope.recipients.map(() => accepted(request.id)),
      recipients: recipients.map(each => ({ address: each.address.text, outcome: 'quarantined', detail: why })),
    };
    await quarantine.hold(request, settled);
    return settled;
  }

  /** The original is on disk before anybody gets the edited message, and goes again where nobody does. */
  async function keepAndSettle(request: SettleRequest, kept: KeptOriginal): Promise<Settlement> {
    await quarantine.keep(request, kept);
    let taken: Settlement | undefined;
    try {
      const settled = await settleNow(request);
      if (settled.reply.code < 300 || settled.perRecipient.some(each => each.code < 300)) taken = settled;
      return settled;
    } finally {
      await quarantine
        .conclude(request, taken)
        .catch((error: unknown) => log.error({ err: error, id: request.id }, 'quarantine-conclude'));
    }
  }

  async function settleNow(request: SettleRequest): Promise<Settlement> {
    if (request.deliverable.kind === 'quarantine') return quarantined(request);
    const message = messageOf(request, policy);
    const legs = await routeLegs(request);
    const groups = directGroups(legs);
    const [only] = groups;
    if (only === undefined) return concludeFresh(request, message, legs);
    const others = legs.filter(leg => !only.includes(leg));
    if (others.every(leg => leg.outcome?.kind === 'failed')) return directFirst(request, message, legs, only);
    return queueFirst(request, message, legs, groups);
  }

  return {
    async settle(request) {
      if (request.signal.aborted) return refusal(request, localProblem, 'client is gone');
      try {
        const { kept } = request.deliverable;
        return kept ? await keepAndSettle(request, kept) : await settleNow(request);
      } catch (error) {
        log.error({ err: error, id: request.id }, 'settle');
        return refusal(request, storageReply(error), 'cannot be stored');
      }
    },
    async idle() {
      while (running.size > 0) await Promise.allSettled([...running]);
    },
  };
}
