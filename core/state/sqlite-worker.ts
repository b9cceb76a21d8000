// Entry of a SQLite thread: takes one order at a time from the main thread and answers it.
//
// Group commit: all jobs of a `write` order share one transaction, each in a savepoint, so that one that fails does not
// harm the others. Nothing is answered before COMMIT returned: what was answered is on disk. Some errors (disk full,
// I/O) make SQLite roll back the whole transaction; then every job of the order fails.

import { parentPort, workerData } from 'node:worker_threads';
import { keepNewest } from '../lib/keep-newest.ts';
import { migrateDatabase } from './migrate.ts';
import { type Database, openDatabase, type PreparedStatement } from './sqlite-driver.ts';
import {
  type Answer,
  type Job,
  type JobResult,
  type Order,
  type Request,
  type Response,
  type ThreadData,
  toFailure,
} from './sqlite-protocol.ts';
import type { Row } from './state.ts';

const maxPrepared = 256;

interface Connection {
  readonly database: Database;
  readonly prepared: Map<string, PreparedStatement>;
}

/** Least recently used statements are dropped first; a dropped one is only prepared again. */
function prepare({ database, prepared }: Connection, sql: string): PreparedStatement {
  const statement = prepared.get(sql) ?? database.prepare(sql);
  keepNewest(prepared, sql, statement, maxPrepared);
  return statement;
}

function runJob(connection: Connection, job: Job): JobResult {
  const { database } = connection;
  database.exec('SAVEPOINT job');
  try {
    const changes = job.map(({ sql, params }) => prepare(connection, sql).run(...(params ?? [])).changes);
    database.exec('RELEASE job');
    return { changes };
  } catch (error) {
    if (!database.isTransaction) throw error;
    database.exec('ROLLBACK TO job');
    database.exec('RELEASE job');
    return { failure: toFailure(error) };
  }
}

function write(connection: Connection, jobs: readonly Job[]): readonly JobResult[] {
  const { database } = connection;
  try {
    database.exec('BEGIN IMMEDIATE');
    const results = jobs.map(job => runJob(connection, job));
    database.exec('COMMIT');
    return results;
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    const failure = toFailure(error);
    return jobs.map(() => ({ failure }));
  }
}

function obey(connection: Connection, order: Exclude<Order, { readonly kind: 'close' }>, file: string): Answer {
  switch (order.kind) {
    case 'write':
      return { kind: 'written', results: write(connection, order.jobs) };
    case 'query':
      // Rows have no prototype; a clone gives them one.
      return { kind: 'rows', rows: prepare(connection, order.sql).all(...order.params) as Row[] };
    case 'migrate':
      migrateDatabase(connection.database, file, order.component, order.migrations);
      return { kind: 'done' };
    case 'open':
      return { kind: 'done' };
  }
}

function serve(port: NonNullable<typeof parentPort>, data: ThreadData): void {
  let connection: Connection | undefined;
  port.on('message', ({ id, order }: Request) => {
    let answer: Answer;
    try {
      if (order.kind === 'close') {
        connection?.database.close();
        answer = { kind: 'done' };
      } else {
        // Opened at the first order, so that a failure to open is the answer to it.
        connection ??= { database: openDatabase(data.file, data), prepared: new Map() };
        answer = obey(connection, order, data.file);
      }
    } catch (error) {
      answer = { kind: 'failed', failure: toFailure(error) };
    }
    port.postMessage({ id, answer } satisfies Response);
    if (order.kind === 'close') port.close();
  });
}

if (parentPort !== null) serve(parentPort, workerData as ThreadData);
