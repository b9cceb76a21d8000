// What an operator may ask of the queue and do to it. Plain data in, plain data out; the command line and the console
// print it. Works page by page, so a long queue costs no memory. Whoever calls wakes the runner afterwards.
import type { SqlValue } from '../state/state.ts';
import { held, nextEvent, type QueuedRecipient, type QueuePolicy, withoutTimes } from './entry.ts';
import type { Change, Entry, QueueStore } from './store.ts';

export interface QueueFilter {
  readonly id?: string;
  readonly state?: QueuedRecipient['state'];
  readonly destination?: string;
  /** Whole address. */
  readonly recipient?: string;
  readonly recipientDomain?: string;
  /** Whole address; `''`: the null sender. */
  readonly sender?: string;
}

export interface QueueListing {
  readonly id: string;
  readonly receivedAt: number;
  readonly expiresAt: number;
  /** `''`: the null sender. */
  readonly sender: string;
  readonly size: number;
  readonly recipients: readonly QueueListingRecipient[];
}
export interface QueueListingRecipient {
  readonly address: string;
  readonly destination: string;
  readonly state: QueuedRecipient['state'];
  readonly attempts: number;
  readonly dueAt?: number;
  readonly why?: string;
}

export interface DestinationListing {
  readonly name: string;
  readonly recipients: number;
  readonly held: boolean;
  readonly failures: number;
  /** ms since the epoch; 0 = not in trouble. */
  readonly blockedUntil: number;
  readonly why?: string;
  readonly readyAt?: number;
}

export interface QueueAdmin {
  /** In order of ids (which is that of arrival); `after`: the last id of the page before. */
  list(filter: QueueFilter, limit: number, after?: string): Promise<readonly QueueListing[]>;
  show(id: string): Promise<Entry | undefined>;
  destinations(limit: number): Promise<readonly DestinationListing[]>;
  /** Recipients by state. */
  counts(): Promise<Readonly<Record<QueuedRecipient['state'], number>>>;
  /** All of these return how many recipients they changed. */
  hold(filter: QueueFilter): Promise<number>;
  /** Held ones become due; their lifetime begins again where it ended meanwhile. */
  release(filter: QueueFilter): Promise<number>;
  /**
   * Pending ones become due now, whatever trouble their destination is in, with the waits of a new message; also ETRN (RFC
   * 1985), by `recipientDomain`. Not those that the direct path is trying just now.
   */
  requeue(filter: QueueFilter): Promise<number>;
  /** Everything pending and every destination in trouble, or one destination. */
  flush(destination?: string): Promise<number>;
  /** By this next hop instead of the configured route, whatever trouble theirs is in. Not those that the direct path is trying just now. */
  reroute(filter: QueueFilter, via: string): Promise<number>;
  /** Nobody is told. */
  delete(filter: QueueFilter): Promise<number>;
  /** Returned to their senders with these words. */
  bounce(filter: QueueFilter, note: string): Promise<number>;
  /** Nothing goes there until it is released; new mail for it waits as well. */
  holdDestination(name: string): Promise<void>;
  releaseDestination(name: string): Promise<void>;
}

/** Each with its body in memory. */
const pageSize = 50;

function where(filter: QueueFilter): { readonly sql: string; readonly params: readonly SqlValue[] } {
  const terms: [string, SqlValue][] = [];
  if (filter.id !== undefined) terms.push(['r.message = ?', filter.id]);
  if (filter.state !== undefined) terms.push(['r.state = ?', filter.state]);
  if (filter.destination !== undefined) terms.push(['r.destination = ?', filter.destination]);
  if (filter.recipient !== undefined) terms.push(['r.address = ?', filter.recipient]);
  if (filter.recipientDomain !== undefined)
    terms.push([
      "r.address LIKE ? ESCAPE '!'",
      `%@${filter.recipientDomain.toLowerCase().replaceAll(/[!%_]/g, found => `!${found}`)}`,
    ]);
  if (filter.sender !== undefined) {
    const quoted = `%${JSON.stringify({ text: filter.sender })
      .slice(1, -1)
      .replaceAll(/[!%_]/g, found => `!${found}`)}%`;
    terms.push(filter.sender === '' ? ['m.sender IS NULL AND ? = 0', 0] : ["m.sender LIKE ? ESCAPE '!'", quoted]);
  }
  return { sql: terms.map(([sql]) => sql).join(' AND ') || '1 = 1', params: terms.map(([, value]) => value) };
}

