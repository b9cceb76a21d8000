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

/**
 * Why the store refused. `busy`: another process held the lock too long; `full`: no space; `overload`: too much is
 * queued; `closed`: used after `close`; `unavailable`: the store cannot be reached (its outcome is then unknown);
 * `constraint`: a rule of the schema; `corrupt`: the file is damaged; `newer`: written by a newer release;
 * `failed`: anything else, usually faulty SQL.
 */
export type StateErrorCode =
  | 'busy'
  | 'full'
  | 'overload'
  | 'closed'
  | 'unavailable'
  | 'constraint'
  | 'corrupt'
  | 'newer'
  | 'failed';

export class StateError extends Error {
  override readonly name = 'StateError';
  readonly code: StateErrorCode;
  constructor(code: StateErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface State {
  /** Brings a component's schema up to date. Call before its first query. Rejects with `newer` where the store knows more steps than we do. */
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
