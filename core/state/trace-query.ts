// A search for traces as SQL. `*` in an address, a message id or a subject stands for any text.
import {
  allOf,
  behind,
  type Condition,
  compares,
  given,
  hasRow,
  matches,
  matchesAddress,
} from '../lib/sql-condition.ts';
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
  /** Recorded after the record with this `seq`; then oldest first, for a reader that follows. */
  readonly after?: number;
  /** For the next page: `receivedAt` and `id` of the last record of this one. */
  readonly before?: { readonly receivedAt: number; readonly id: string };
}

const recipientConditions = (query: TraceQuery): readonly Condition[] => [
  ...given(query.recipient, wanted => matchesAddress('address', wanted)),
  ...given(query.recipientOutcome, wanted => compares('outcome', wanted)),
];

const decisionConditions = (query: TraceQuery): readonly Condition[] => [
  ...given(query.plugin, wanted => compares('plugin', wanted)),
  ...given(query.verdict, wanted => compares('verdict', wanted)),
];

/** Newest first. */
export function traceSearch(query: TraceQuery): Statement & { readonly params: readonly SqlValue[] } {
  const recipients = recipientConditions(query);
  const decisions = decisionConditions(query);
  const all = allOf([
    ...given(query.from, wanted => compares('received_at', wanted, '>=')),
    ...given(query.to, wanted => compares('received_at', wanted, '<=')),
    ...given(query.sender, wanted => matchesAddress('sender', wanted)),
    ...given(query.messageId, wanted => matches('message_id', wanted)),
    ...given(query.subject, wanted => matches('subject', `*${wanted}*`)),
    ...given(query.client, wanted => matches('client', wanted)),
    ...given(query.outcome, wanted => compares('outcome', wanted)),
    ...(recipients.length === 0 ? [] : [hasRow('trace_recipient', recipients)]),
    ...(decisions.length === 0 ? [] : [hasRow('trace_decision', decisions)]),
    ...given(query.after, wanted => compares('rowid', wanted, '>')),
    ...given(query.before, behind),
  ]);
  const limit = Math.max(1, Math.min(query.limit ?? 50, 1000));
  const order = query.after === undefined ? 'received_at DESC, id DESC' : 'rowid';
  return {
    sql: `SELECT rowid AS seq, id, record FROM trace WHERE ${all.sql} ORDER BY ${order} LIMIT ?`,
    params: [...all.params, limit],
  };
}
