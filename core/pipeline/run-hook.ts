// Runs one hook of one entry and turns everything that can go wrong (throw, rejection, hang, illegal verdict) into the
// entry's `onError`. A plugin that answers at once costs no promise, no timer and no signal.
// Not covered: a plugin that blocks the event loop. `isolate` ends that (isolation/).
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { DeadlineError } from '../lib/deadline.ts';
import type { TraceStep } from '../mail/trace.ts';
import type { HookName, Identity } from '../plugin/contract.ts';
import { type Edit, type MessageAnswer, pass } from '../plugin/verdicts.ts';
import { applyEdits, type Draft } from './apply-edits.ts';
import { verdictFault } from './check-verdict.ts';
import { HookContext, type Stage } from './hook-context.ts';
import { hookTable } from './hook-table.ts';
import type { LoadedEntry } from './loaded-entry.ts';

/** Reason of all signals of a session whose client is gone, or of a transaction that is over. */
class SessionOver extends Error {
  override readonly name = 'SessionOver';
}
/** Made once: every transaction ends with one of these, and where it was made says nothing. */
export const transactionOver = new SessionOver('Transaction is over');
export const clientGone = new SessionOver('Client is gone');

/** A legal verdict of any hook. */
export type HookAnswer = MessageAnswer & { readonly identity?: Identity };

export interface Decision {
  readonly plugin: string;
  readonly answer: HookAnswer;
  /** The entry failed and its `onError` answered. */
  readonly failed: boolean;
  /** The message with this answer's edits, where there were any. */
  readonly draft?: Draft;
}

export interface HookRunner {
  readonly clock: Clock;
  readonly log: Logger;
}

export interface StepSink {
  /** `clock.monotonic()` of the beginning that `atMs` counts from. */
  readonly startedAt: number;
  add(step: TraceStep): void;
}

type AnyHook = (at: unknown, extra: unknown) => unknown;

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';

function describeEdit(edit: Edit): string {
  switch (edit.kind) {
    case 'add-header':
    case 'remove-header':
    case 'replace-header':
      return `${edit.kind} ${edit.name}`;
    case 'replace-body':
      return `${edit.kind} ${Buffer.isBuffer(edit.body) ? edit.body.length : edit.body.size} bytes`;
    case 'mark-forged':
      return edit.kind;
    case 'quarantine-original':
      return `${edit.kind}: ${edit.why}`;
    case 'set-recipient-sender':
      return `${edit.kind} ${edit.address} for ${edit.recipient}`;
    case 'add-recipient':
    case 'remove-recipient':
    case 'set-sender':
      return `${edit.kind} ${edit.address ?? '<>'}`;
  }
}

/** Most edits that a step lists one by one. */
const listedEdits = 100;

export class HookCall {
  readonly #runner: HookRunner;
  readonly #entry: LoadedEntry;
  readonly #hook: HookName;
  readonly #context: HookContext;
  readonly #sink: StepSink;
  readonly #began: number;
  readonly #draft: Draft | undefined;

  /** `draft`: what the edits of the answer are applied to. */
  constructor(runner: HookRunner, entry: LoadedEntry, hook: HookName, stage: Stage, sink: StepSink, draft?: Draft) {
    this.#draft = draft;
    this.#runner = runner;
    this.#entry = entry;
    this.#hook = hook;
    this.#sink = sink;
    this.#context = new HookContext(entry, hook, stage, runner.clock, runner.log);
    this.#began = runner.clock.monotonic();
  }

  run(extra: unknown): Decision | Promise<Decision> {
    let answer: unknown;
    try {
      // Called on its object: a plugin's instance may be of a class.
      answer = (this.#entry.instance as Record<HookName, AnyHook>)[this.#hook](this.#context, extra);
      return isThenable(answer) ? this.#wait(answer) : this.#settle(answer);
    } catch (error) {
      return this.#fail(error);
    }
  }

  async #wait(answer: PromiseLike<unknown>): Promise<Decision> {
    try {
      return this.#settle(await this.#context.inTime(answer));
    } catch (error) {
      return this.#fail(error);
    }
  }

  #settle(answer: unknown): Decision {
    const fault = verdictFault(this.#hook, answer);
    if (fault) throw new Error(`Plugin ${fault}`);
    const legal = answer as HookAnswer;
    // Tried even where they will not count: a trial run shall show that they would fail.
    const draft = legal.edits && this.#draft ? applyEdits(this.#draft, legal.edits, this.#entry.name) : undefined;
    const evidence = this.#context.finish(true);
    this.#record(legal.kind, 'why' in legal ? legal.why : undefined, withEdits(evidence, legal.edits));
    if (this.#entry.observe) return { plugin: this.#entry.name, answer: pass, failed: false };
    return { plugin: this.#entry.name, answer: legal, failed: false, ...(draft ? { draft } : {}) };
  }

  #fail(error: unknown): Decision {
    const evidence = this.#context.finish(false);
    const entry = this.#entry;
    const gone = error instanceof SessionOver;
    const why =
      error instanceof DeadlineError
        ? `No answer within ${error.limitMs} ms`
        : error instanceof Error
          ? error.message
          : `Threw ${String(error)}`;
    this.#record('error', why, evidence);
    if (!gone) this.#context.log.warn({ err: error, onError: entry.onError }, 'Plugin failed');
    // Without a client there is nobody left to decide for, whatever the entry's policy.
    if (!gone && (entry.observe || entry.onError === 'continue'))
      return { plugin: entry.name, answer: pass, failed: !entry.observe };
    const answer: HookAnswer = { kind: 'defer', reply: hookTable[this.#hook].failed, why };
    return { plugin: entry.name, answer, failed: true };
  }

  #record(verdict: string, why: string | undefined, evidence: TraceStep['evidence']): void {
    const ms = round(this.#runner.clock.monotonic() - this.#began);
    const atMs = round(this.#began - this.#sink.startedAt);
    // Assigned, not spread: steps of one shape are cheaper to make and to write down, and there are dozens a message.
    const step: { -readonly [K in keyof TraceStep]: TraceStep[K] } = {
      atMs,
      plugin: this.#entry.name,
      hook: this.#hook,
      verdict,
      ms,
    };
    if (why !== undefined) step.why = why;
    if (evidence !== undefined) step.evidence = evidence;
    if (this.#entry.observe) step.observed = true;
    this.#sink.add(step);
  }
}

/** To a microsecond: more digits are noise in a trace. */
const round = (ms: number): number => Math.round(ms * 1000) / 1000;

function withEdits(evidence: TraceStep['evidence'], edits: readonly Edit[] | undefined): TraceStep['evidence'] {
  if (!edits || edits.length === 0) return evidence;
  const listed = edits.slice(0, listedEdits).map(describeEdit);
  if (edits.length > listedEdits) listed.push(`and ${edits.length - listedEdits} more`);
  return { ...evidence, edits: listed };
}
