// What the client hears. A `unit` is what one reply speaks for: the whole message, or with LMTP and PRDR one recipient of
// the client. Of a unit all of whose recipients failed nothing is kept and the client hears that 5xx; so no bounce arises.
import type { Deliverable } from '../mail/deliverable.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import type { Reply } from '../mail/reply.ts';
import type { TraceEnd, TraceRecipient, TraceRecord } from '../mail/trace.ts';
import { StateError } from '../state/state.ts';
import type { QueuedMessage, QueuePolicy } from './entry.ts';
import type { ClientFacts, DeliveryOutcome, Route } from './transport.ts';

/** The shape of `smtp/ports.ts`; structural typing connects the two. */
export interface SettleRequest {
  readonly id: string;
  readonly receivedAt: number;
  readonly envelope: Envelope;
  readonly deliverable: Deliverable;
  /** Whether the client is gone. */
  readonly signal: { readonly aborted: boolean };
  /** The client hears `perRecipient` (LMTP, PRDR), so a failed recipient needs no bounce. */
  readonly perRecipientReplies?: boolean;
  /** The chain marked the sender as forged: no report is ever sent to it. */
  readonly forged?: boolean;
  readonly client?: ClientFacts;
  /** The record of the transaction, should it end so. */
  readonly trace?: (end: TraceEnd) => TraceRecord;
}

export interface Settlement {
  readonly reply: Reply;
  readonly perRecipient: readonly Reply[];
  readonly recipients: readonly TraceRecipient[];
}

/** A recipient on its way through `settle`. */
export interface Leg {
  readonly index: number;
  readonly recipient: Recipient;
  /** Position in the client's envelope; -1 where a plugin added it. */
  readonly unit: number;
  readonly destination: string;
  readonly route?: Route;
  /** Absent while only the queue knows. */
  outcome?: DeliveryOutcome;
}

/** The message as the queue keeps it. */
export function messageOf(request: SettleRequest, policy: QueuePolicy): QueuedMessage {
  const { sender: _sender, recipients: _recipients, ...envelope } = request.envelope;
  return {
    id: request.id,
    receivedAt: request.receivedAt,
    expiresAt: request.receivedAt + policy.lifetimeMs,
    sender: request.deliverable.sender,
    envelope,
    form: request.deliverable.message.rope,
    message: request.deliverable.message,
    reports: !request.forged && !request.deliverable.forged && request.deliverable.kind !== 'quarantine',
    ...(request.client === undefined ? {} : { client: request.client }),
  };
}

export const accepted = (id: string): Reply<2> => ({ code: 250, enhanced: '2.0.0', text: `Accepted as ${id}` });
export const localProblem: Reply<4> = { code: 451, enhanced: '4.3.0', text: 'Temporary failure, try again later' };
const diskFull: Reply<4> = { code: 452, enhanced: '4.3.1', text: 'Insufficient system storage, try again later' };
function isDiskFull(error: unknown): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (at instanceof StateError && at.code === 'full') return true;
    const { code } = at as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') return true;
  }
  return false;
}

/** What a client hears when the queue cannot take its message; RFC 5321 §4.2.3: 452 where storage is short. */
export const storageReply = (error: unknown): Reply<4> => (isDiskFull(error) ? diskFull : localProblem);

/** What the client hears for a unit, and which of its legs stay with us. */
export function judge(request: SettleRequest, legs: readonly Leg[]): { readonly reply: Reply; readonly keep: boolean } {
  // Recipients that a plugin added have nobody who hears a reply.
  if (request.perRecipientReplies && legs.every(leg => leg.unit < 0))
    return { reply: accepted(request.id), keep: true };
  const failures = legs.flatMap(leg => (leg.outcome?.kind === 'failed' ? [leg.outcome] : []));
  if (legs.length > 0 && failures.length === legs.length)
    return { reply: failures[0]?.reply ?? localProblem, keep: false };
  // A recipient's own 4xx is for the client to retry, which spares a later bounce; a person at a mail program cannot.
  const deferral = legs.find(leg => leg.outcome?.kind === 'deferred')?.outcome;
  const clientRetries = request.client?.identity === undefined;
  const none = legs.every(
    ({ outcome }) => outcome?.kind === 'failed' || (outcome?.kind === 'deferred' && !outcome.destination),
  );
  if (none && clientRetries && deferral?.kind === 'deferred') return { reply: deferral.reply, keep: false };
  return { reply: accepted(request.id), keep: true };
}

export const unitsOf = (request: SettleRequest, legs: readonly Leg[]): readonly (readonly Leg[])[] => {
  if (!request.perRecipientReplies) return [legs];
  const units = request.envelope.recipients.map((_, unit) => legs.filter(leg => leg.unit === unit));
  return [...units, legs.filter(leg => leg.unit < 0)];
};

/** The replies as the client needs them, and what the trace says. */
export function settlement(request: SettleRequest, legs: readonly Leg[], replies: ReadonlyMap<Leg, Reply>): Settlement {
  const ok = accepted(request.id);
  const names = request.envelope.recipients.map(each => each.address.text);
  const perRecipient = names.map(name => {
    // One that the client named twice hears the same twice.
    const unit = names.indexOf(name);
    const own = legs.filter(leg => leg.unit === unit).map(leg => replies.get(leg) ?? ok);
    return own.find(reply => reply.code < 300) ?? own.find(reply => reply.code < 500) ?? own[0] ?? ok;
  });
  const all = legs.map(leg => replies.get(leg) ?? ok);
  const worst = all.find(reply => reply.code >= 400 && reply.code < 500) ?? all.find(reply => reply.code >= 500);
  const refused = all.length > 0 && all.every(reply => reply.code >= 400);
  return {
    reply: request.perRecipientReplies ? (refused ? (worst ?? ok) : ok) : (worst ?? ok),
    perRecipient,
    recipients: legs.map(leg => traceOf(leg, replies.get(leg) ?? ok)),
  };
}

/** Nobody has got it, and nothing is stored. */
export function refusal(request: SettleRequest, reply: Reply<4>, detail: string): Settlement {
  return {
    reply,
    perRecipient: request.envelope.recipients.map(() => reply),
    recipients: request.deliverable.recipients.map(each => ({
      address: each.address.text,
      outcome: 'deferred',
      detail,
    })),
  };
}

function traceOf(leg: Leg, reply: Reply): TraceRecipient {
  const address = leg.recipient.address.text;
  const { outcome } = leg;
  const steps = outcome?.steps === undefined ? {} : { steps: outcome.steps };
  if (outcome?.kind === 'delivered')
    return { address, outcome: outcome.relayed ? 'relayed' : 'delivered', detail: outcome.detail, ...steps };
  if (outcome?.kind === 'failed')
    return { address, outcome: reply.code < 400 ? 'bounced' : 'rejected', detail: outcome.why, ...steps };
  const detail = outcome?.kind === 'deferred' ? outcome.why : leg.destination;
  return { address, outcome: reply.code < 400 ? 'queued' : 'deferred', detail, ...steps };
}
