// What a definition's hooks see while a script is compiled: the script as a whole (`Unit`) and one word of it (`WordScope`).

import type { ArgumentNode, Span } from './ast.ts';
import type {
  AnyWord,
  Argument,
  CompiledTest,
  ExtensionDefinition,
  IncludeReference,
  Registry,
  StringStage,
  Template,
  Unit,
  WordNode,
  WordScope,
} from './contract.ts';
import type { Diagnostic, Position } from './diagnostic.ts';
import { quote } from './diagnostic.ts';
import type { CompileLimits } from './limits.ts';

export class ScriptUnit implements Unit {
  readonly registry: Registry;
  readonly limits: CompileLimits;
  readonly includes: IncludeReference[] = [];
  readonly diagnostics: Diagnostic[] = [];
  /** Names of extensions that a test made active, not `require`. */
  readonly late = new Set<string>();
  readonly #active = new Map<string, ExtensionDefinition>();
  readonly #state = new Map<unknown, unknown>();
  readonly #once = new Set<string>();
  #muted = 0;
  #stages: readonly StringStage[] | undefined;
  #list: readonly ExtensionDefinition[] | undefined;

  constructor(registry: Registry, limits: CompileLimits) {
    this.registry = registry;
    this.limits = limits;
    for (const extension of registry.extensions.values()) if (extension.always) this.activate(extension);
  }

  get extensions(): readonly ExtensionDefinition[] {
    this.#list ??= [...this.#active.values()];
    return this.#list;
  }

  stringStages(): readonly StringStage[] {
    this.#stages ??= this.extensions
      .map(extension => extension.strings)
      .filter(stage => stage !== undefined)
      .sort((a, b) => a.order - b.order);
    return this.#stages;
  }

  isActive(name: string): boolean {
    return this.#active.has(name);
  }

  /** With all that it implies. */
  activate(extension: ExtensionDefinition): void {
    if (this.#active.has(extension.name)) return;
    this.#active.set(extension.name, extension);
    this.#stages = undefined;
    this.#list = undefined;
    for (const name of extension.implies ?? []) {
      const implied = this.registry.extensions.get(name);
      if (implied) this.activate(implied);
    }
  }

  /** By a test (RFC 5463): its words may be used once that test was evaluated. */
  activateLate(extension: ExtensionDefinition): void {
    const before = new Set(this.#active.keys());
    this.activate(extension);
    for (const name of this.#active.keys()) if (!before.has(name)) this.late.add(name);
  }

  /** `require` of one capability; false where there is none of that name. */
  require(name: string, at: Position): boolean {
    const extension = this.registry.capability(name);
    if (!extension) return false;
    const rival = (extension.conflicts ?? []).find(other => this.isActive(other));
    const reverse = this.extensions.find(other => other.conflicts?.includes(name));
    if (rival !== undefined || reverse)
      this.report(at, `Extension ${quote(name)} cannot be used together with ${quote(rival ?? reverse?.name ?? '')}`);
    this.activate(extension);
    return true;
  }

  report(at: Position, message: string, severity: Diagnostic['severity'] = 'error'): void {
    if (this.#muted > 0) return;
    this.diagnostics.push({ severity, line: at.line, column: at.column, message });
  }

  /** Says the same thing only where it first arises. */
  reportOnce(key: string, at: Position, message: string): void {
    if (this.#muted > 0 || this.#once.has(key)) return;
    this.#once.add(key);
    this.report(at, message);
  }

  /** Compiles what never runs: nothing in it is an error (RFC 5463 §4). */
  muted<T>(work: () => T): T {
    this.#muted += 1;
    try {
      return work();
    } finally {
      this.#muted -= 1;
    }
  }

  /** One value per key and script, for definitions that must remember something. */
  state<T>(key: unknown, make: () => T): T {
    if (!this.#state.has(key)) this.#state.set(key, make());
    return this.#state.get(key) as T;
  }
}

export class ScopedWord implements WordScope {
  readonly unit: ScriptUnit;
  readonly node: WordNode;
  readonly definition: AnyWord;
  /** The command before this one in the same block. */
  readonly previous: ScopedWord | undefined;
  /** Commands in whose block this one stands, the innermost first. */
  readonly parents: readonly ScopedWord[];
  readonly arguments = new Map<string, Argument | true>();
  readonly spans = new Map<string, Span>();
  tests: readonly (CompiledTest | undefined)[] = [];
  /** Values of the sub-tests that are known already. */
  constants: readonly (boolean | undefined)[] = [];
  /** For `run` as `call.data`. */
  data: unknown;

  constructor(
    unit: ScriptUnit,
    node: WordNode,
    definition: AnyWord,
    previous?: ScopedWord,
    parents: readonly ScopedWord[] = [],
  ) {
    this.unit = unit;
    this.node = node;
    this.definition = definition;
    this.previous = previous;
    this.parents = parents;
  }

  get name(): string {
    return this.definition.name;
  }

  has(name: string): boolean {
    return this.arguments.has(name);
  }

  /** The string, where it is given and constant. */
  string(name: string): string | undefined {
    const argument = this.arguments.get(name);
    if (argument === undefined || argument === true) return undefined;
    if (argument.kind === 'string') return constantOf(argument.value);
    return argument.kind === 'string-list' && argument.constant?.length === 1 ? argument.constant[0] : undefined;
  }

  /** Those strings of a list that are constant. */
  strings(name: string): readonly string[] {
    const argument = this.arguments.get(name);
    if (argument === undefined || argument === true || argument.kind === 'number') return [];
    const values = argument.kind === 'string' ? [argument.value] : argument.values;
    return values.map(constantOf).filter(value => value !== undefined);
  }

  number(name: string): number | undefined {
    const argument = this.arguments.get(name);
    return argument !== undefined && argument !== true && argument.kind === 'number' ? argument.value : undefined;
  }

  /** Reports at an argument, or at the word where none is named. */
  error(message: string, argument?: string): void {
    this.unit.report((argument === undefined ? undefined : this.spans.get(argument)) ?? this.node.nameSpan, message);
  }

  warn(message: string, argument?: string): void {
    const at = (argument === undefined ? undefined : this.spans.get(argument)) ?? this.node.nameSpan;
    this.unit.report(at, message, 'warning');
  }

  /** Replaces the value of an argument by what a hook made of it. */
  set(name: string, argument: Argument): void {
    this.arguments.set(name, argument);
  }
}

export function constantOf(template: Template): string | undefined {
  return typeof template === 'string' ? template : undefined;
}

const kindNames: Readonly<Record<ArgumentNode['kind'], string>> = {
  string: 'a string',
  'string-list': 'a list of strings',
  number: 'a number',
  tag: 'a tag',
};
export const kindName = (kind: ArgumentNode['kind']): string => kindNames[kind];
