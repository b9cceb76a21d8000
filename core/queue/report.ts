// What the queue tells the sender: failures, delays and, when asked for, successes. RFC 3461, RFC 3464.
//
// - Reports have the null sender and never cause one (RFC 3461 §6.2). A report that cannot be delivered is a double
//   bounce: it goes to the postmaster once, or is dropped and logged.
// - Nobody hears of mail that the chain marked as forged (`reports: false`).
// - A report enters the queue in the same commit in which the recipient leaves it: neither is lost, neither comes twice.
// - Rate-limited per sender: what is above the limit waits, nothing is dropped.
// - Words of inner hosts never get here as `remote`; see `RemoteWord` (invariant I6).
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { type Address, parseMailbox } from '../mail/address.ts';
import { buildDsn, type DsnRecipient } from '../mail/dsn.ts';
import { readMessage } from '../mail/message.ts';
import type { Rope } from '../mail/rope.ts';
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
  /** Reports to one sender per hour. Default 100. */
  readonly perSenderHour?: number;
  /** There is a new entry for the runner. */
  readonly wake?: (destinations: readonly string[]) => void;
}

/** Reports that are above the limit wait so long. */
const postponeMs = 600_000;

type Kind = 'failure' | 'delay' | 'success';

const kindOf = (message: QueuedMessage, entry: QueuedRecipient, now: number): Kind => {
  if (entry.state === 'failed') return 'failure';
  if (entry.state === 'delivered') return 'success';
  return message.expiresAt <= now ? 'failure' : 'delay';
};

export function createReporter(parts: ReportParts): Reporter {
  const { store, policy, log } = parts;
  const limit = createReportLimit(parts.perSenderHour ?? 100);

  /** Nobody is told; for mail without a sender, marked as forged, or with NOTIFY=NEVER. */
  function silently(message: QueuedMessage, entry: QueuedRecipient, kind: Kind): Change {
    return kind === 'delay' ? delayTold(message, entry) : [entry, undefined];
  }
  const delayTold = (message: QueuedMessage, entry: QueuedRecipient): Change => [
    entry,
    { ...entry, warned: true, eventAt: nextEvent(message, entry.recipient, true, policy) },
  ];
  const wanted = (message: QueuedMessage, entry: QueuedRecipient, kind: Kind): boolean => {
    if (!message.reports) return false;
    const { notify } = entry.recipient;
    // An operator who bounces a message wants it bounced; otherwise RFC 3461 §4.1.
    return notify === undefined ? kind !== 'success' : notify.includes(kind);
  };

  async function entryOf(to: Address, about: Entry, kind: Kind, now: number): Promise<Entry> {
    const { message, recipients } = about;
    const id = parts.newId();
    const original = await readMessage(message.form);
    const { ret, envid, requireTls } = message.envelope;
    const dsn = buildDsn({
      hostname: parts.hostname,
      to,
      recipients: recipients.map(each => dsnRecipient(message, each, kind, now)),
      original,
      // RFC 8689 §5: a body that had to be protected is not sent back.
      ...(ret === undefined || requireTls ? {} : { ret }),
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
    if (!to || toPostmaster || !message.reports || !limit.take('', now)) {
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
      const permitted = told.length === 0 || limit.take(to.text, now);
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

  return async (entry, now) => {
    const { sender } = entry.message;
    const { changes, add } = sender === null ? await doubleBounce(entry, now) : await reports(entry, sender, now);
    await store.change(entry.message.id, changes, add);
    parts.wake?.(add.flatMap(each => each.recipients.map(recipient => recipient.destination)));
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
