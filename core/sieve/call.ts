// One evaluation of one word: what a handler is given. Arguments are evaluated when asked for, by the names of the
// definition; tests answer at once where they can, so that a script of plain header tests runs without waiting.

import type { HeaderField } from '../mail/headers.ts';
import type {
  AddressParts,
  Argument,
  Call,
  CompiledTest,
  CompiledWord,
  Deed,
  Later,
  Run,
  Template,
} from './contract.ts';
import { ScriptError } from './errors.ts';
import { decodedValue } from './header-cache.ts';
import { matchValues } from './match.ts';
import type { EvaluationStep, MutableEntry } from './result.ts';

export class WordCall implements Call {
  readonly word: CompiledWord;
  readonly run: Run;
  /** The command in whose block this one stands, or whose test this is. */
  readonly parent: Call | undefined;
  /** What the handler of the command directly before gave back. */
  readonly previous: unknown;
  readonly #step: EvaluationStep | undefined;

  constructor(word: CompiledWord, run: Run, parent: Call | undefined, previous: unknown, step?: EvaluationStep) {
    this.word = word;
    this.run = run;
    this.parent = parent;
    this.previous = previous;
    this.#step = step;
  }

  get line(): number {
    return this.word.line;
  }
  get column(): number {
    return this.word.column;
  }
  get name(): string {
    return this.word.definition.name;
  }
  /** What `validate` left as `word.data`. */
  get data(): unknown {
    return this.word.data;
  }

  // --- arguments

  has(name: string): boolean {
    return this.word.arguments.has(name);
  }

  /** Undefined where the argument is not given. */
  maybeString(name: string): string | undefined {
    const argument = this.word.arguments.get(name);
    if (argument === undefined || argument === true || argument.kind === 'number') return undefined;
    if (argument.kind === 'string') return this.#evaluate(argument.value, argument);
    const first = argument.values[0];
    return first === undefined ? undefined : this.#evaluate(first, argument);
  }

  string(name: string): string {
    return this.maybeString(name) ?? '';
  }

