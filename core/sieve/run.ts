// The interpreter. Evaluates a program against a message and fills a result; touches nothing outside but through ports that
// read. Invariants: every command, test and comparison costs steps, so a run ends; a run never throws; whatever goes wrong
// ends in the implicit keep of the message as it came. Handlers are called the same way whoever defined them.

import type { Message } from '../mail/message.ts';
import { makeMessage } from '../mail/message.ts';
import { bufferRope } from '../mail/rope.ts';
import { WordCall } from './call.ts';
import type {
  ActionDefinition,
  Call,
  CompiledCommand,
  CompiledTest,
  CompiledWord,
  Execution,
  Leaving,
  Program,
  Run,
  SieveHost,
  SieveResult,
} from './contract.ts';
import type { Diagnostic } from './diagnostic.ts';
import { BudgetError, ScriptError } from './errors.ts';
import { HeaderCache } from './header-cache.ts';
import type { SieveEnvelope } from './ports.ts';
import { HostError } from './ports.ts';
import type { Entry, EvaluationStep, MutableEntry, RunStatus } from './result.ts';
import type { SieveSettings } from './settings.ts';
import { setting } from './settings.ts';
import { VariableScope } from './variable-scope.ts';

export interface RunOptions {
  /** Append to this result: a personal script after the administrator's. */
  readonly after?: SieveResult;
  /** Record every evaluated command and test. */
  readonly trace?: boolean;
}

export async function run(program: Program, host: SieveHost, options: RunOptions = {}): Promise<SieveResult> {
  const state = new Interpreter(host, options);
  return state.toEnd(program);
}

/** One script being evaluated: the program itself, or one that it includes. */
interface Frame {
  readonly program: Program;
  readonly variables: VariableScope;
  readonly state: Map<unknown, unknown>;
  readonly enabled: Set<string>;
}

interface Place {
  readonly line: number;
  readonly column: number;
  readonly script: string;
}

const checkEvery = 256;

class Interpreter implements Run {
  readonly host: SieveHost;
  readonly diagnostics: Diagnostic[];
  /** Captures of the last successful match, `[0]` the whole; undefined where no active extension asked for them. */
  captures: readonly string[] | undefined;
  leaving: Leaving | undefined;
  #original: Message;
  #message: Message;
  #headers: HeaderCache;
  #envelope: SieveEnvelope;
  readonly #tracing: boolean;
  readonly #trace: EvaluationStep[];
  readonly #entries: Entry[];
  readonly #sequence: number;
  readonly #afterwards: ((execution: Execution) => Promise<void>)[];
  #keep = true;
  #depth = 0;
  #steps = 0;
  #nextCheck = checkEvery;
  #maxSteps: number;
  #startedMs: number;
  #waitedMs = 0;
  readonly #state = new Map<unknown, unknown>();
  readonly #frames: Frame[] = [];
  readonly #definitions: Map<string, ActionDefinition>;
  readonly #places = new WeakMap<HostError, Place>();

  constructor(host: SieveHost, options: RunOptions) {
    const after = options.after;
    this.host = host;
    this.#original = after?.original ?? toMessage(host.message);
    this.#message = after?.message ?? this.#original;
    this.#headers = new HeaderCache(this.#message);
    this.#envelope = host.envelope;
    this.#tracing = options.trace === true;
    this.#trace = [...(after?.trace ?? [])];
    this.diagnostics = [...(after?.diagnostics ?? [])];
    this.#entries = (after?.actions ?? []).filter(entry => !entry.implicit);
    this.#sequence = after?.runs ?? 0;
    this.#afterwards = [...(after?.afterwards ?? [])];
    this.#definitions = new Map(after?.definitions);
    this.#maxSteps = setting(host.settings, 'maxSteps');
    this.#startedMs = host.clock.monotonic();
  }

  // --- the message and its surroundings

  get original(): Message {
    return this.#original;
  }

  get message(): Message {
    return this.#message;
  }

  /** Decoded header fields of the current message. */
  get headers(): HeaderCache {
    return this.#headers;
  }

  get envelope(): SieveEnvelope {
    return this.#envelope;
  }

