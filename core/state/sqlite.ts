// The state store in one SQLite file (the embedded default). Invariants:
// - A `write` that resolved is on disk: kill -9 or power loss cannot undo it (WAL, synchronous=FULL).
// - Writes run on a thread of their own; those that arrive while a commit is under way share the next one.
// - Reads run on another thread with its own connection and see everything that was resolved before they were asked.
// - What is queued is bounded by calls and bytes; beyond that `write` rejects with `overload` at once.
// - Another process may open the same file at the same time; each waits for the other's lock up to `busyTimeoutMs`.
import type { Job, ThreadData } from './sqlite-protocol.ts';
import { toError } from './sqlite-protocol.ts';
import { SqliteThread } from './sqlite-thread.ts';
import { type Migration, type Row, type SqlValue, type State, StateError, type Statement } from './state.ts';

export interface SqliteStateOptions {
  /** Default `full`. `normal`: a commit costs no sync; power loss may take the last ones back. For data that may be lost. */
  readonly synchronous?: 'full' | 'normal';
  /** Default 10 s. */
  readonly busyTimeoutMs?: number;
  /** `own` (default): reads never wait for writes. `shared`: one thread less. */
  readonly reader?: 'own' | 'shared';
  /** Waiting `write` and `query` calls together. Default 10,000. */
  readonly maxQueued?: number;
  /** Bytes of their parameters. Default 64 MiB. */
  readonly maxQueuedBytes?: number;
}

interface Queued {
  readonly job: Job;
  readonly bytes: number;
  readonly transfer: readonly ArrayBuffer[];
  readonly resolve: (changes: readonly number[]) => void;
  readonly reject: (error: Error) => void;
}

/** One commit takes at most so much, so that the first caller of a burst does not wait for all of it. */
const maxBatchJobs = 1000;
const maxBatchBytes = 16 * 1024 * 1024;

/**
 * Copies blobs into buffers of their own, which then move to the thread without another copy. A view of a larger
 * buffer would be cloned with all of it; and the caller may go on using its bytes.
 */
function detach(params: readonly SqlValue[], transfer: ArrayBuffer[]): { values: readonly SqlValue[]; bytes: number } {
  let bytes = 0;
  let values: SqlValue[] | undefined;
  params.forEach((param, index) => {
    if (typeof param === 'string') bytes += param.length;
    else if (param instanceof Uint8Array) {
      const copy = new Uint8Array(param);
      transfer.push(copy.buffer);
      bytes += copy.length;
      values ??= [...params];
      values[index] = copy;
    }
  });
  return { values: values ?? params, bytes };
}

class SqliteState implements State {
  readonly #options: Required<SqliteStateOptions>;
  readonly #writer: SqliteThread;
  readonly #reader: SqliteThread;
  readonly #queue: Queued[] = [];
  #queuedBytes = 0;
  #committing: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(data: ThreadData, options: Required<SqliteStateOptions>) {
    this.#options = options;
    this.#writer = new SqliteThread(data);
    this.#reader = options.reader === 'own' ? new SqliteThread({ ...data, readOnly: true }) : this.#writer;
  }

  async open(): Promise<void> {
    await this.#writer.ask({ kind: 'open' });
  }

  async migrate(component: string, migrations: readonly Migration[]): Promise<void> {
    this.#refuseClosed();
    await this.#writer.ask({ kind: 'migrate', component, migrations });
  }

  async query(sql: string, params: readonly SqlValue[] = []): Promise<readonly Row[]> {
    this.#refuseClosed();
    if (this.#reader.pending >= this.#options.maxQueued)
      throw new StateError('overload', `More than ${this.#options.maxQueued} queries are waiting`);
    const transfer: ArrayBuffer[] = [];
    const { values } = detach(params, transfer);
    const answer = await this.#reader.ask({ kind: 'query', sql, params: values }, transfer);
    return answer.kind === 'rows' ? answer.rows : [];
  }

  async write(statements: readonly Statement[]): Promise<readonly number[]> {
    this.#refuseClosed();
    if (statements.length === 0) return [];
    const transfer: ArrayBuffer[] = [];
    let bytes = 0;
    const job = statements.map(statement => {
      const detached = detach(statement.params ?? [], transfer);
      bytes += detached.bytes;
      return { sql: statement.sql, params: detached.values };
    });
    const { maxQueued, maxQueuedBytes } = this.#options;
    if (this.#queue.length >= maxQueued || (this.#queue.length > 0 && this.#queuedBytes + bytes > maxQueuedBytes))
      throw new StateError('overload', `More than ${maxQueued} writes or ${maxQueuedBytes} bytes are waiting`);
    return new Promise((resolve, reject) => {
      this.#queue.push({ job, bytes, transfer, resolve, reject });
      this.#queuedBytes += bytes;
      // In a microtask: calls of the same turn share the first commit too.
      this.#committing ??= Promise.resolve().then(() => this.#drain());
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#finish();
    return this.#closed;
  }

  async #finish(): Promise<void> {
    await this.#committing;
    // The reader first: the last connection to close takes the write-ahead log back into the file.
    if (this.#reader !== this.#writer) await this.#reader.close();
    await this.#writer.close();
  }

  #refuseClosed(): void {
    if (this.#closed !== undefined) throw new StateError('closed', 'The state store is closed');
  }

  #nextBatch(): Queued[] {
    let bytes = 0;
    let count = 0;
    for (const queued of this.#queue) {
      if (count === maxBatchJobs || (count > 0 && bytes + queued.bytes > maxBatchBytes)) break;
      bytes += queued.bytes;
      count++;
    }
    this.#queuedBytes -= bytes;
    return this.#queue.splice(0, count);
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) await this.#commit(this.#nextBatch());
    this.#committing = undefined;
  }

  async #commit(batch: readonly Queued[]): Promise<void> {
    try {
      const jobs = batch.map(({ job }) => job);
      const transfer = batch.flatMap(queued => queued.transfer);
      const answer = await this.#writer.ask({ kind: 'write', jobs }, transfer);
      const results = answer.kind === 'written' ? answer.results : [];
      batch.forEach(({ resolve, reject }, index) => {
        const result = results[index];
        if (result === undefined) reject(new StateError('unavailable', 'The state thread gave no answer'));
        else if ('failure' in result) reject(toError(result.failure));
        else resolve(result.changes);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error as Error);
    }
  }
}

/** Rejects with a `StateError` where the file cannot be opened or is no database. Call `close` at the end, or the threads stay. */
export async function openSqliteState(file: string, options: SqliteStateOptions = {}): Promise<State> {
  const filled: Required<SqliteStateOptions> = {
    synchronous: options.synchronous ?? 'full',
    busyTimeoutMs: options.busyTimeoutMs ?? 10_000,
    reader: file === ':memory:' ? 'shared' : (options.reader ?? 'own'),
    maxQueued: options.maxQueued ?? 10_000,
    maxQueuedBytes: options.maxQueuedBytes ?? 64 * 1024 * 1024,
  };
  const data: ThreadData = {
    file,
    readOnly: false,
    synchronous: filled.synchronous,
    busyTimeoutMs: filled.busyTimeoutMs,
  };
  const state = new SqliteState(data, filled);
  try {
    await state.open();
  } catch (error) {
    await state.close();
    throw error;
  }
  return state;
}
