// Keeps the traces of messages for `postern trace` and the console. Invariants:
// - `record` and `append` only put into memory: no I/O, no sync, no exception. Give this store a database of its own
//   with `synchronous: 'normal'`, so that tracing costs no sync before a 250; power loss may take the last second.
// - The buffer is bounded; when the disk cannot keep up the oldest are dropped and counted in a warning.
// - A record is kept as it was written (JSON); what became of a recipient later is appended, never edited in.
// - Records older than the retention, and the oldest ones beyond the size, are removed in small steps.
import type { Clock } from '../lib/clock.ts';
import type { TraceEvent, TraceRecord, TraceSink, TraceStep } from '../mail/trace.ts';
import type { State, Statement } from './state.ts';
import { type TraceQuery, traceSearch } from './trace-query.ts';
import { appendStatements, recordStatements, traceSchema } from './trace-rows.ts';

export interface StoredTrace {
  /** As recorded, but each recipient with its last known outcome. */
  readonly record: TraceRecord;
  /** Order in which records were stored, in this store. */
  readonly seq: number;
  /** In order of time. */
  readonly events: readonly TraceEvent[];
}

export interface TraceStoreOptions {
  /** Not shared with the queue's: see above. The caller closes it after `close`. */
  readonly state: State;
  readonly clock: Clock;
  /** Default 30 days. */
  readonly retentionMs?: number;
  /** Of the records and their index, estimated. Default 2 GiB. */
  readonly maxBytes?: number;
  /** Records that wait to be written. Default 10,000. */
  readonly maxBuffered?: number;
  /** Dropped records, failing disk. */
  warn(message: string, details: Readonly<Record<string, unknown>>): void;
}

export interface TraceStore extends TraceSink {
  /** For the recipient `event.address` of record `id`. Never throws, never blocks. */
  append(id: string, event: TraceEvent): void;
  find(id: string): Promise<StoredTrace | undefined>;
  /** Newest first. */
  search(query: TraceQuery): Promise<readonly StoredTrace[]>;
  /** `seq` of the record that was stored last; 0 where there is none. */
  lastSeq(): Promise<number>;
  /** Resolves when all that was recorded before is stored (or dropped). */
  flush(): Promise<void>;
  /** Removes what is too old or too much; runs by itself every ten minutes. Resolves to the number of removed records. */
  prune(): Promise<number>;
  close(): Promise<void>;
}

type Entry =
  | { readonly kind: 'record'; readonly record: TraceRecord }
  | { readonly kind: 'event'; readonly id: string; readonly event: TraceEvent };

const flushAfterMs = 200;
const maxBatch = 250;
const pruneEveryMs = 600_000;
const pruneStep = 500;
const day = 86_400_000;

export async function openTraceStore(options: TraceStoreOptions): Promise<TraceStore> {
  const { state, clock } = options;
  await state.migrate('trace', traceSchema);
  const maxBuffered = options.maxBuffered ?? 10_000;
  let buffer: Entry[] = [];
  let dropped = 0;
  let writing: Promise<void> | undefined;
  let cancelFlush: (() => void) | undefined;
  let closed = false;

  function put(entry: Entry): void {
    if (closed) return;
    buffer.push(entry);
    if (buffer.length > maxBuffered) {
      const excess = Math.ceil(maxBuffered / 10);
      buffer = buffer.slice(excess);
      dropped += excess;
    }
    if (writing !== undefined) return;
    if (buffer.length >= maxBatch) startWriting();
    else cancelFlush ??= clock.after(flushAfterMs, startWriting);
  }

  function startWriting(): void {
    cancelFlush?.();
    cancelFlush = undefined;
    writing ??= writeAll().finally(() => {
      writing = undefined;
      if (buffer.length > 0 && !closed) cancelFlush ??= clock.after(flushAfterMs, startWriting);
    });
  }

  async function writeAll(): Promise<void> {
    while (buffer.length > 0) {
      if (dropped > 0) {
        options.warn('Trace records dropped: the store is too slow', { dropped });
        dropped = 0;
      }
      const batch = buffer.slice(0, maxBatch);
      buffer = buffer.slice(maxBatch);
      await writeBatch(batch);
    }
  }

  async function writeBatch(batch: readonly Entry[]): Promise<void> {
    try {
      await state.write(batchStatements(batch));
    } catch (error) {
      options.warn('Trace records lost: the store refused them', { count: batch.length, error });
    }
  }

  const flush = async (): Promise<void> => {
    startWriting();
    await writing;
  };

  let ending = false;
  const prune = pruner(options, () => ending);
  let cancelPrune: (() => void) | undefined;
  let pruning: Promise<void> | undefined;
  function schedulePrune(): void {
    cancelPrune = clock.after(pruneEveryMs, () => {
      pruning = prune()
        .then(() => undefined)
        .catch((error: unknown) => options.warn('Trace records could not be pruned', { error }))
        .finally(() => {
          if (!ending) schedulePrune();
        });
    });
  }
  schedulePrune();

  return {
    record: record => put({ kind: 'record', record }),
    append: (id, event) => put({ kind: 'event', id, event }),
    async find(id) {
      const [found] = await readTraces(
        state,
        await state.query('SELECT rowid AS seq, id, record FROM trace WHERE id = ?', [id]),
      );
      return found;
    },
    async search(query) {
      const { sql, params } = traceSearch(query);
      return readTraces(state, await state.query(sql, params));
    },
    async lastSeq() {
      const [row] = await state.query('SELECT coalesce(max(rowid), 0) AS seq FROM trace');
      return Number(row?.['seq'] ?? 0);
    },
    flush,
    prune,
    async close() {
      if (closed) return;
      ending = true;
      cancelPrune?.();
      await pruning;
      await flush();
      closed = true;
      cancelFlush?.();
    },
  };
}

