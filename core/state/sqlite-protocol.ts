// What the main thread and the SQLite threads say to each other. Everything here survives a structured clone.
import { type Migration, type Row, type SqlValue, StateError, type StateErrorCode, type Statement } from './state.ts';

export interface ThreadData {
  readonly file: string;
  readonly readOnly: boolean;
  readonly synchronous: 'full' | 'normal' | 'off';
  readonly busyTimeoutMs: number;
}

/** One `write` call: its statements run in one transaction. */
export type Job = readonly Statement[];

export type Order =
  | { readonly kind: 'write'; readonly jobs: readonly Job[] }
  | { readonly kind: 'query'; readonly sql: string; readonly params: readonly SqlValue[] }
  | { readonly kind: 'migrate'; readonly component: string; readonly migrations: readonly Migration[] }
  | { readonly kind: 'open' }
  | { readonly kind: 'close' };

export interface Failure {
  readonly code: StateErrorCode;
  readonly message: string;
}
export type JobResult = { readonly changes: readonly number[] } | { readonly failure: Failure };

export type Answer =
  | { readonly kind: 'written'; readonly results: readonly JobResult[] }
  | { readonly kind: 'rows'; readonly rows: readonly Row[] }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly failure: Failure };

export interface Request {
  readonly id: number;
  readonly order: Order;
}
export interface Response {
  readonly id: number;
  readonly answer: Answer;
}

/** Primary result codes of SQLite (https://sqlite.org/rescode.html). */
const codes: ReadonlyMap<number, StateErrorCode> = new Map([
  [5, 'busy'],
  [6, 'busy'],
  [8, 'unavailable'],
  [10, 'unavailable'],
  [11, 'corrupt'],
  [13, 'full'],
  [14, 'unavailable'],
  [19, 'constraint'],
  [26, 'corrupt'],
]);

export function toFailure(error: unknown): Failure {
  if (error instanceof StateError) return { code: error.code, message: error.message };
  const message = error instanceof Error ? error.message : String(error);
  const errcode = (error as { readonly errcode?: unknown } | null)?.errcode;
  const code = typeof errcode === 'number' ? codes.get(errcode & 0xff) : undefined;
  return { code: code ?? 'failed', message };
}

export const toError = (failure: Failure): StateError => new StateError(failure.code, failure.message);
