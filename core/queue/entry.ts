// One message in the queue and the state of each of its recipients. Pure values: `store.ts` keeps them, `scheduler.ts`
// moves them on. A recipient leaves the queue when it is settled and nobody is owed a report about it.
//
//   pending ──► (delivered) ──► gone, or `delivered` while a success DSN is owed
//      │  ▲ ──► (failed)    ──► gone, or `failed` while a failure DSN is owed
//      ▼  │
//     held      (by an operator or as quarantine: neither tried nor expired until released)
import type { Recipient, ReversePath } from '../mail/envelope.ts';
import type { Reply } from '../mail/reply.ts';
import type { BackoffPolicy } from './backoff.ts';
import { retryWaitMs } from './backoff.ts';
import type { DeliveryJob, DeliveryOutcome, RemoteWord } from './transport.ts';

export interface QueuedMessage extends Omit<DeliveryJob, 'recipients'> {
  /** ms since the epoch: pending recipients fail at this time. */
  readonly expiresAt: number;
  /** False for mail that the chain marked as forged: nobody is ever told about it. */
  readonly reports: boolean;
}

/** What is remembered about a recipient besides its times. */
export interface RecipientNotes {
  readonly reply?: Reply<4 | 5>;
  /** For the operator. */
  readonly why?: string;
  readonly remote?: RemoteWord;
  /** Why it is held: `operator`, `quarantine: …`. */
  readonly hold?: string;
  /** Success DSN owed: given to a next hop that does not know DSN. */
  readonly relayed?: boolean;
  /** Next hop set by an operator in place of the configured route. */
  readonly via?: string;
  /** Operator's words for the bounce. */
  readonly note?: string;
  /** Time of the last attempt, ms since the epoch. */
  readonly triedAt?: number;
  /** The report that is owed could not be made or stored: how often in a row, and why the last time, for the operator. */
  readonly unreported?: { readonly tries: number; readonly why: string };
}

export interface QueuedRecipient {
  readonly index: number;
  readonly recipient: Recipient;
  /** Address as the client named it, where an alias led to another: reports name this one. */
  readonly original?: string;
  readonly destination: string;
  readonly state: 'pending' | 'held' | 'delivered' | 'failed';
  readonly attempts: number;
  /** Next try, ms since the epoch; absent unless pending. */
  readonly dueAt?: number;
  /** Next report or expiry, ms since the epoch. */
  readonly eventAt?: number;
  /** The sender was told of the delay. */
  readonly warned: boolean;
  readonly notes: RecipientNotes;
}

export interface QueuePolicy extends BackoffPolicy {
  readonly lifetimeMs: number;
  /** 0 = never. */
  readonly delayWarningMs: number;
}

/** RFC 3461 §4.1: without NOTIFY failures are reported; delays as this MTA likes; a null sender is never told. */
function wantsReport(
  message: { readonly sender: ReversePath; readonly reports: boolean },
  recipient: Recipient,
  kind: 'success' | 'failure' | 'delay',
): boolean {
  if (message.sender === null || !message.reports) return false;
  if (recipient.notify === undefined) return kind !== 'success';
  return recipient.notify.includes(kind);
}

/** When the next report or the expiry of a pending recipient is due. */
export function nextEvent(message: QueuedMessage, recipient: Recipient, warned: boolean, policy: QueuePolicy): number {
  const warnAt = message.receivedAt + policy.delayWarningMs;
  const warn = policy.delayWarningMs > 0 && !warned && wantsReport(message, recipient, 'delay');
  return warn ? Math.min(warnAt, message.expiresAt) : message.expiresAt;
}

export interface NewRecipient {
  readonly recipient: Recipient;
  readonly original?: string;
  readonly destination: string;
  readonly dueAt: number;
  readonly notes?: RecipientNotes;
}

export function pendingRecipient(
  message: QueuedMessage,
  index: number,
  from: NewRecipient,
  policy: QueuePolicy,
): QueuedRecipient {
  return {
    index,
    recipient: from.recipient,
    ...(from.original === undefined ? {} : { original: from.original }),
    destination: from.destination,
    state: 'pending',
    attempts: 0,
    dueAt: from.dueAt,
    eventAt: nextEvent(message, from.recipient, false, policy),
    warned: false,
    notes: from.notes ?? {},
  };
}

/** A recipient without times: what a settled or held one is made from. */
export function withoutTimes(entry: QueuedRecipient): Omit<QueuedRecipient, 'dueAt' | 'eventAt'> {
  const { dueAt: _due, eventAt: _event, ...rest } = entry;
  return rest;
}

export const held = (entry: QueuedRecipient, reason: string): QueuedRecipient => ({
  ...withoutTimes(entry),
  state: 'held',
  notes: { ...entry.notes, hold: reason },
});

export function failed(
  message: QueuedMessage,
  entry: QueuedRecipient,
  notes: RecipientNotes,
  now: number,
): QueuedRecipient | undefined {
  // An undeliverable report (null sender) stays until its double bounce is dealt with.
  const owed = message.sender === null ? message.reports : wantsReport(message, entry.recipient, 'failure');
  if (!owed) return undefined;
  return { ...withoutTimes(entry), state: 'failed', eventAt: now, notes: { ...entry.notes, ...notes } };
}

export interface OutcomeContext {
  readonly now: number;
  readonly policy: QueuePolicy;
  readonly random: () => number;
}

/** The recipient after an attempt; undefined when nothing is left to do for it. */
export function afterOutcome(
  message: QueuedMessage,
  entry: QueuedRecipient,
  outcome: DeliveryOutcome,
  context: OutcomeContext,
): QueuedRecipient | undefined {
  const { now, policy } = context;
  const attempts = entry.attempts + 1;
  switch (outcome.kind) {
    case 'delivered': {
      if (outcome.dsnPassed || !wantsReport(message, entry.recipient, 'success')) return undefined;
      const notes = { ...entry.notes, triedAt: now, relayed: outcome.relayed ?? false };
      return { ...withoutTimes(entry), state: 'delivered', attempts, eventAt: now, notes };
    }
    case 'failed':
      return failed(message, { ...entry, attempts }, notesOf(outcome, now), now);
    case 'deferred':
      // Trouble of the destination does not age the recipient: it stays due, behind the others, and the destination waits.
      return {
        ...entry,
        state: 'pending',
        attempts: outcome.destination ? entry.attempts : attempts,
        dueAt: outcome.destination ? now : now + retryWaitMs(policy, attempts, context.random),
        eventAt: nextEvent(message, entry.recipient, entry.warned, policy),
        notes: { ...entry.notes, ...notesOf(outcome, now) },
      };
  }
}

function notesOf(outcome: Exclude<DeliveryOutcome, { kind: 'delivered' }>, now: number): RecipientNotes {
  const { reply, why, remote } = outcome;
  return { reply, why, triedAt: now, ...(remote === undefined ? {} : { remote }) };
}

/** What a transport is given of a queued message. */
export function jobOf(message: QueuedMessage, recipients: readonly Recipient[]): DeliveryJob {
  const { id, sender, envelope, form, message: read, receivedAt, client } = message;
  return {
    id,
    sender,
    envelope,
    form,
    receivedAt,
    recipients,
    ...(read === undefined ? {} : { message: read }),
    ...(client === undefined ? {} : { client }),
  };
}
