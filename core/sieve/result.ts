// What a run decides, as data: an ordered list of actions that `execute` carries out. RFC 5228 §2.10.
import type { Message } from '../mail/message.ts';

export interface Entry {
  /** Name of an `ActionDefinition`. */
  readonly action: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  /** IMAP flags to store with (RFC 5232 §5). */
  readonly flags: readonly string[];
  readonly line: number;
  readonly script: string;
  /** The message as it was when the action was taken, edits included. */
  readonly message: Message;
  /** The implicit keep of RFC 5228 §2.10.2. */
  readonly implicit: boolean;
  /** Which of several runs on one result took it, from 0. */
  readonly sequence: number;
}

/** An entry on its way into the result, for tags to change. */
export interface MutableEntry {
  action: string;
  arguments: Record<string, unknown>;
  flags: readonly string[] | undefined;
  cancelsKeep: boolean;
  readonly line: number;
  message: Message;
  implicit: boolean;
}

/** One evaluated command or test. */
export interface EvaluationStep {
  readonly line: number;
  readonly column: number;
  readonly script?: string;
  readonly kind: 'command' | 'test';
  readonly name: string;
  /** Depth of nesting, for indented display. */
  readonly depth: number;
  /** Of a test. */
  result?: boolean;
  /** What was compared, cut to 200 characters each. */
  values?: readonly string[];
  keys?: readonly string[];
}

export type RunStatus =
  | 'ok'
  /** A run-time error; the actions are those of earlier runs and the implicit keep of the unmodified message. */
  | 'failure'
  /** A port failed for now: the actions are as for `failure`, and trying again later may do better. */
  | 'tempfail'
  /** Steps or CPU time used up. */
  | 'resource-limit';

/** A plain form for `--json` and tests: no message bytes, no empty values. */
export function describeActions(
  actions: readonly Entry[],
): readonly { readonly action: string; readonly arguments: Readonly<Record<string, unknown>> }[] {
  return actions.map(entry => ({
    action: entry.action,
    arguments: {
      ...entry.arguments,
      ...(entry.flags.length === 0 ? {} : { flags: entry.flags }),
      ...(entry.implicit ? { implicit: true } : {}),
    },
  }));
}
