// `postern/sieve`: the rules engine for hosts and for extensions from outside. Compile a script once, run it per message,
// carry the result out:
//
//   const registry = standardRegistry([myExtension])
//   const compiled = compile(source, { registry })
//   if (compiled.ok) await execute(await run(compiled.program, host), host)

export type { HeaderAddress } from './addresses.ts';
export { addressKey, parseAddressList, parseOneAddress } from './addresses.ts';
export type * from './ast.ts';
export type { ScriptOptions, ScriptTest } from './check-script.ts';
export { checkScript, compile, testScript } from './check-script.ts';
export type { Compiled, CompileOptions } from './compile.ts';
export type * from './contract.ts';
export type { Diagnostic, Position } from './diagnostic.ts';
export { formatDiagnostics } from './diagnostic.ts';
export { BudgetError, ScriptError } from './errors.ts';
export type { ExecutionResult, Outcome } from './execute.ts';
export { execute } from './execute.ts';
export { defineExtension } from './extension.ts';
export type { CompileLimits } from './limits.ts';
export { defaultCompileLimits } from './limits.ts';
export { parse } from './parser.ts';
export type * from './ports.ts';
export { HostError } from './ports.ts';
export { createRegistry } from './registry.ts';
export type * from './result.ts';
export { describeActions } from './result.ts';
export type { RunOptions } from './run.ts';
export { run } from './run.ts';
export type { SettingsInput, SieveSettings, TestSource } from './settings.ts';
export { defaultSettings } from './settings.ts';
export { standardExtensions, standardRegistry } from './standard.ts';