  get program(): Program {
    return this.#frame.program;
  }

  get #frame(): Frame {
    return this.#frames[this.#frames.length - 1] as Frame;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** Whether the implicit keep is still in effect. */
  get keep(): boolean {
    return this.#keep;
  }

  get steps(): number {
    return this.#steps;
  }

  /** Variables of the script that is being evaluated. */
  get variables(): VariableScope {
    return this.#frame.variables;
  }

  /**
   * The part of the message that a loop is at, as a message of its own, for what looks at "the message" within it
   * (RFC 6609 §3.5); undefined outside of loops.
   */
  part: (() => Promise<Message>) | undefined;

  /** The new current message: tests see it, later actions store and send it. */
  replaceMessage(message: Message | Uint8Array): void {
    this.#message = toMessage(message);
    this.#headers = new HeaderCache(this.#message);
  }

  newMessage(message: Message | Uint8Array): void {
    this.replaceMessage(message);
    this.#original = this.#message;
  }

  changeEnvelope(change: Partial<SieveEnvelope>): void {
    this.#envelope = { ...this.#envelope, ...change };
  }

  setting<K extends keyof SieveSettings>(key: K): SieveSettings[K] {
    return setting(this.host.settings, key);
  }

  /** One value per key and run. Keys are compared by identity: use a symbol or an object of your own. */
  state<T>(key: unknown, make: () => T): T {
    if (!this.#state.has(key)) this.#state.set(key, make());
    return this.#state.get(key) as T;
  }

  /** As `state`, but apart for each included script. */
  scriptState<T>(key: unknown, make: () => T): T {
    const { state } = this.#frame;
    if (!state.has(key)) state.set(key, make());
    return state.get(key) as T;
  }

  // --- budgets

  /** Costs steps. Throws `BudgetError` when they or the CPU time are used up. */
  spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.#maxSteps) throw new BudgetError(`Script exceeded the limit of ${this.#maxSteps} steps`);
    if (this.#steps < this.#nextCheck) return;
    this.#nextCheck = this.#steps + checkEvery;
    const usedMs = this.host.clock.monotonic() - this.#startedMs - this.#waitedMs;
    const limitMs = this.setting('maxCpuMs');
    if (usedMs > limitMs) throw new BudgetError(`Script exceeded the limit of ${limitMs} ms of CPU time`);
  }

  /** Awaits a port: its time is not the script's. */
  async wait<T>(work: Promise<T>): Promise<T> {
    const beganMs = this.host.clock.monotonic();
    try {
      return await work;
    } finally {
      this.#waitedMs += this.host.clock.monotonic() - beganMs;
    }
  }

  // --- evaluation

  async commands(list: readonly CompiledCommand[], parent: Call | undefined): Promise<void> {
    let previous: unknown;
    this.#depth += 1;
    try {
      for (const word of list) {
        const outcome = this.#command(word, parent, previous);
        previous = outcome instanceof Promise ? await outcome : outcome;
        if (this.leaving) return;
      }
    } finally {
      this.#depth -= 1;
    }
  }

  #command(word: CompiledCommand, parent: Call | undefined, previous: unknown): unknown {
    this.spend(1);
    this.#checkEnabled(word);
    if (this.#tracing) this.#step(word);
    try {
      const outcome = word.definition.run(new WordCall(word, this, parent, previous));
      return outcome instanceof Promise ? outcome.catch(error => this.#locate(error, word)) : outcome;
    } catch (error) {
      return this.#locate(error, word);
    }
  }

  test(word: CompiledTest, parent: Call | undefined): boolean | Promise<boolean> {
    this.spend(1);
    this.#checkEnabled(word);
    const step = this.#tracing ? this.#step(word) : undefined;
    try {
      const outcome = word.definition.run(new WordCall(word, this, parent, undefined, step));
      if (outcome instanceof Promise)
        return outcome.then(
          value => this.#tested(value, step),
          error => this.#locate(error, word),
        );
      return this.#tested(outcome, step);
    } catch (error) {
      return this.#locate(error, word);
    }
  }

  #tested(value: boolean, step: EvaluationStep | undefined): boolean {
    if (step) step.result = value;
    return value;
  }

  #step(word: CompiledWord): EvaluationStep {
    const script = this.program.name;
    const step: EvaluationStep = {
      line: word.line,
      column: word.column,
      ...(script === '' ? {} : { script }),
      kind: word.kind,
      name: word.definition.name,
      depth: this.#depth,
    };
    if (this.#trace.length < 10_000) this.#trace.push(step);
    return step;
  }

  /** Gives an error the place of the innermost word in which it arose. */
  #locate(error: unknown, word: CompiledWord): never {
    if (error instanceof ScriptError && error.line === undefined) {
      error.line = word.line;
      error.column = word.column;
      error.script = this.program.name;
    } else if (error instanceof HostError && !this.#places.has(error))
      this.#places.set(error, { line: word.line, column: word.column, script: this.program.name });
    throw error;
  }

  #checkEnabled(word: CompiledWord): void {
    if (!word.late || this.#frame.enabled.has(word.extension.name)) return;
    // RFC 5463 §4 item 1
    const error = new ScriptError(
      `Extension '${word.extension.name}' is used before an 'ihave' test made it available`,
    );
    this.#locate(error, word);
  }

  /** RFC 5463: from here on the words of this extension, and of those it implies, may be used. */
  enable(name: string): void {
    if (this.#frame.enabled.has(name)) return;
    this.#frame.enabled.add(name);
    for (const implied of this.program.registry.extensions.get(name)?.implies ?? []) this.enable(implied);
  }

  /** Evaluates another script within this run, with variables and state of its own. */
  async runScript(program: Program): Promise<void> {
    const frame: Frame = { program, variables: new VariableScope(this), state: new Map(), enabled: new Set() };
    const captures = this.captures;
    this.captures = undefined;
    this.#frames.push(frame);
    try {
      for (const extension of program.extensions) extension.begin?.(this);
      await this.commands(program.commands, undefined);
      if (this.leaving?.kind === 'return') this.leaving = undefined;
    } finally {
      if (this.#frames.length > 1) {
        this.#frames.pop();
        this.captures = captures;
      }
    }
  }

  // --- the result

  /** Adds an action, checked against the earlier ones (RFC 5228 §2.10.3, §2.10.4). */
  add(draft: MutableEntry): void {
    for (const extension of this.program.extensions) extension.entry?.(draft, this);
    if (draft.cancelsKeep) this.#keep = false;
    const entry = this.#finish(draft);
    const definition = this.#action(entry.action);
    for (const [at, earlier] of this.#entries.entries()) {
      const meeting = definition.meets?.(entry, earlier, this) ?? 'both';
      if (meeting === 'both') continue;
      if (meeting === 'drop') return;
      if ('replace' in meeting) {
        this.#entries[at] = meeting.replace;
        return;
      }
      // An earlier script of the administrator wins over a later one instead of spoiling it.
      if (earlier.sequence < entry.sequence) {
        this.note('warning', draft.line, `Action '${entry.action}' is left out: ${meeting.conflict}`);
        return;
      }
      throw new ScriptError(meeting.conflict);
    }
    if (!draft.implicit) this.#limit(definition.sends === true);
    this.#entries.push(entry);
  }

  #finish(draft: MutableEntry): Entry {
    const { cancelsKeep: _, flags, ...rest } = draft;
    // For `definitions`; throws where nobody can carry it out.
    this.#action(draft.action);
    return {
      ...rest,
      flags: flags ?? this.host.flags ?? [],
      script: this.program.name,
      sequence: this.#sequence,
    };
  }

  #action(name: string): ActionDefinition {
    const definition = this.#definitions.get(name) ?? this.program.registry.actions.get(name);
    if (!definition) throw new ScriptError(`Unknown action '${name}'`);
    this.#definitions.set(name, definition);
    return definition;
  }

