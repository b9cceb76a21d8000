// What the queue tells the sender: failures, delays and, when asked for, successes. RFC 3461, RFC 3464.
//
// - Reports have the null sender and never cause one (RFC 3461 §6.2). A report that cannot be delivered is a double
//   bounce: it goes to the postmaster once, or is dropped and logged.
// - Nobody hears of mail that the chain marked as forged (`reports: false`).
// - A report enters the queue in the same commit in which the recipient leaves it: neither is lost, neither comes twice.
// - Rate-limited per sender: what is above the limit waits; only a double bounce is dropped and logged.
// - One that cannot be made or stored is put off, longer each time, and holds up no other. It stays in the queue, where an
//   operator sees why. When it has failed for hours, it goes without what cannot be read of the message.
// - Words of inner hosts never get here as `remote`; see `RemoteWord` (invariant I6).
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { type Address, parseMailbox } from '../mail/address.ts';
import { buildDsn, type DsnRecipient, type DsnRequest } from '../mail/dsn.ts';
import { makeMessage, readMessage } from '../mail/message.ts';
import { bufferRope, type Rope } from '../mail/rope.ts';
import { StateError } from '../state/state.ts';
import { retryWaitMs } from './backoff.ts';
import { nextEvent, pendingRecipient, type QueuedMessage, type QueuedRecipient, type QueuePolicy } from './entry.ts';
import { createReportLimit } from './report-limit.ts';
import type { Reporter } from './scheduler.ts';
import type { Change, Entry, QueueStore } from './store.ts';
import type { RouteLookup } from './transport.ts';

export interface ReportParts {
  readonly store: QueueStore;
  readonly routes: RouteLookup;
  readonly policy: QueuePolicy;
  readonly clock: Clock;
  readonly log: Logger;
  /** Our name, in the report. */
  readonly hostname: string;
  readonly newId: () => string;
  /** Where double bounces go; absent: dropped and logged. */
  readonly postmaster?: Address;
  /** Signs a report (DKIM) before it is queued. */
  readonly sign?: (form: Rope) => Promise<Rope>;
  /** Reports to one sender per hour, as the configuration is now. */
  readonly perSenderHour: () => number;
  /** There is a new entry for the runner. */
  readonly wake?: (destinations: readonly string[]) => void;
}

/** Reports that are above the limit wait so long. */
const postponeMs = 600_000;
/** Tries to make a report as it should be; with the usual waits they take five hours. */
const wholeTries = 10;

type Kind = 'failure' | 'delay' | 'success';

const kindOf = (message: QueuedMessage, entry: QueuedRecipient, now: number): Kind => {
  if (entry.state === 'failed') return 'failure';
  if (entry.state === 'delivered') return 'success';
  return message.expiresAt <= now ? 'failure' : 'delay';
};

const triesOf = (recipients: readonly QueuedRecipient[]): number =>
  Math.max(...recipients.map(({ notes }) => notes.unreported?.tries ?? 0));

