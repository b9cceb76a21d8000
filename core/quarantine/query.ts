// A search in kept mail as SQL. `*` in an address, a message id or a client stands for any text.
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
import type { SqlValue, Statement } from '../state/state.ts';

export interface KeptQuery {
  readonly reason?: string;
  readonly plugin?: string;
  /** Envelope addresses; `''` is the null sender, `@example.org` any at that domain. */
  readonly sender?: string;
  readonly recipient?: string;
  readonly client?: string;
  /** Part of the subject. */
  readonly subject?: string;
  readonly messageId?: string;
  /** ms since the epoch, inclusive. */
  readonly from?: number;
  readonly to?: number;
  /** To somebody at least. */
  readonly released?: boolean;
  /** Queue id. */
  readonly message?: string;
  /** Default 50, at most 1000. */
  readonly limit?: number;
  /** `oldest` first; default newest. */
  readonly order?: 'oldest' | 'newest';
  /** For the next page: `receivedAt` and `id` of the last one of this page. */
  readonly beyond?: { readonly receivedAt: number; readonly id: string };
}

const released = (wanted: boolean): Condition => {
  const some = hasRow('kept_release', []);
  return wanted ? some : { ...some, sql: `NOT ${some.sql}` };
};
const ahead = ({ receivedAt, id }: NonNullable<KeptQuery['beyond']>): Condition => ({
  sql: '(received_at > ? OR (received_at = ? AND id > ?))',
  params: [receivedAt, receivedAt, id],
});

export function keptSearch(query: KeptQuery): Statement & { readonly params: readonly SqlValue[] } {
  const oldest = query.order === 'oldest';
  const all = allOf([
    ...given(query.message, wanted => compares('message', wanted)),
    ...given(query.reason, wanted => compares('reason', wanted)),
    ...given(query.plugin, wanted => compares('plugin', wanted)),
    ...given(query.sender, wanted => matchesAddress('sender', wanted)),
    ...given(query.recipient, wanted => hasRow('kept_recipient', [matchesAddress('address', wanted)])),
    ...given(query.client, wanted => matches('client', wanted)),
    ...given(query.subject, wanted => matches('subject', `*${wanted}*`)),
    ...given(query.messageId, wanted => matches('message_id', wanted)),
    ...given(query.from, wanted => compares('received_at', wanted, '>=')),
    ...given(query.to, wanted => compares('received_at', wanted, '<=')),
    ...given(query.released, released),
    ...given(query.beyond, oldest ? ahead : behind),
  ]);
  const direction = oldest ? '' : ' DESC';
  return {
    sql: `SELECT * FROM kept_mail WHERE ${all.sql} ORDER BY received_at${direction}, id${direction} LIMIT ?`,
    params: [...all.params, Math.max(1, Math.min(query.limit ?? 50, 1000))],
  };
}
