// Mail that is kept on disk: a body file for each message, and a row that says what it is. Invariants:
// - `keep` resolves when file and row survive a power cut (file first, so that no row is without its file). When it
//   rejects, nothing is left behind but what the next sweep removes.
// - What is too old (by reason) or too much (oldest first) is removed; the row goes first, then the file.
// - A release is one row for each recipient, written in the transaction that queues the released message: the primary
//   key makes a second release fail as a whole.
import { mkdir, opendir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { createDurableFiles, type FileOps, systemFileOps } from '../lib/atomic-file.ts';
import type { Clock } from '../lib/clock.ts';
import { fileRope, type Rope, ropeChunks } from '../mail/rope.ts';
import { type TraceRecord, traceJson } from '../mail/trace.ts';
import { type Row, type State, StateError, type Statement } from '../state/state.ts';
import type { KeptFacts, NewKeptMail, Release, StoredMail } from './kept-mail.ts';
import { type KeptQuery, keptSearch } from './query.ts';
import { keptMailMigrations } from './schema.ts';

export interface KeptLimits {
  /** ms; `reasons` where one has a time of its own. */
  readonly retentionMs: number;
  readonly reasons: Readonly<Partial<Record<string, number>>>;
  /** Bytes of all messages together. */
  readonly maxBytes: number;
}

export interface KeptMailOptions {
  readonly state: State;
  /** For the bodies; made when missing. */
  readonly folder: string;
  readonly clock: Clock;
  readonly limits: () => KeptLimits;
  readonly warn: (message: string, details: Readonly<Record<string, unknown>>) => void;
  /** For tests, and for mail that need not survive a power cut. */
  readonly files?: FileOps;
}

export interface KeptCounts {
  readonly messages: number;
  readonly bytes: number;
  readonly reasons: Readonly<Record<string, number>>;
}

export interface KeptMailStore {
  /** Durable when it resolves. */
  keep(mail: NewKeptMail): Promise<void>;
  find(id: string): Promise<StoredMail | undefined>;
  /** Newest first. */
  search(query: KeptQuery): Promise<readonly StoredMail[]>;
  /** The bytes. Reading them fails where the file is gone. */
  form(mail: Pick<StoredMail, 'id' | 'size'>): Rope;
  /** Resolves to how many there were. */
  remove(ids: readonly string[]): Promise<number>;
  /** What became of a message after it was kept. */
  retrace(id: string, trace: TraceRecord): Promise<void>;
  /** To be written with what queues the released message; violates a constraint where one of them was released before. */
  releaseStatements(id: string, releases: readonly Release[]): readonly Statement[];
  counts(): Promise<KeptCounts>;
  /** Removes what is too old or too much; runs by itself once `start` was called. */
  prune(): Promise<{ readonly expired: number; readonly squeezed: number }>;
  /** Removes files without a row that are older than an hour. */
  sweep(): Promise<number>;
  start(): void;
  close(): Promise<void>;
}

const pruneEveryMs = 600_000;
const pageSize = 200;
const orphanGraceMs = 3_600_000;

const marks = (count: number): string => Array.from({ length: count }, () => '?').join(', ');
const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

function toMail(row: Row, releases: readonly Release[]): StoredMail {
  const subject = text(row['subject']);
  const messageId = text(row['message_id']);
  const trace = text(row['trace']);
  return {
    id: String(row['id']),
    message: String(row['message']),
    reason: String(row['reason']),
    plugin: String(row['plugin']),
    why: String(row['why']),
    receivedAt: Number(row['received_at']),
    ...(subject === undefined ? {} : { subject }),
    ...(messageId === undefined ? {} : { messageId }),
    size: Number(row['size']),
    facts: JSON.parse(String(row['facts'])) as KeptFacts,
    ...(trace === undefined ? {} : { trace: JSON.parse(trace) as TraceRecord }),
    releases,
  };
}

function insertStatements(mail: NewKeptMail): readonly Statement[] {
  const { facts } = mail;
  const addresses = new Set(facts.recipients.map(({ address }) => address.text.toLowerCase()));
  return [
    {
      sql: `INSERT INTO kept_mail (id, message, reason, plugin, why, received_at, sender, client, subject, message_id, size, facts, trace)
        VALUES (${marks(13)})`,
      params: [
        mail.id,
        mail.message,
        mail.reason,
        mail.plugin,
        mail.why,
        mail.receivedAt,
        facts.sender?.text.toLowerCase() ?? '',
        facts.client?.address ?? '',
        mail.subject ?? null,
        mail.messageId ?? null,
        mail.form.size,
        JSON.stringify(facts),
        mail.trace === undefined ? null : traceJson(mail.trace),
      ],
    },
    ...[...addresses].map(address => ({
      sql: 'INSERT INTO kept_recipient (id, address) VALUES (?, ?)',
      params: [mail.id, address],
    })),
  ];
}

const deleteStatements = (ids: readonly string[]): readonly Statement[] =>
  ['kept_recipient', 'kept_release', 'kept_mail'].map(table => ({
    sql: `DELETE FROM ${table} WHERE id IN (${marks(ids.length)})`,
    params: ids,
  }));

export async function openKeptMail(options: KeptMailOptions): Promise<KeptMailStore> {
  const { state, folder, clock } = options;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await state.migrate('kept-mail', keptMailMigrations);
  const files = createDurableFiles(options.files ?? systemFileOps);
  const fileOf = (id: string): string => path.join(folder, `${id}.eml`);
  /** Since the last look at the sum: when it passes the limit, there is something to prune. */
  let keptBytes = 0;
  let cancelTimer: (() => void) | undefined;
  let pruning: Promise<unknown> | undefined;
  let closed = false;

  async function releasesOf(ids: readonly string[]): Promise<ReadonlyMap<string, readonly Release[]>> {
    const found = new Map<string, Release[]>();
    if (ids.length === 0) return found;
    const rows = await state.query(
      `SELECT * FROM kept_release WHERE id IN (${marks(ids.length)}) ORDER BY released_at, address`,
      ids,
    );
    for (const row of rows) {
      const release = {
        address: String(row['address']),
        at: Number(row['released_at']),
        queueId: String(row['queue_id']),
      };
      const id = String(row['id']);
      found.set(id, [...(found.get(id) ?? []), release]);
    }
    return found;
  }

  async function read(rows: readonly Row[]): Promise<readonly StoredMail[]> {
    const releases = await releasesOf(rows.map(row => String(row['id'])));
    return rows.map(row => toMail(row, releases.get(String(row['id'])) ?? []));
  }

  async function remove(ids: readonly string[]): Promise<number> {
    if (ids.length === 0) return 0;
    const counts = await state.write(deleteStatements(ids));
    await Promise.all(ids.map(id => rm(fileOf(id), { force: true })));
    return counts.at(-1) ?? 0;
  }

  /** Removes page by page what `sql` finds, up to `enough` bytes. */
  async function removeWhere(sql: string, params: readonly (string | number)[], enough = Number.POSITIVE_INFINITY) {
    let removed = 0;
    let bytes = 0;
    while (bytes < enough) {
      const rows = await state.query(
        `SELECT id, size FROM kept_mail WHERE ${sql} ORDER BY received_at, id LIMIT ${pageSize}`,
        params,
      );
      const ids: string[] = [];
      for (const row of rows) {
        if (bytes >= enough) break;
        ids.push(String(row['id']));
        bytes += Number(row['size']);
      }
      removed += await remove(ids);
      if (rows.length < pageSize) break;
    }
    return removed;
  }

  async function prune(): Promise<{ readonly expired: number; readonly squeezed: number }> {
    const { retentionMs, reasons, maxBytes } = options.limits();
    const now = clock.now();
    const own = Object.entries(reasons).flatMap(([reason, ms]) => (ms === undefined ? [] : [[reason, ms] as const]));
    let expired = 0;
    for (const [reason, ms] of own) expired += await removeWhere('reason = ? AND received_at < ?', [reason, now - ms]);
    const others = own.length === 0 ? '' : ` AND reason NOT IN (${marks(own.length)})`;
    expired += await removeWhere(`received_at < ?${others}`, [now - retentionMs, ...own.map(([reason]) => reason)]);
    const before = keptBytes;
    const { bytes } = await counts();
    const squeezed = bytes > maxBytes ? await removeWhere('1 = 1', [], bytes - maxBytes) : 0;
    if (squeezed > 0)
      options.warn('Kept mail reached its size limit: the oldest messages were removed', { removed: squeezed, folder });
    // What came meanwhile may be in the sum already: better counted twice than not at all.
    keptBytes = (squeezed > 0 ? maxBytes : bytes) + keptBytes - before;
    return { expired, squeezed };
  }

  function pruneSoon(): void {
    if (closed || pruning) return;
    pruning = prune()
      .then(sweep)
      .catch((error: unknown) => options.warn('Kept mail could not be pruned', { err: error, folder }))
      .finally(() => {
        pruning = undefined;
      });
  }

  function schedule(): void {
    cancelTimer = clock.after(pruneEveryMs, () => {
      pruneSoon();
      if (!closed) schedule();
    });
  }

  async function counts(): Promise<KeptCounts> {
    const rows = await state.query('SELECT reason, COUNT(*) AS n, SUM(size) AS bytes FROM kept_mail GROUP BY reason');
    return {
      messages: rows.reduce((sum, row) => sum + Number(row['n']), 0),
      bytes: rows.reduce((sum, row) => sum + Number(row['bytes']), 0),
      reasons: Object.fromEntries(rows.map(row => [String(row['reason']), Number(row['n'])])),
    };
  }

  async function sweep(): Promise<number> {
    let removed = 0;
    const flush = async (names: readonly string[]): Promise<void> => {
      const ids = names.map(name => name.replace(/\.eml$/, ''));
      const rows = await state.query(`SELECT id FROM kept_mail WHERE id IN (${marks(ids.length)})`, ids);
      const known = new Set(rows.map(row => String(row['id'])));
      for (const [index, name] of names.entries()) {
        if (known.has(ids[index] ?? '')) continue;
        const file = path.join(folder, name);
        const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
        if (clock.now() - mtimeMs < orphanGraceMs) continue;
        await rm(file, { force: true });
        removed++;
      }
    };
    let batch: string[] = [];
    for await (const entry of await opendir(folder)) {
      // Bodies, and temporary names that a crash left behind; not a database that lies here too.
      if (!entry.isFile() || !/\.(?:eml|tmp)$/.test(entry.name)) continue;
      batch.push(entry.name);
      if (batch.length < pageSize) continue;
      await flush(batch);
      batch = [];
    }
    if (batch.length > 0) await flush(batch);
    return removed;
  }

  return {
    async keep(mail) {
      const file = fileOf(mail.id);
      await files.write(file, ropeChunks(mail.form));
      try {
        await state.write(insertStatements(mail));
      } catch (error) {
        // With `unavailable` the commit may have happened: then the file stays until the sweep knows.
        if (!(error instanceof StateError) || error.code !== 'unavailable') await rm(file, { force: true });
        throw error;
      }
      keptBytes += mail.form.size;
      if (keptBytes > options.limits().maxBytes && cancelTimer) pruneSoon();
    },
    async find(id) {
      const [found] = await read(await state.query('SELECT * FROM kept_mail WHERE id = ?', [id]));
      return found;
    },
    async search(query) {
      const { sql, params } = keptSearch(query);
      return read(await state.query(sql, params));
    },
    form: ({ id, size }) => fileRope(fileOf(id), 0, size),
    remove,
    async retrace(id, trace) {
      await state.write([{ sql: 'UPDATE kept_mail SET trace = ? WHERE id = ?', params: [traceJson(trace), id] }]);
    },
    releaseStatements: (id, releases) =>
      releases.map(({ address, at, queueId }) => ({
        sql: 'INSERT INTO kept_release (id, address, released_at, queue_id) VALUES (?, ?, ?, ?)',
        params: [id, address.toLowerCase(), at, queueId],
      })),
    counts,
    prune,
    sweep,
    start() {
      pruneSoon();
      schedule();
    },
    async close() {
      closed = true;
      cancelTimer?.();
      await pruning;
    },
  };
}