export function createQueueAdmin(store: QueueStore, policy: QueuePolicy, now: () => number): QueueAdmin {
  const { state } = store;

  async function ids(filter: QueueFilter, limit: number, after: string): Promise<readonly string[]> {
    const { sql, params } = where(filter);
    const join = filter.sender === undefined ? '' : 'JOIN queue_message m ON m.id = r.message';
    const rows = await state.query(
      `SELECT DISTINCT r.message AS id FROM queue_recipient r ${join} WHERE ${sql} AND r.message > ? ORDER BY r.message LIMIT ?`,
      [...params, after, limit],
    );
    return rows.map(row => row['id'] as string);
  }

  const matches = (filter: QueueFilter, { recipient, destination, ...entry }: QueuedRecipient): boolean =>
    (filter.state === undefined || entry.state === filter.state) &&
    (filter.destination === undefined || destination === filter.destination) &&
    (filter.recipient === undefined || recipient.address.text === filter.recipient) &&
    (filter.recipientDomain === undefined || recipient.address.domain === filter.recipientDomain.toLowerCase());

  /**
   * Applies a change to each recipient that matches; `alter` gives back the recipient itself where nothing changes. With
   * `waiting` it leaves those alone that the direct path is trying: a second attempt beside that would deliver twice.
   */
  async function each(
    filter: QueueFilter,
    alter: (recipient: QueuedRecipient, entry: Entry) => QueuedRecipient | undefined,
    { waiting = false } = {},
  ): Promise<number> {
    let count = 0;
    for (let after = ''; ; ) {
      const page = await ids(filter, pageSize, after);
      await Promise.all(
        page.map(async id => {
          const entry = await store.entry(id);
          if (!entry) return;
          const tried = waiting ? await store.leased(id) : new Set();
          const changes = entry.recipients
            .filter(recipient => matches(filter, recipient) && !tried.has(recipient.index))
            .map((recipient): Change => [recipient, alter(recipient, entry)])
            .filter(([before, later]) => before !== later);
          await store.change(id, changes);
          count += changes.length;
        }),
      );
      const last = page.at(-1);
      if (last === undefined || page.length < pageSize) return count;
      after = last;
    }
  }

  const pendingNow = (recipient: QueuedRecipient, { message }: Entry): QueuedRecipient => {
    const { hold: _hold, ...notes } = recipient.notes;
    return {
      ...recipient,
      state: 'pending',
      attempts: 0,
      dueAt: now(),
      eventAt: nextEvent(message, recipient.recipient, recipient.warned, policy),
      notes,
    };
  };

  return {
    async list(filter, limit, after = '') {
      const page = await ids(filter, limit, after);
      const entries = await Promise.all(page.map(id => store.entry(id)));
      return entries.filter(entry => entry !== undefined).map(listing);
    },
    show: id => store.entry(id),
    async destinations(limit) {
      const rows = await state.query(
        `SELECT d.name AS name, d.held AS held, d.failures AS failures, d.blocked_until AS blocked_until, d.why AS why,
          d.ready_at AS ready_at, (SELECT COUNT(*) FROM queue_recipient r WHERE r.destination = d.name) AS recipients
          FROM queue_destination d ORDER BY recipients DESC, d.name LIMIT ?`,
        [limit],
      );
      return rows.map(row => ({
        name: row['name'] as string,
        recipients: Number(row['recipients']),
        held: row['held'] !== 0,
        failures: Number(row['failures']),
        blockedUntil: Number(row['blocked_until']),
        ...(row['why'] === null ? {} : { why: row['why'] as string }),
        ...(row['ready_at'] === null ? {} : { readyAt: Number(row['ready_at']) }),
      }));
    },
    async counts() {
      const rows = await state.query('SELECT state, COUNT(*) AS n FROM queue_recipient GROUP BY state');
      const of = (name: string): number => Number(rows.find(row => row['state'] === name)?.['n'] ?? 0);
      return { pending: of('pending'), held: of('held'), delivered: of('delivered'), failed: of('failed') };
    },
    hold: filter => each({ ...filter, state: 'pending' }, recipient => held(recipient, 'operator')),
    async release(filter) {
      // What was held past its lifetime would expire at once.
      const at = now();
      await state.write([
        {
          sql: `UPDATE queue_message SET expires_at = ? WHERE expires_at <= ?
            AND id IN (SELECT message FROM queue_recipient WHERE state = 'held')`,
          params: [at + policy.lifetimeMs, at],
        },
      ]);
      return each({ ...filter, state: 'held' }, (recipient, entry) =>
        pendingNow({ ...recipient, warned: true }, entry),
      );
    },
    async requeue(filter) {
      const destinations = new Set<string>();
      const count = await each(
        { ...filter, state: 'pending' },
        (recipient, entry) => {
          destinations.add(recipient.destination);
          return pendingNow(recipient, entry);
        },
        { waiting: true },
      );
      for (const name of destinations) await store.unblock(name, now());
      return count;
    },
    async flush(destination) {
      const one = destination === undefined ? '' : ' AND destination = ?';
      const named = destination === undefined ? '' : ' AND name = ?';
      const params = destination === undefined ? [] : [destination];
      const [, changed] = await state.write([
        {
          sql: `UPDATE queue_destination SET ready_at = ?, blocked_until = 0, failures = 0, why = NULL WHERE held = 0${named}`,
          params: [now(), ...params],
        },
        {
          sql: `UPDATE queue_recipient SET due_at = ? WHERE state = 'pending' AND lease IS NULL${one}`,
          params: [now(), ...params],
        },
      ]);
      return changed ?? 0;
    },
    reroute: (filter, via) =>
      each(
        { ...filter, state: 'pending' },
        (recipient, entry) => {
          const fresh = pendingNow(recipient, entry);
          // A destination of its own, until the runner has looked up the real one: the former may be blocked for long.
          return { ...fresh, destination: `reroute:${via}`, notes: { ...fresh.notes, via } };
        },
        { waiting: true },
      ),
    delete: filter => each(filter, () => undefined),
    bounce: (filter, note) =>
      each(filter, recipient => ({
        ...withoutTimes(recipient),
        state: 'failed',
        eventAt: now(),
        notes: { ...recipient.notes, note },
      })),
    async holdDestination(name) {
      await state.write([
        {
          sql: `INSERT INTO queue_destination (name, ready_at, held, failures, blocked_until) VALUES (?, NULL, 1, 0, 0)
            ON CONFLICT (name) DO UPDATE SET held = 1, ready_at = NULL`,
          params: [name],
        },
      ]);
    },
    async releaseDestination(name) {
      await state.write([
        {
          sql: 'UPDATE queue_destination SET held = 0, ready_at = ?, blocked_until = 0, failures = 0 WHERE name = ?',
          params: [now(), name],
        },
      ]);
    },
  };
}

function listing({ message, recipients }: Entry): QueueListing {
  return {
    id: message.id,
    receivedAt: message.receivedAt,
    expiresAt: message.expiresAt,
    sender: message.sender?.text ?? '',
    size: message.form.size,
    recipients: recipients.map(({ recipient, destination, state, attempts, dueAt, notes }) => {
      const { hold, unreported } = notes;
      const why = hold ?? (unreported ? `Not reported, ${unreported.tries} tries: ${unreported.why}` : notes.why);
      return {
        address: recipient.address.text,
        destination,
        state,
        attempts,
        ...(dueAt === undefined ? {} : { dueAt }),
        ...(why === undefined ? {} : { why }),
      };
    }),
  };
}
