// The queue on disk, over the state interface. Every method that changes something is one `State.write`, so it is all
// or nothing and durable when it resolves. A small message costs one commit to enter and one to leave.
//
// Leases: a recipient that the direct path is still trying carries the lease of that process and becomes due when the
// lease ends, should the process die. `recover` gives back all leases at once; call it when the gateway starts, before
// any process of it takes mail. Otherwise exactly one runner works on a store.
import { mkdir } from 'node:fs/promises';
import { type State, StateError, type Statement } from '../state/state.ts';
import { openBodyStore } from './body.ts';
import type { QueuedMessage, QueuedRecipient } from './entry.ts';
import {
  insertMessage,
  insertRecipient,
  messageColumns,
  recipientColumns,
  toMessage,
  toRecipient,
  updateRecipient,
  wakeDestination,
} from './rows.ts';
import { queueMigrations } from './schema.ts';

export interface Entry {
  readonly message: QueuedMessage;
  readonly recipients: readonly QueuedRecipient[];
}

/**
 * New state of a recipient; undefined: it leaves the queue. A state or destination that somebody else changed meanwhile (an
 * operator held it, or sent it elsewhere) stays as it is.
 */
export type Change = readonly [entry: QueuedRecipient, after: QueuedRecipient | undefined];

export interface DestinationRow {
  readonly name: string;
  /** Failures of the destination in a row. */
  readonly failures: number;
}

export interface QueueStore {
  /** Durable when it resolves. Rejects (disk full …) with nothing left behind. `leased`: indexes under the lease, default all. */
  add(entry: Entry, lease?: string, leased?: ReadonlySet<number>): Promise<void>;
  /** As `add`, in one transaction with statements of whoever hands the message over: all or nothing. */
  addWith(entry: Entry, also: readonly Statement[]): Promise<void>;
  /**
   * Applies changes of one message, and adds new entries (reports) with them, all in one commit. The message goes when
   * its last recipient goes. Changed recipients lose their lease.
   */
  change(id: string, changes: readonly Change[], add?: readonly Entry[]): Promise<void>;
  entry(id: string): Promise<Entry | undefined>;
  /** Indexes of the recipients that the direct path is still trying. */
  leased(id: string): Promise<ReadonlySet<number>>;
  /** Destinations with work at `now`, longest waiting first. */
  ready(now: number, limit: number): Promise<readonly DestinationRow[]>;
  /** When the next destination after `now` becomes ready. */
  nextReady(now: number): Promise<number | undefined>;
  /** Messages with due recipients at a destination, longest due first; looks at up to `limit` recipients. */
  due(destination: string, now: number, limit: number): Promise<readonly string[]>;
  /** A message with those of its recipients that are due at a destination, up to `limit`. */
  batch(id: string, destination: string, now: number, limit: number): Promise<Entry | undefined>;
  /** Recipients whose report or expiry is due, whole messages of them. `recipients` holds only those. */
  events(now: number, limit: number): Promise<readonly Entry[]>;
  nextEvent(): Promise<number | undefined>;
  /** No due recipient is left: sets `ready_at` to the truth, forgets a destination without recipients. */
  rest(destination: string, now: number): Promise<void>;
  /** Behind the other ready destinations. */
  yieldTurn(destination: string, now: number): Promise<void>;
  /** The destination is in trouble until then. */
  block(destination: string, failures: number, until: number, why: string): Promise<void>;
  /** Trouble is over. */
  unblock(destination: string, now: number): Promise<void>;
  /**
   * Makes due what waits longer from `now` than anything waits, in ms: a try or a probe longer than `longestWaitMs`, an
   * owed report longer than `lifetimeMs`. The clock that gave these times was set back since.
   */
  mendTimes(now: number, longestWaitMs: number, lifetimeMs: number): Promise<void>;
  /** Gives back the leases of processes that are gone; see above. Returns how many. */
  recover(now: number): Promise<number>;
  /** Removes body files without an entry. */
  sweepBodies(now: number): Promise<number>;
  readonly state: State;
}

export interface QueueStoreOptions {
  /** Bodies above this many bytes are files. */
  readonly inRowLimit?: number;
}

const orphanGraceMs = 3_600_000;
const placeholders = (count: number): string => Array.from({ length: count }, () => '?').join(', ');