  maybeStrings(name: string): readonly string[] | undefined {
    const argument = this.word.arguments.get(name);
    if (argument === undefined || argument === true || argument.kind === 'number') return undefined;
    if (argument.kind === 'string') return [this.#evaluate(argument.value, argument)];
    return argument.constant ?? argument.values.map(value => this.#evaluate(value, argument));
  }

  strings(name: string): readonly string[] {
    return this.maybeStrings(name) ?? [];
  }

  maybeNumber(name: string): number | undefined {
    const argument = this.word.arguments.get(name);
    return argument !== undefined && argument !== true && argument.kind === 'number' ? argument.value : undefined;
  }

  number(name: string): number {
    return this.maybeNumber(name) ?? 0;
  }

  /** Whether every string of the argument was known when the script was compiled. */
  isConstant(name: string): boolean {
    const argument = this.word.arguments.get(name);
    if (argument === undefined || argument === true || argument.kind === 'number') return true;
    return argument.kind === 'string' ? typeof argument.value === 'string' : argument.constant !== undefined;
  }

  /** For the engine: the value that follows a match type. */
  evaluateParameter(argument: Extract<Argument, { readonly kind: 'string' }>): string {
    return this.#evaluate(argument.value, argument);
  }

  #evaluate(template: Template, argument: Exclude<Argument, { readonly kind: 'number' }>): string {
    if (typeof template === 'string') return template;
    const value = readTemplate(template, this.run);
    argument.definition.check?.(
      value,
      (message, severity) => {
        if (severity !== 'warning') throw this.error(message);
      },
      undefined,
    );
    return value;
  }

  // --- tests, blocks, ways out

  get testCount(): number {
    return this.word.tests.length;
  }

  /** Evaluates a sub-test. */
  test(at = 0): Later<boolean> {
    return this.run.test(this.word.tests[at] as CompiledTest, this);
  }

  /**
   * Runs the block; for a command without one, nothing happens. False where it was left before its end, then a command
   * that repeats its block must not begin again.
   */
  async block(): Promise<boolean> {
    const block = this.word.kind === 'command' ? this.word.block : undefined;
    if (!block) return true;
    await this.run.commands(block, this);
    const { leaving } = this.run;
    if (leaving?.kind === 'leave' && leaving.takes(this)) this.run.leaving = undefined;
    else if (!leaving) return true;
    return false;
  }

  /** Ends the script, and every script that includes it. */
  stop(): void {
    this.run.leaving = { kind: 'stop' };
  }

  /** Ends this script only. */
  return(): void {
    this.run.leaving = { kind: 'return' };
  }

  /** Leaves the innermost enclosing block whose command is `of`: a name, a condition, or by default any. */
  leave(of?: string | ((block: Call) => boolean)): void {
    const takes = typeof of === 'function' ? of : (block: Call) => of === undefined || block.name === of;
    this.run.leaving = { kind: 'leave', takes };
  }

  /** To throw: the script fails here (RFC 5228 §2.10.6). */
  error(message: string): ScriptError {
    const error = new ScriptError(message);
    error.line = this.line;
    error.column = this.column;
    error.script = this.run.program.name;
    return error;
  }

  // --- what tests compare

  /** Compares with the match type and comparator of this word; keys by the name of the argument or as they are. */
  matches(keys: string | readonly string[], values: readonly string[]): Later<boolean> {
    const list = typeof keys === 'string' ? this.strings(keys) : keys;
    if (this.#step) {
      this.#step.values = values.slice(0, 20).map(short);
      this.#step.keys = list.slice(0, 20).map(short);
    }
    return matchValues(this, values, list);
  }

  /** For the trace: what was looked at, where `matches` is not used. */
  looked(values: readonly string[]): void {
    if (this.#step) this.#step.values = values.slice(0, 20).map(short);
  }

  /** The part of an address that this word's `:domain`, `:user` … asks for; default all of it. */
  addressPart(address: AddressParts): string | undefined {
    const part = this.word.addressPart;
    return part ? part.part(address, this.run) : address.text;
  }

  /** Header fields of these names in order, where this word's tags such as `:mime` and `:index` say. */
  fields(names: readonly string[]): Later<readonly HeaderField[]> {
    this.run.spend(names.length);
    if (this.word.fieldHooks.length > 0) return this.#hooked(names);
    const { headers } = this.run;
    return names.length === 1 ? headers.fields(names[0] as string) : names.flatMap(name => headers.fields(name));
  }

  // RFC 5260 §6: `:index` counts the fields of all names together.
  async #hooked(names: readonly string[]): Promise<readonly HeaderField[]> {
    const hooks = this.word.fieldHooks;
    const from = hooks.find(hook => hook.entities);
    const lists = from?.entities ? await from.entities(this) : [this.run.message.headers];
    let fields: readonly HeaderField[] = names.flatMap(name =>
      name === '' ? [] : lists.flatMap(list => [...list.all(name)]),
    );
    for (const hook of hooks) if (hook.pick) fields = hook.pick(fields, this);
    return fields;
  }

  /** What the fields of these names hold: decoded text, or what a tag such as `:param` takes out of them. */
  fieldValues(names: readonly string[]): Later<readonly string[]> {
    this.run.spend(names.length);
    if (this.word.fieldHooks.length > 0) return this.#hookedValues(names);
    if (names.length === 1) return this.run.headers.values(names[0] as string);
    return names.flatMap(name => this.run.headers.values(name));
  }

  async #hookedValues(names: readonly string[]): Promise<readonly string[]> {
    const fields = await this.#hooked(names);
    return fields.flatMap(field => this.readField(field) ?? [decodedValue(field)]);
  }

  /** What a tag such as `:param` takes out of a field; undefined where no tag does. */
  readField(field: HeaderField): readonly string[] | undefined {
    return this.word.fieldHooks.find(hook => hook.values)?.values?.(field, this);
  }

  // --- what actions leave

  /** Adds the action to the result, after this command's tags have changed it. */
  act(deed: Deed): Later<void> {
    const entry: MutableEntry = {
      action: deed.action,
      arguments: deed.arguments,
      cancelsKeep: deed.cancelsKeep,
      flags: undefined,
      line: this.line,
      message: this.run.message,
      implicit: false,
    };
    const appliers = this.word.appliers;
    if (appliers.length === 0) return this.run.add(entry);
    return this.#apply(entry);
  }

  async #apply(entry: MutableEntry): Promise<void> {
    for (const apply of this.word.appliers) await apply(entry, this);
    this.run.add(entry);
  }
}

const short = (text: string): string => (text.length > 200 ? `${text.slice(0, 200)}…` : text);

function readTemplate(template: Template, run: Run): string {
  if (typeof template === 'string') return template;
  const limit = run.setting('maxVariableBytes') * 16;
  let out = '';
  for (const piece of template) {
    out += typeof piece === 'string' ? piece : piece.read(run);
    if (out.length > limit) {
      run.spend(Math.ceil(out.length / 1024));
      return out.slice(0, Math.max(limit, 1 << 20));
    }
  }
  return out;
}
