// How a trace lies in tables: the whole record as JSON, and beside it the columns that one searches by.
import { allSteps, stepsJson, type TraceEvent, type TraceRecord, traceJson } from '../mail/trace.ts';
import type { Migration, SqlValue, Statement } from './state.ts';

export const traceSchema: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE trace (
        id TEXT PRIMARY KEY, received_at BIGINT NOT NULL, session_id TEXT NOT NULL, client TEXT NOT NULL,
        sender TEXT NOT NULL, message_id TEXT, subject TEXT, outcome TEXT NOT NULL, bytes BIGINT NOT NULL,
        record TEXT NOT NULL)`,
      'CREATE INDEX trace_by_time ON trace (received_at, id)',
      'CREATE INDEX trace_by_sender ON trace (sender, received_at)',
      'CREATE INDEX trace_by_message_id ON trace (message_id)',
      `CREATE TABLE trace_recipient (
        id TEXT NOT NULL, address TEXT NOT NULL, outcome TEXT NOT NULL, received_at BIGINT NOT NULL,
        PRIMARY KEY (id, address))`,
      'CREATE INDEX trace_by_recipient ON trace_recipient (address, received_at)',
      `CREATE TABLE trace_decision (
        id TEXT NOT NULL, plugin TEXT NOT NULL, verdict TEXT NOT NULL, received_at BIGINT NOT NULL,
        PRIMARY KEY (id, plugin, verdict))`,
      'CREATE INDEX trace_by_decision ON trace_decision (plugin, received_at)',
      `CREATE TABLE trace_event (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, at BIGINT NOT NULL, address TEXT NOT NULL, outcome TEXT NOT NULL,
        detail TEXT)`,
      'CREATE INDEX trace_event_by_id ON trace_event (id)',
    ],
  },
  { id: 2, statements: ['ALTER TABLE trace_event ADD COLUMN steps TEXT'] },
];

/** Rows of one INSERT. A fixed number keeps the statement text the same, so that it stays prepared. */
const rowsPerInsert = 20;

function inserts(table: string, columns: number, rows: readonly (readonly SqlValue[])[]): readonly Statement[] {
  const marks = `(${Array.from({ length: columns }, () => '?').join(', ')})`;
  const insert = (count: number): string =>
    `INSERT INTO ${table} VALUES ${Array.from({ length: count }, () => marks).join(', ')} ON CONFLICT DO NOTHING`;
  const many = insert(rowsPerInsert);
  const one = insert(1);
  const statements: Statement[] = [];
  let next = 0;
  for (; next + rowsPerInsert <= rows.length; next += rowsPerInsert)
    statements.push({ sql: many, params: rows.slice(next, next + rowsPerInsert).flat() });
  for (const row of rows.slice(next)) statements.push({ sql: one, params: row });
  return statements;
}

/** Weight of the index rows beside the JSON, in bytes: measured, rounded up. */
const overheadBytes = 500;
const overheadPerRecipient = 200;

function recordRow(record: TraceRecord): readonly SqlValue[] {
  const json = traceJson(record);
  return [
    record.id,
    record.receivedAt,
    record.sessionId,
    record.client.address,
    record.sender.toLowerCase(),
    record.messageId ?? null,
    record.subject ?? null,
    record.outcome,
    json.length + overheadBytes + overheadPerRecipient * record.recipients.length,
    json,
  ];
}

/** Plugins that only said `continue` are not indexed: they did not decide anything. */
function decisionRows(record: TraceRecord): readonly (readonly SqlValue[])[] {
  const rows: (readonly SqlValue[])[] = [];
  for (const { plugin, verdict } of allSteps(record))
    if (verdict !== 'continue' && !rows.some(row => row[1] === plugin && row[2] === verdict))
      rows.push([record.id, plugin, verdict, record.receivedAt]);
  return rows;
}

export function recordStatements(records: readonly TraceRecord[]): readonly Statement[] {
  return [
    ...inserts('trace', 10, records.map(recordRow)),
    ...inserts(
      'trace_recipient',
      4,
      records.flatMap(({ id, receivedAt, recipients }) =>
        recipients.map(({ address, outcome }) => [id, address.toLowerCase(), outcome, receivedAt]),
      ),
    ),
    ...inserts('trace_decision', 4, records.flatMap(decisionRows)),
  ];
}

export const appendStatements = (id: string, event: TraceEvent): readonly Statement[] => [
  {
    sql: 'INSERT INTO trace_event (id, at, address, outcome, detail, steps) VALUES (?, ?, ?, ?, ?, ?)',
    params: [
      id,
      event.at,
      event.address,
      event.outcome,
      event.detail ?? null,
      event.steps ? stepsJson(event.steps) : null,
    ],
  },
  {
    sql: 'INSERT INTO trace_recipient VALUES (?, ?, ?, ?) ON CONFLICT (id, address) DO UPDATE SET outcome = excluded.outcome',
    params: [id, event.address.toLowerCase(), event.outcome, event.at],
  },
];
