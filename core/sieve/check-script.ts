// What `postern sieve check` and `sieve test` show: diagnostics of a script, and what it would do with a message.

import type { Compiled } from './compile.ts';
import { compileScript } from './compile.ts';
import type { Registry, SieveHost } from './contract.ts';
import type { Diagnostic } from './diagnostic.ts';
import type { CompileLimits } from './limits.ts';
import type { SieveEnvelope } from './ports.ts';
import type { EvaluationStep, RunStatus } from './result.ts';
import { describeActions } from './result.ts';
import { run } from './run.ts';
import { standardRegistry } from './standard.ts';

export interface ScriptOptions {
  readonly registry?: Registry;
  readonly limits?: Partial<CompileLimits>;
  readonly name?: string;
}

/** Compiles a script against the standard extensions, or those of `options.registry`. Never throws. */
export function compile(source: string | Uint8Array, options: ScriptOptions = {}): Compiled {
  return compileScript(source, { ...options, registry: options.registry ?? standardRegistry() });
}

/** All errors and warnings of a script, in its order; empty where it is fine. */
export function checkScript(source: string | Uint8Array, options: ScriptOptions = {}): readonly Diagnostic[] {
  return compile(source, options).diagnostics;
}

export interface ScriptTest {
  readonly status: RunStatus | 'invalid';
  /** In the order in which they would be carried out. */
  readonly actions: ReturnType<typeof describeActions>;
  readonly diagnostics: readonly Diagnostic[];
  readonly trace: readonly EvaluationStep[];
}

/** What a script would do with a message. Nothing is carried out; `host` gives the ports that the script may look at. */
export async function testScript(
  source: string | Uint8Array,
  message: SieveHost['message'],
  envelope: SieveEnvelope,
  host: Omit<SieveHost, 'message' | 'envelope'>,
  options: ScriptOptions = {},
): Promise<ScriptTest> {
  const compiled = compile(source, options);
  if (!compiled.ok) return { status: 'invalid', actions: [], diagnostics: compiled.diagnostics, trace: [] };
  const result = await run(compiled.program, { ...host, message, envelope }, { trace: true });
  return {
    status: result.status,
    actions: describeActions(result.actions),
    diagnostics: [...compiled.diagnostics, ...result.diagnostics],
    trace: result.trace,
  };
}
