// The state interface: accounts, queue, quarantine, trace and counters live behind it. Implementations: `sqlite.ts`
// (embedded default) and later PostgreSQL. SQL is the common subset of both; placeholders are `?`.
// Who uses state imports this file only and brings its own migrations.

export type SqlValue = string | number | bigint | Uint8Array | null;
export type Row = Readonly<Record<string, SqlValue>>;

export interface Statement {
  readonly sql: string;
  readonly params?: readonly SqlValue[];
}

/** One step of a component's schema. Steps are applied in order, once, each in its own transaction; never edit one that was released. */
export interface Migration {
  readonly id: number;
  readonly statements: readonly string[];
}

export interface State {
  /** Brings a component's schema up to date. Call before its first query. */
  migrate(component: string, migrations: readonly Migration[]): Promise<void>;
  /** Rows in the order of the statement. Sees everything that was resolved before. */
  query(sql: string, params?: readonly SqlValue[]): Promise<readonly Row[]>;
  /**
   * All statements in one transaction: all or none. Durable (synced to disk) when it resolves. Calls that arrive
   * together share one commit. Resolves to the number of changed rows of each statement.
   */
  write(statements: readonly Statement[]): Promise<readonly number[]>;
  close(): Promise<void>;
}
