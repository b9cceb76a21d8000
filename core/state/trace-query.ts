// A search for traces as SQL. `*` in an address, a message id or a subject stands for any text.
import type { SqlValue, Statement } from './state.ts';

export interface TraceQuery {
  /** ms since the epoch, inclusive. */
  readonly from?: number;
  readonly to?: number;
  /** Envelope addresses; `''` is the null sender, `@example.org` any at that domain. */
  readonly sender?: string;
  readonly recipient?: string;
  readonly messageId?: string;
  /** Part of the subject. */
  readonly subject?: string;
  /** Address of the client. */
  readonly client?: string;
  /** Of the message: `accepted`, `rejected` … */
  readonly outcome?: string;
  /** Last known of any recipient: `delivered`, `bounced` … */
  readonly recipientOutcome?: string;
  /** A plugin that said something else than `continue`. */
  readonly plugin?: string;
  /** What a plugin (that one, or any) said. */
  readonly verdict?: string;
  /** Default 50, at most 1000. */
  readonly limit?: number;
  /** For the next page: `receivedAt` and `id` of the last record of this one. */
  readonly before?: { readonly receivedAt: number; readonly id: string };
}

interface Condition {
  readonly sql: string;
  readonly params: readonly SqlValue[];
}

function matches(column: string, wanted: string): Condition {
  if (!wanted.includes('*')) return { sql: `${column} = ?`, params: [wanted] };
  const pattern = wanted.replace(/[\\%_]/g, '\\$&').replace(/\*+/g, '%');
  return { sql: `${column} LIKE ? ESCAPE '\\'`, params: [pattern] };
}

const address = (text: string): string => (text.startsWith('@') ? `*${text}` : text).toLowerCase();
const equal = (column: string, wanted: SqlValue, operator = '='): Condition => ({
  sql: `${column} ${operator} ?`,
  params: [wanted],
});
const both = (conditions: readonly Condition[]): Condition => ({
  sql: conditions.map(({ sql }) => sql).join(' AND '),
  params: conditions.flatMap(({ params }) => params),
});
const among = (table: string, conditions: readonly Condition[]): Condition => {
  const all = both(conditions);
  return { sql: `id IN (SELECT id FROM ${table} WHERE ${all.sql})`, params: all.params };
};

function times(query: TraceQuery): readonly Condition[] {
  return [
    ...(query.from === undefined ? [] : [equal('received_at', query.from, '>=')]),
    ...(query.to === undefined ? [] : [equal('received_at', query.to, '<=')]),
  ];
}

function recipientConditions(query: TraceQuery): readonly Condition[] {
  return [
    ...(query.recipient === undefined ? [] : [matches('address', address(query.recipient))]),
    ...(query.recipientOutcome === undefined ? [] : [equal('outcome', query.recipientOutcome)]),
  ];
}

function decisionConditions(query: TraceQuery): readonly Condition[] {
  return [
    ...(query.plugin === undefined ? [] : [equal('plugin', query.plugin)]),
    ...(query.verdict === undefined ? [] : [equal('verdict', query.verdict)]),
  ];
}

/** Newest first. */
export function traceSearch(query: TraceQuery): Statement & { readonly params: readonly SqlValue[] } {
  const recipients = recipientConditions(query);
  const decisions = decisionConditions(query);
  const { before } = query;
  const all = both([
    { sql: '1 = 1', params: [] },
    ...times(query),
    ...(query.sender === undefined ? [] : [matches('sender', address(query.sender))]),
    ...(query.messageId === undefined ? [] : [matches('message_id', query.messageId)]),
    ...(query.subject === undefined ? [] : [matches('subject', `*${query.subject}*`)]),
    ...(query.client === undefined ? [] : [matches('client', query.client)]),
    ...(query.outcome === undefined ? [] : [equal('outcome', query.outcome)]),
    ...(recipients.length === 0 ? [] : [among('trace_recipient', recipients)]),
    ...(decisions.length === 0 ? [] : [among('trace_decision', decisions)]),
    ...(before === undefined
      ? []
      : [
          {
            sql: '(received_at < ? OR (received_at = ? AND id < ?))',
            params: [before.receivedAt, before.receivedAt, before.id],
          },
        ]),
  ]);
  const limit = Math.max(1, Math.min(query.limit ?? 50, 1000));
  return {
    sql: `SELECT id, record FROM trace WHERE ${all.sql} ORDER BY received_at DESC, id DESC LIMIT ?`,
    params: [...all.params, limit],
  };
}
