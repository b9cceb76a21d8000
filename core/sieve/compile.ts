// From the syntax tree to the compiled form. Driven by the registry: knows kinds of arguments and groups of tags, no words.
// Goes on after an error, so that the author hears of all of them: one per faulty argument, unknown word, missing `require`.

import type { BlockNode, CommandNode, TestNode } from './ast.ts';
import { readArguments, takesTag } from './compile-arguments.ts';
import type {
  CommandDefinition,
  CompiledCommand,
  CompiledTest,
  Defined,
  IncludeReference,
  Program,
  Registry,
  TestDefinition,
} from './contract.ts';
import type { Diagnostic } from './diagnostic.ts';
import { quote } from './diagnostic.ts';
import type { CompileLimits } from './limits.ts';
import { defaultCompileLimits } from './limits.ts';
import { parse } from './parser.ts';
import { ScopedWord, ScriptUnit } from './scope.ts';
import { nearest } from './suggest.ts';

export interface CompileOptions {
  readonly registry: Registry;
  readonly limits?: Partial<CompileLimits>;
  /** For messages about this script among others. */
  readonly name?: string;
}

export type Compiled =
  | { readonly ok: true; readonly program: Program; readonly diagnostics: readonly Diagnostic[] }
  | { readonly ok: false; readonly diagnostics: readonly Diagnostic[] };

/** Never throws. `diagnostics` hold warnings also where there is a program; at most `limits.errors` entries. */
export function compileScript(source: string | Uint8Array, options: CompileOptions): Compiled {
  const limits = { ...defaultCompileLimits, ...options.limits };
  const script = parse(source, limits);
  const unit = new ScriptUnit(options.registry, limits);
  const commands = new Compiler(unit).list(script.commands, [], undefined);
  for (const extension of unit.extensions) extension.finish?.(unit);
  const name = options.name;
  const diagnostics = [...script.diagnostics, ...unit.diagnostics]
    .sort((a, b) => a.line - b.line || a.column - b.column)
    .slice(0, limits.errors)
    .map(d => (name === undefined ? d : { ...d, script: name }));
  if (diagnostics.some(d => d.severity === 'error')) return { ok: false, diagnostics };
  const program: Program = {
    name: name ?? '',
    script,
    registry: options.registry,
    commands,
    extensions: unit.extensions,
    includes: unit.includes as readonly IncludeReference[],
    warnings: diagnostics,
  };
  return { ok: true, program, diagnostics };
}

class Compiler {
  readonly #unit: ScriptUnit;
  #prologue = true;
  readonly #constants = new WeakMap<CompiledTest, boolean>();

  constructor(unit: ScriptUnit) {
    this.#unit = unit;
  }

  list(nodes: readonly CommandNode[], parents: readonly ScopedWord[], block: BlockNode | undefined): CompiledCommand[] {
    const out: CompiledCommand[] = [];
    let previous: ScopedWord | undefined;
    for (const node of nodes) {
      if (this.#unit.diagnostics.length > this.#unit.limits.errors) break;
      const done = this.#command(node, parents, previous, block === undefined);
      previous = done.scope;
      if (done.compiled) out.push(done.compiled);
    }
    return out;
  }

  #command(
    node: CommandNode,
    parents: readonly ScopedWord[],
    previous: ScopedWord | undefined,
    top: boolean,
  ): { readonly scope: ScopedWord | undefined; readonly compiled: CompiledCommand | undefined } {
    const unit = this.#unit;
    const errors = unit.diagnostics.length;
    const found = this.#find('command', node, unit.registry.commands(node.name));
    if (!found) {
      this.#prologue = false;
      for (const test of node.tests) this.#test(test, parents);
      if (node.block) this.list(node.block.commands, parents, node.block);
      return { scope: undefined, compiled: undefined };
    }
    const definition = found.definition as CommandDefinition;
    const scope = new ScopedWord(unit, node, definition, previous, parents);
    this.#place(scope, definition, top);
    const tags = readArguments(scope, 'command');
    const tests = this.#tests(scope, 'command');
    this.#blockForm(scope, definition, node);
    if (unit.diagnostics.length === errors) definition.validate?.(scope);
    const block = this.#block(scope, definition, node);
    const compiled: CompiledCommand = {
      kind: 'command',
      ...this.#base(scope, found, tests, tags),
      definition,
      block,
    };
    return { scope, compiled };
  }

  #test(node: TestNode, parents: readonly ScopedWord[]): CompiledTest | undefined {
    const unit = this.#unit;
    const errors = unit.diagnostics.length;
    const found = this.#find('test', node, unit.registry.tests(node.name));
    if (!found) {
      for (const test of node.tests) this.#test(test, parents);
      return undefined;
    }
    const definition = found.definition as TestDefinition;
    const scope = new ScopedWord(unit, node, definition, undefined, parents);
    const tags = readArguments(scope, 'test');
    const tests = this.#tests(scope, 'test');
    if (unit.diagnostics.length === errors) definition.validate?.(scope);
    const constant = definition.constant?.(
      scope,
      scope.tests.map(test => test && this.#constants.get(test)),
    );
    const compiled: CompiledTest = { kind: 'test', ...this.#base(scope, found, tests, tags), definition };
    if (constant !== undefined) this.#constants.set(compiled, constant);
    return compiled;
  }

  #base(
    scope: ScopedWord,
    found: Defined<CommandDefinition | TestDefinition>,
    tests: readonly CompiledTest[],
    tags: ReturnType<typeof readArguments>,
  ) {
    return {
      line: scope.node.nameSpan.line,
      column: scope.node.nameSpan.column,
      extension: found.extension,
      late: this.#unit.late.has(found.extension.name),
      arguments: scope.arguments,
      tests,
      data: scope.data,
      ...tags,
    };
  }

