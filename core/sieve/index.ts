// `postern/sieve`: the rules engine for hosts and for extensions from outside. Compile a script once, run it per message,
// carry the result out:
//
//   const registry = standardRegistry([myExtension])
//   const compiled = compile(source, { registry })
//   if (compiled.ok) await execute(await run(compiled.program, host), host)

export type { HeaderAddress } from './addresses.ts';
export { addressKey, parseAddressList, parseOneAddress } from './addresses.ts';
export type * from './ast.ts';
export type { Call, Deed } from './call.ts';
export type { ScriptOptions, ScriptTest } from './check-script.ts';
export { checkScript, compile, testScript } from './check-script.ts';
export type { Compiled, CompileOptions } from './compile.ts';
export type { Diagnostic, Position } from './diagnostic.ts';
export { formatDiagnostics } from './diagnostic.ts';
export { BudgetError, ScriptError } from './errors.ts';
export type { Execution, ExecutionResult, Outcome } from './execute.ts';
export { execute } from './execute.ts';
export type * from './extension.ts';
export { defineExtension } from './extension.ts';
export type * from './host.ts';
export { HostError } from './host.ts';
export type { CompileLimits } from './limits.ts';
export { defaultCompileLimits } from './limits.ts';
export { parse } from './parser.ts';
export type { Program, Template } from './program.ts';
export type { Registry, RegistryOptions } from './registry.ts';
export { createRegistry } from './registry.ts';
export type { Entry, EvaluationStep, MutableEntry, RunStatus, SieveResult } from './result.ts';
export { describeActions } from './result.ts';
export type { Run, RunOptions } from './run.ts';
export { run } from './run.ts';
export type { Unit, WordScope } from './scope.ts';
export type { SettingsInput, SieveSettings, TestSource } from './settings.ts';
export { defaultSettings } from './settings.ts';
export { standardExtensions, standardRegistry } from './standard.ts';