/** `directory` is for large bodies; it is made when missing. */
export async function openQueueStore(
  state: State,
  directory: string,
  options: QueueStoreOptions = {},
): Promise<QueueStore> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await state.migrate('queue', queueMigrations);
  const bodies = openBodyStore(directory, options.inRowLimit ?? 256 * 1024);

  async function addStatements({ message, recipients }: Entry, lease?: string, leased?: ReadonlySet<number>) {
    const body = await bodies.put(message.id, message.form);
    const statements: Statement[] = [insertMessage(message, body)];
    const wake = new Map<string, number>();
    for (const entry of recipients) {
      statements.push(insertRecipient(message.id, entry, !leased || leased.has(entry.index) ? lease : undefined));
      if (entry.dueAt !== undefined)
        wake.set(entry.destination, Math.min(entry.dueAt, wake.get(entry.destination) ?? entry.dueAt));
    }
    for (const [name, at] of wake) statements.push(wakeDestination(name, at));
    return { body, statements };
  }

  /** Commits, and takes back the files of new bodies when that fails. */
  async function commit(statements: readonly Statement[], newBodies: readonly { readonly pieces: string }[]) {
    try {
      return await state.write(statements);
    } catch (error) {
      // With `unavailable` the commit may have happened: its files stay until the sweep knows.
      const unknown = error instanceof StateError && error.code === 'unavailable';
      if (!unknown) for (const body of newBodies) await bodies.remove(body.pieces);
      throw error;
    }
  }

  async function messages(ids: readonly string[]): Promise<ReadonlyMap<string, QueuedMessage>> {
    const rows = await state.query(
      `SELECT ${messageColumns} FROM queue_message WHERE id IN (${placeholders(ids.length)})`,
      ids,
    );
    return new Map(rows.map(row => [row['id'] as string, toMessage(row, bodies)]));
  }

  async function entriesOf(sql: string, params: readonly (string | number)[]): Promise<readonly Entry[]> {
    const grouped = new Map<string, QueuedRecipient[]>();
    for (const row of await state.query(sql, params)) {
      const id = row['message'] as string;
      const list = grouped.get(id);
      if (list) list.push(toRecipient(row));
      else grouped.set(id, [toRecipient(row)]);
    }
    if (grouped.size === 0) return [];
    const found = await messages([...grouped.keys()]);
    return [...grouped].flatMap(([id, recipients]) => {
      const message = found.get(id);
      return message === undefined ? [] : [{ message, recipients }];
    });
  }

  const firstNumber = async (sql: string, params: readonly number[]): Promise<number | undefined> => {
    const [row] = await state.query(sql, params);
    const value = row?.['at'];
    return value === null || value === undefined ? undefined : Number(value);
  };

  return {
    state,
    async add(entry, lease, leased) {
      const { body, statements } = await addStatements(entry, lease, leased);
      await commit(statements, [body]);
    },
    async addWith(entry, also) {
      const { body, statements } = await addStatements(entry);
      await commit([...also, ...statements], [body]);
    },
    async change(id, changes, add = []) {
      const statements: Statement[] = [];
      const newBodies: { readonly pieces: string }[] = [];
      for (const [before, after] of changes) {
        if (after === undefined)
          statements.push({
            sql: 'DELETE FROM queue_recipient WHERE message = ? AND idx = ?',
            params: [id, before.index],
          });
        else {
          statements.push(updateRecipient(id, before, after));
          if (after.dueAt !== undefined) statements.push(wakeDestination(after.destination, after.dueAt));
        }
      }
      const leaving = changes.some(([, after]) => after === undefined);
      let files: string | undefined;
      if (leaving) {
        const [row] = await state.query('SELECT pieces FROM queue_message WHERE id = ?', [id]);
        files = row?.['pieces'] as string | undefined;
      }
      const removal = statements.length;
      if (leaving)
        statements.push({
          sql: 'DELETE FROM queue_message WHERE id = ? AND NOT EXISTS (SELECT 1 FROM queue_recipient WHERE message = ?)',
          params: [id, id],
        });
      for (const entry of add) {
        const more = await addStatements(entry);
        newBodies.push(more.body);
        statements.push(...more.statements);
      }
      if (statements.length === 0) return;
      const counts = await commit(statements, newBodies);
      if (leaving && files !== undefined && counts[removal] === 1) await bodies.remove(files);
    },
    async entry(id) {
      const [found] = await entriesOf(
        `SELECT ${recipientColumns} FROM queue_recipient WHERE message = ? ORDER BY idx`,
        [id],
      );
      return found;
    },
    async leased(id) {
      const rows = await state.query('SELECT idx FROM queue_recipient WHERE message = ? AND lease IS NOT NULL', [id]);
      return new Set(rows.map(row => Number(row['idx'])));
    },
    async ready(now, limit) {
      const rows = await state.query(
        'SELECT name, failures FROM queue_destination WHERE ready_at <= ? ORDER BY ready_at LIMIT ?',
        [now, limit],
      );
      return rows.map(row => ({ name: row['name'] as string, failures: Number(row['failures']) }));
    },
    nextReady: now => firstNumber('SELECT MIN(ready_at) AS at FROM queue_destination WHERE ready_at > ?', [now]),
    async due(destination, now, limit) {
      const rows = await state.query(
        'SELECT message FROM queue_recipient WHERE destination = ? AND due_at <= ? ORDER BY due_at LIMIT ?',
        [destination, now, limit],
      );
      return [...new Set(rows.map(row => row['message'] as string))];
    },
    async batch(id, destination, now, limit) {
      const [rows, found] = await Promise.all([
        state.query(
          `SELECT ${recipientColumns} FROM queue_recipient WHERE message = ? AND destination = ? AND due_at <= ?
            ORDER BY idx LIMIT ?`,
          [id, destination, now, limit],
        ),
        messages([id]),
      ]);
      const message = found.get(id);
      return message === undefined || rows.length === 0 ? undefined : { message, recipients: rows.map(toRecipient) };
    },
    events: (now, limit) =>
      entriesOf(
        `SELECT ${recipientColumns} FROM queue_recipient WHERE message IN (
          SELECT message FROM queue_recipient WHERE event_at <= ? ORDER BY event_at LIMIT ?) AND event_at <= ?
          ORDER BY message, idx`,
        [now, limit, now],
      ),
    nextEvent: () => firstNumber('SELECT MIN(event_at) AS at FROM queue_recipient WHERE event_at IS NOT NULL', []),
    async rest(destination) {
      await state.write([
        {
          sql: `DELETE FROM queue_destination WHERE name = ? AND held = 0 AND failures = 0
            AND NOT EXISTS (SELECT 1 FROM queue_recipient WHERE destination = ?)`,
          params: [destination, destination],
        },
        {
          sql: `UPDATE queue_destination SET ready_at = (SELECT CASE
              WHEN MIN(due_at) < queue_destination.blocked_until THEN queue_destination.blocked_until
              ELSE MIN(due_at) END
            FROM queue_recipient WHERE destination = ? AND due_at IS NOT NULL) WHERE name = ? AND held = 0`,
          params: [destination, destination],
        },
      ]);
    },
    async yieldTurn(destination, now) {
      await state.write([
        {
          sql: 'UPDATE queue_destination SET ready_at = ? WHERE name = ? AND ready_at < ?',
          params: [now, destination, now],
        },
      ]);
    },
    async block(destination, failures, until, why) {
      await state.write([
        {
          sql: `UPDATE queue_destination SET failures = ?, blocked_until = ?, why = ?,
            ready_at = CASE WHEN ready_at IS NULL OR ready_at > ? THEN ready_at ELSE ? END WHERE name = ?`,
          params: [failures, until, why, until, until, destination],
        },
      ]);
    },
    async unblock(destination, now) {
      await state.write([
        {
          sql: `UPDATE queue_destination SET failures = 0, blocked_until = 0, why = NULL,
            ready_at = CASE WHEN held = 1 THEN NULL ELSE ? END WHERE name = ?`,
          params: [now, destination],
        },
      ]);
    },
    async mendTimes(now, longestWaitMs, lifetimeMs) {
      const tooLate = now + longestWaitMs;
      // By destination, and by events later than any expiry: so the indexes lead to these rows alone.
      await state.write([
        {
          sql: `UPDATE queue_destination SET ready_at = ?,
              blocked_until = CASE WHEN blocked_until > ? THEN 0 ELSE blocked_until END
            WHERE held = 0 AND (ready_at > ? OR EXISTS (SELECT 1 FROM queue_recipient
              WHERE destination = queue_destination.name AND due_at > ? AND lease IS NULL))`,
          params: [now, tooLate, tooLate, tooLate],
        },
        {
          sql: `UPDATE queue_recipient SET due_at = ? WHERE destination IN (SELECT name FROM queue_destination)
            AND due_at > ? AND lease IS NULL`,
          params: [now, tooLate],
        },
        {
          sql: "UPDATE queue_recipient SET event_at = ? WHERE event_at > ? AND state IN ('delivered', 'failed')",
          params: [now, now + lifetimeMs],
        },
      ]);
    },
    async recover(now) {
      const [, counts] = await state.write([
        {
          sql: `UPDATE queue_destination SET ready_at = ? WHERE held = 0 AND blocked_until <= ?
            AND name IN (SELECT destination FROM queue_recipient WHERE lease IS NOT NULL)`,
          params: [now, now],
        },
        {
          sql: 'UPDATE queue_recipient SET due_at = ?, lease = NULL WHERE lease IS NOT NULL',
          params: [now],
        },
        {
          sql: `DELETE FROM queue_destination WHERE held = 0
            AND NOT EXISTS (SELECT 1 FROM queue_recipient WHERE destination = queue_destination.name)`,
        },
      ]);
      return counts ?? 0;
    },
    async sweepBodies(now) {
      return bodies.sweep(
        async ids =>
          new Set(
            (await state.query(`SELECT id FROM queue_message WHERE id IN (${placeholders(ids.length)})`, ids)).map(
              row => row['id'] as string,
            ),
          ),
        orphanGraceMs,
        now,
      );
    },
  };
}