  // The words of all active extensions come before those that merely exist.
  #find<D extends CommandDefinition | TestDefinition>(
    kind: 'command' | 'test',
    node: CommandNode | TestNode,
    candidates: readonly Defined<D>[],
  ): Defined<D> | undefined {
    const unit = this.#unit;
    const active = candidates.find(candidate => unit.isActive(candidate.extension.name));
    if (active) return active;
    const word = quote(node.name);
    const other = kind === 'command' ? unit.registry.tests(node.name) : unit.registry.commands(node.name);
    const key = `${kind} ${node.name}`;
    const needed = candidates.find(candidate => !candidate.extension.hidden);
    if (needed) {
      const name = needed.extension.name;
      unit.reportOnce(
        key,
        node.nameSpan,
        `Unknown ${kind} ${word}: it needs 'require "${name}";' at the top of the script`,
      );
    } else if (other.length > 0 && kind === 'command')
      unit.reportOnce(key, node.nameSpan, `Use test ${word} within a condition such as 'if' instead of as a command`);
    else if (other.length > 0)
      unit.reportOnce(key, node.nameSpan, `Use command ${word} on its own instead of as a test`);
    else {
      const near = nearest(node.name, kind === 'command' ? unit.registry.commandNames : unit.registry.testNames);
      const hint = near === undefined ? '' : `, did you mean ${quote(near)}?`;
      unit.reportOnce(key, node.nameSpan, `Unknown ${kind} ${word}${hint}`);
    }
    return undefined;
  }

  #place(scope: ScopedWord, definition: CommandDefinition, top: boolean): void {
    const name = quote(scope.name);
    if (!definition.prologue) this.#prologue = false;
    else if (!top || !this.#prologue)
      scope.error(`Command ${name} must stand at the top of the script, before every other command`);
    if (definition.follows && !definition.follows.includes(scope.previous?.name ?? ''))
      scope.error(`Command ${name} must follow directly after ${definition.follows.map(quote).join(' or ')}`);
    const inside = definition.inside;
    if (inside && !scope.parents.some(parent => inside.includes(parent.name)))
      scope.error(`Command ${name} must stand within the block of ${inside.map(quote).join(' or ')}`);
  }

  #tests(scope: ScopedWord, kind: 'command' | 'test'): readonly CompiledTest[] {
    const { node, definition, unit } = scope;
    const what = `${kind === 'command' ? 'Command' : 'Test'} ${quote(scope.name)}`;
    const wanted = definition.tests ?? 'none';
    if (wanted === 'none' && node.tests.length > 0) return this.#unwanted(scope, what);
    if (wanted !== 'none' && node.tests.length === 0)
      scope.error(`${what} needs ${wanted === 'one' ? 'a test' : 'a list of tests in parentheses'}`);
    if (wanted === 'one' && node.testList)
      scope.error(`${what} takes one test without parentheses, use 'allof' or 'anyof' for several`);
    if (wanted === 'list' && node.tests.length > 0 && !node.testList)
      scope.error(`${what} needs its tests in parentheses`);
    const parents = kind === 'command' ? [scope, ...scope.parents] : scope.parents;
    const out: (CompiledTest | undefined)[] = [];
    const settles = 'settles' in definition ? definition.settles : undefined;
    let settled = false;
    for (const test of node.tests) {
      const compiled = settled ? unit.muted(() => this.#test(test, parents)) : this.#test(test, parents);
      out.push(compiled);
      if (settles !== undefined && compiled && this.#constants.get(compiled) === settles) settled = true;
    }
    scope.tests = out;
    scope.constants = out.map(test => test && this.#constants.get(test));
    return out.filter(test => test !== undefined);
  }

  /** A test where none belongs is most often a forgotten semicolon or colon; what is in it is another matter. */
  #unwanted(scope: ScopedWord, what: string): readonly CompiledTest[] {
    const test = scope.node.tests[0] as TestNode;
    const tag = quote(`:${test.name}`);
    const hint = takesTag(scope, test.name)
      ? `, is the colon of ${tag} missing?`
      : test.nameSpan.line > scope.node.nameSpan.line
        ? `, is the semicolon before ${quote(test.name)} missing?`
        : '';
    scope.error(`${what} takes no tests${hint}`);
    return [];
  }

  #blockForm(scope: ScopedWord, definition: CommandDefinition, node: CommandNode): void {
    if (definition.block && !node.block)
      scope.error(`Command ${quote(scope.name)} needs a block in braces instead of ';'`);
    if (!definition.block && node.block)
      this.#unit.report(node.block.span, `Command ${quote(scope.name)} takes no block, it must end with ';'`);
  }

  #block(scope: ScopedWord, definition: CommandDefinition, node: CommandNode): readonly CompiledCommand[] | undefined {
    const block = node.block;
    if (!block) return undefined;
    const compile = () => this.list(block.commands, [scope, ...scope.parents], block);
    return definition.reachable?.(scope) === false ? this.#unit.muted(compile) : compile();
  }
}