export function createReporter(parts: ReportParts): Reporter {
  const { store, policy, log } = parts;
  const limit = createReportLimit(parts.perSenderHour);

  /** Nobody is told; for mail without a sender, marked as forged, or with NOTIFY=NEVER. */
  function silently(message: QueuedMessage, entry: QueuedRecipient, kind: Kind): Change {
    return kind === 'delay' ? delayTold(message, entry) : [entry, undefined];
  }
  const delayTold = (message: QueuedMessage, entry: QueuedRecipient): Change => {
    const { unreported: _told, ...notes } = entry.notes;
    return [entry, { ...entry, warned: true, eventAt: nextEvent(message, entry.recipient, true, policy), notes }];
  };
  const wanted = (message: QueuedMessage, entry: QueuedRecipient, kind: Kind): boolean => {
    if (!message.reports) return false;
    const { notify } = entry.recipient;
    // An operator who bounces a message wants it bounced; otherwise RFC 3461 §4.1.
    return notify === undefined ? kind !== 'success' : notify.includes(kind);
  };

  /** What goes back of the message. */
  async function returned({ message, recipients }: Entry): Promise<Pick<DsnRequest, 'original' | 'ret'>> {
    const { ret, requireTls } = message.envelope;
    if (triesOf(recipients) >= wholeTries)
      return { original: await readMessage(message.form).catch(() => makeMessage(bufferRope(Buffer.alloc(0)))) };
    const original = await readMessage(message.form);
    // RFC 8689 §5: a body that had to be protected is not sent back.
    return ret === undefined || requireTls ? { original } : { original, ret };
  }

  async function entryOf(to: Address, about: Entry, kind: Kind, now: number): Promise<Entry> {
    const { message, recipients } = about;
    const id = parts.newId();
    const { envid, requireTls } = message.envelope;
    const dsn = buildDsn({
      hostname: parts.hostname,
      to,
      recipients: recipients.map(each => dsnRecipient(message, each, kind, now)),
      ...(await returned(about)),
      ...(envid === undefined ? {} : { envid }),
      arrivedAt: message.receivedAt,
      queueId: message.id,
      at: now,
      unique: id,
    });
    const form = parts.sign ? await parts.sign(dsn.rope) : dsn.rope;
    const report: QueuedMessage = {
      id,
      sender: null,
      envelope: { smtputf8: dsn.smtputf8, requireTls, body: dsn.eightBit ? '8BITMIME' : '7BIT' },
      form,
      receivedAt: now,
      expiresAt: now + policy.lifetimeMs,
      reports: true,
    };
    const answer = await parts.routes({ address: to }).catch(() => undefined);
    const destination = answer?.kind === 'route' ? answer.route.destination : `unrouted:${to.domain}`;
    const recipient = pendingRecipient(report, 0, { recipient: { address: to }, destination, dueAt: now }, policy);
    return { message: report, recipients: [recipient] };
  }

  /** Null sender: the report itself could not be delivered. */
  async function doubleBounce(
    entry: Entry,
    now: number,
  ): Promise<{ readonly changes: Change[]; readonly add: Entry[] }> {
    const { message, recipients } = entry;
    const failures = recipients.filter(each => kindOf(message, each, now) === 'failure');
    const changes = recipients.map(each => silently(message, each, kindOf(message, each, now)));
    const to = parts.postmaster;
    const toPostmaster = failures.some(each => each.recipient.address.text === to?.text);
    if (failures.length === 0) return { changes, add: [] };
    if (!to || toPostmaster || !message.reports || !limit.allows('', 1, now)) {
      log.warn({ id: message.id, to: failures.map(each => each.recipient.address.text) }, 'double-bounce-dropped');
      return { changes, add: [] };
    }
    return { changes, add: [await entryOf(to, { message, recipients: failures }, 'failure', now)] };
  }

  async function reports(
    entry: Entry,
    to: Address,
    now: number,
  ): Promise<{ readonly changes: Change[]; readonly add: Entry[] }> {
    const { message, recipients } = entry;
    const changes: Change[] = [];
    const add: Entry[] = [];
    for (const kind of ['failure', 'delay', 'success'] as const) {
      const these = recipients.filter(each => kindOf(message, each, now) === kind);
      const told = these.filter(each => wanted(message, each, kind));
      const permitted = told.length === 0 || limit.allows(to.text, add.length + 1, now);
      if (!permitted) log.warn({ id: message.id, sender: to.text, kind }, 'report-postponed');
      else if (told.length > 0) {
        const report = await entryOf(to, { message, recipients: told }, kind, now);
        add.push(report);
        log.info({ id: message.id, report: report.message.id, kind, to: to.text }, 'report');
      }
      for (const each of these) {
        const postponed = !permitted && told.includes(each);
        changes.push(postponed ? [each, { ...each, eventAt: now + postponeMs }] : silently(message, each, kind));
      }
    }
    return { changes, add };
  }

  /** Owed still, but behind what can be told now. */
  async function putOff({ message, recipients }: Entry, now: number, error: unknown): Promise<void> {
    const tries = triesOf(recipients) + 1;
    const eventAt = now + retryWaitMs(policy, tries, Math.random);
    log.error({ err: error, id: message.id, tries, next: eventAt }, 'report');
    const unreported = { tries, why: error instanceof Error ? error.message : String(error) };
    await store.change(
      message.id,
      recipients.map(each => [each, { ...each, eventAt, notes: { ...each.notes, unreported } }]),
    );
  }

  return async (entry, now) => {
    const { sender, id } = entry.message;
    try {
      const { changes, add } = sender === null ? await doubleBounce(entry, now) : await reports(entry, sender, now);
      await store.change(id, changes, add);
      limit.note(sender?.text ?? '', add.length, now);
      parts.wake?.(add.flatMap(each => each.recipients.map(recipient => recipient.destination)));
    } catch (error) {
      // It may have been stored; what is owed still, the next look at the queue says.
      if (error instanceof StateError && error.code === 'unavailable') throw error;
      await putOff(entry, now, error);
    }
  };
}

function dsnRecipient(message: QueuedMessage, entry: QueuedRecipient, kind: Kind, now: number): DsnRecipient {
  const { notes, recipient } = entry;
  const named = entry.original === undefined ? undefined : parseMailbox(entry.original, { smtputf8: true });
  const { remote, reply } = notes;
  const expired = kind === 'failure' && entry.state === 'pending';
  return {
    // The address as the sender wrote it: where an alias leads is nobody's business.
    address: named?.kind === 'address' ? named.address : recipient.address,
    ...(recipient.orcpt === undefined ? {} : { orcpt: recipient.orcpt }),
    action: kind === 'delay' ? 'delayed' : kind === 'failure' ? 'failed' : notes.relayed ? 'relayed' : 'delivered',
    status: statusOf(kind, expired, reply?.enhanced),
    ...(remote === undefined || kind === 'success' ? {} : { diagnostic: remote.text, remoteMta: remote.host }),
    ...(notes.triedAt === undefined ? {} : { lastAttempt: notes.triedAt }),
    ...(kind === 'delay' ? { retryUntil: message.expiresAt } : {}),
    ...explanation(kind, expired, entry, now - message.receivedAt),
  };
}

/** RFC 3463 §3.5: X.4.7, delivery time expired. */
function statusOf(kind: Kind, expired: boolean, enhanced: string | undefined): string {
  if (kind === 'success') return '2.0.0';
  if (expired) return '4.4.7';
  return enhanced ?? (kind === 'delay' ? '4.0.0' : '5.0.0');
}

function explanation(
  kind: Kind,
  expired: boolean,
  entry: QueuedRecipient,
  ageMs: number,
): { readonly explanation?: string } {
  const { reply, note } = entry.notes;
  if (note !== undefined) return { explanation: note };
  if (kind === 'success' || reply === undefined) return expired ? { explanation: 'Delivery took too long' } : {};
  const hours = Math.max(1, Math.round(ageMs / 3_600_000));
  const age = hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
  return { explanation: expired ? `Given up after ${age}: ${reply.text}` : reply.text };
}
