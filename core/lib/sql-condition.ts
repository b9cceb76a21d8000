// Pieces of a WHERE clause with their parameters, for searches that an operator puts together from options.

export type ConditionValue = string | number | bigint | Uint8Array | null;

export interface Condition {
  readonly sql: string;
  readonly params: readonly ConditionValue[];
}

/** `*` in `wanted` stands for any text. */
export function matches(column: string, wanted: string): Condition {
  if (!wanted.includes('*')) return { sql: `${column} = ?`, params: [wanted] };
  const pattern = wanted.replace(/[\\%_]/g, '\\$&').replace(/\*+/g, '%');
  return { sql: `${column} LIKE ? ESCAPE '\\'`, params: [pattern] };
}

/** Addresses are kept in lower case; `@example.org` stands for any at that domain. */
export const matchesAddress = (column: string, wanted: string): Condition =>
  matches(column, (wanted.startsWith('@') ? `*${wanted}` : wanted).toLowerCase());

export const compares = (column: string, wanted: ConditionValue, operator = '='): Condition => ({
  sql: `${column} ${operator} ?`,
  params: [wanted],
});

export const allOf = (conditions: readonly Condition[]): Condition => ({
  sql: conditions.length === 0 ? '1 = 1' : conditions.map(({ sql }) => sql).join(' AND '),
  params: conditions.flatMap(({ params }) => params),
});

/** `id` has a row in `table` that meets all of the conditions. */
export const hasRow = (table: string, conditions: readonly Condition[]): Condition => {
  const all = allOf(conditions);
  return { sql: `id IN (SELECT id FROM ${table} WHERE ${all.sql})`, params: all.params };
};

/** Behind this row in the order newest first. */
export const behind = ({ receivedAt, id }: { readonly receivedAt: number; readonly id: string }): Condition => ({
  sql: '(received_at < ? OR (received_at = ? AND id < ?))',
  params: [receivedAt, receivedAt, id],
});

/** The condition for an option that was given. */
export const given = <T>(value: T | undefined, condition: (value: T) => Condition): readonly Condition[] =>
  value === undefined ? [] : [condition(value)];