function batchStatements(batch: readonly Entry[]): readonly Statement[] {
  const records = batch.flatMap(entry => (entry.kind === 'record' ? [entry.record] : []));
  const events = batch.flatMap(entry => (entry.kind === 'event' ? [entry] : []));
  return [...recordStatements(records), ...events.flatMap(({ id, event }) => appendStatements(id, event))];
}

async function readTraces(
  state: State,
  rows: readonly Readonly<Record<string, unknown>>[],
): Promise<readonly StoredTrace[]> {
  const ids = rows.map(row => String(row['id']));
  if (ids.length === 0) return [];
  const marks = ids.map(() => '?').join(', ');
  const events = await state.query(
    `SELECT id, at, address, outcome, detail, steps FROM trace_event WHERE id IN (${marks}) ORDER BY at, seq`,
    ids,
  );
  return rows.map(row => {
    const own = events
      .filter(event => event['id'] === row['id'])
      .map(event => ({
        at: Number(event['at']),
        address: String(event['address']),
        outcome: String(event['outcome']),
        ...(typeof event['detail'] === 'string' && { detail: event['detail'] }),
        ...(typeof event['steps'] === 'string' && { steps: JSON.parse(event['steps']) as readonly TraceStep[] }),
      }));
    return withEvents(JSON.parse(String(row['record'])) as TraceRecord, own, Number(row['seq']));
  });
}

function withEvents(record: TraceRecord, events: readonly TraceEvent[], seq: number): StoredTrace {
  if (events.length === 0) return { record, seq, events };
  const last = new Map(record.recipients.map(recipient => [recipient.address.toLowerCase(), recipient]));
  for (const { address, outcome, detail, steps = [] } of events) {
    const before = last.get(address.toLowerCase());
    const ran = [...(before?.steps ?? []), ...steps];
    last.set(address.toLowerCase(), {
      address: before?.address ?? address,
      outcome,
      ...(detail !== undefined && { detail }),
      ...(ran.length > 0 && { steps: ran }),
    });
  }
  return { record: { ...record, recipients: [...last.values()] }, seq, events };
}

/** Removes the oldest records, a few hundred per transaction so that a search, an insert or the end never waits long. */
function pruner(
  { state, clock, retentionMs = 30 * day, maxBytes = 2 ** 31 }: TraceStoreOptions,
  isEnding: () => boolean,
) {
  const oldest = 'SELECT id FROM trace WHERE received_at < ? ORDER BY received_at LIMIT ?';
  const step = async (before: number, limit: number): Promise<number> => {
    const counts = await state.write([
      ...['trace_recipient', 'trace_decision', 'trace_event'].map(table => ({
        sql: `DELETE FROM ${table} WHERE id IN (${oldest})`,
        params: [before, limit],
      })),
      { sql: `DELETE FROM trace WHERE id IN (${oldest})`, params: [before, limit] },
    ]);
    return counts.at(-1) ?? 0;
  };
  return async (): Promise<number> => {
    let removed = 0;
    const before = clock.now() - retentionMs;
    for (let count = pruneStep; count === pruneStep && !isEnding(); removed += count)
      count = await step(before, pruneStep);
    const [sum] = await state.query('SELECT count(*) AS records, coalesce(sum(bytes), 0) AS bytes FROM trace');
    const records = Number(sum?.['records'] ?? 0);
    const bytes = Number(sum?.['bytes'] ?? 0);
    let excess = bytes > maxBytes ? Math.ceil((records * (bytes - maxBytes)) / bytes) : 0;
    while (excess > 0 && !isEnding()) {
      const count = await step(Number.MAX_SAFE_INTEGER, Math.min(excess, pruneStep));
      if (count === 0) break;
      excess -= count;
      removed += count;
    }
    return removed;
  };
}