  #limit(sends: boolean): void {
    const actions = this.setting('maxActions');
    if (this.#entries.filter(entry => !entry.implicit).length >= actions)
      throw new ScriptError(`Script exceeded the policy limit of ${actions} actions`);
    if (!sends) return;
    const redirects = this.setting('maxRedirects');
    const sent = this.#entries.filter(entry => this.#action(entry.action).sends).length;
    if (sent >= redirects) throw new ScriptError(`Script exceeded the policy limit of ${redirects} redirects`);
  }

  /** To be done by `execute` after all actions succeeded, e.g. remembering what was seen (RFC 7352 §3). */
  afterwards(work: (execution: Execution) => Promise<void>): void {
    this.#afterwards.push(work);
  }

  /** RFC 5228 §2.10.2. */
  cancelKeep(): void {
    this.#keep = false;
  }

  restoreKeep(): void {
    this.#keep = true;
  }

  note(severity: Diagnostic['severity'], line: number, message: string): void {
    const script = this.program.name;
    if (this.diagnostics.length < 1000)
      this.diagnostics.push({ severity, line, column: 1, message, ...(script === '' ? {} : { script }) });
  }

  resultSoFar(): SieveResult {
    const entries = [...this.#entries];
    if (this.#keep) this.add(this.#implicitKeep(this.#message));
    const result = this.#result('ok', this.program);
    this.#entries.splice(0, this.#entries.length, ...entries);
    return result;
  }

  resetResult(): void {
    this.#entries.length = 0;
    this.#afterwards.length = 0;
    this.#keep = true;
  }

  async toEnd(program: Program): Promise<SieveResult> {
    const before = [...this.#entries];
    try {
      await this.runScript(program);
      if (this.#keep) this.add(this.#implicitKeep(this.#message));
      return this.#result('ok', program);
    } catch (error) {
      const status = this.#explain(error, program);
      this.#entries.splice(0, this.#entries.length, ...before);
      this.replaceMessage(this.original);
      this.#afterwards.length = 0;
      this.#keep = true;
      const keep = this.#finish(this.#implicitKeep(this.original));
      if (!this.#entries.some(entry => this.#storesLike(entry, keep))) this.#entries.push(keep);
      return this.#result(status, program);
    }
  }

  #storesLike(entry: Entry, keep: Entry): boolean {
    const meeting = this.#action('keep').meets?.(keep, entry, this);
    return meeting !== undefined && meeting !== 'both' && !(typeof meeting === 'object' && 'conflict' in meeting);
  }

  #implicitKeep(message: Message): MutableEntry {
    return { action: 'keep', arguments: {}, flags: undefined, cancelsKeep: false, line: 0, message, implicit: true };
  }

  #explain(error: unknown, program: Program): RunStatus {
    const host = error instanceof HostError ? this.#places.get(error) : undefined;
    const at = error instanceof ScriptError ? error : host;
    const message =
      error instanceof ScriptError || error instanceof HostError
        ? error.message
        : `Internal error: ${error instanceof Error ? error.message : String(error)}`;
    const script = at?.script ?? program.name;
    this.diagnostics.push({
      severity: 'error',
      line: at?.line ?? 1,
      column: at?.column ?? 1,
      message,
      ...(script === '' ? {} : { script }),
    });
    if (error instanceof BudgetError) return 'resource-limit';
    if (error instanceof ScriptError) return 'failure';
    return error instanceof HostError && error.kind === 'permanent' ? 'failure' : 'tempfail';
  }

  #result(status: RunStatus, program: Program): SieveResult {
    return {
      status,
      actions: [...this.#entries],
      diagnostics: [...this.diagnostics],
      message: this.#message,
      original: this.#original,
      envelope: this.#envelope,
      keep: this.#keep,
      steps: this.#steps,
      trace: [...this.#trace],
      registry: program.registry,
      definitions: new Map(this.#definitions),
      runs: this.#sequence + 1,
      afterwards: [...this.#afterwards],
    };
  }
}

/** A message over bytes; a message stays what it is. */
export function toMessage(message: Message | Uint8Array): Message {
  if (!(message instanceof Uint8Array)) return message;
  return makeMessage(bufferRope(Buffer.from(message.buffer, message.byteOffset, message.length)));
}
