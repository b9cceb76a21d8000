// Scripts compiled once, kept by their content. Four languages: users' scripts and those of the gateway, which may also run
// programs; each for delivery and for what IMAP commands start.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { RuleOptions } from '../plugin/contract.ts';
import { compile } from '../sieve/check-script.ts';
import type { Compiled } from '../sieve/compile.ts';
import type { Program, Registry } from '../sieve/contract.ts';
import { type Diagnostic, formatDiagnostics } from '../sieve/diagnostic.ts';
import { ruleRegistry } from './sieve-scripts.ts';

export interface ScriptKind {
  /** One of the gateway's own. */
  readonly own: boolean;
  readonly imap: boolean;
}

/** A script of the gateway, for the users of one domain or for all. */
export interface GlobalScript {
  readonly program: Program;
  readonly domain: string | undefined;
}

export const errorsOf = (diagnostics: readonly Diagnostic[]): readonly Diagnostic[] =>
  diagnostics.filter(({ severity }) => severity === 'error');

/** Errors of a script file, `file:line:column: error: …`; `program` where there is none. */
async function readScript(
  file: string,
  registry: Registry,
): Promise<{ readonly errors: readonly string[]; readonly program?: Program }> {
  let source: Buffer;
  try {
    source = await readFile(file);
  } catch (error) {
    return { errors: [`Cannot read '${file}': ${(error as Error).message}`] };
  }
  const compiled = compile(source, { registry, name: file });
  if (compiled.ok) return { errors: [], program: compiled.program };
  const errors = errorsOf(compiled.diagnostics);
  return { errors: errors.map(({ script: _, ...error }) => `${file}:${formatDiagnostics([error])}`) };
}

/** For `config check`: a script of the gateway. */
export const checkRuleFile = async (
  file: string,
  options: { readonly imap?: boolean; readonly programs?: boolean } = {},
): Promise<readonly string[]> => (await readScript(file, ruleRegistry(options))).errors;

const maxPrograms = 2000;

export class CompiledScripts {
  readonly #registries: ReadonlyMap<string, Registry>;
  readonly #compiled = new Map<string, Compiled>();

  /** `programs`: the gateway's scripts may run programs. */
  constructor(programs: boolean) {
    const kinds = [true, false].flatMap(own => [true, false].map(imap => ({ own, imap })));
    this.#registries = new Map(
      kinds.map(kind => [keyOf(kind), ruleRegistry({ imap: kind.imap, programs: kind.own && programs })]),
    );
  }

  registry(kind: ScriptKind): Registry {
    return this.#registries.get(keyOf(kind)) as Registry;
  }

  /** `hash` where the caller has it. */
  compile(content: Buffer, name: string, kind: ScriptKind, hash = hashOf(content)): Compiled {
    const key = `${keyOf(kind)} ${name} ${hash}`;
    const known = this.#compiled.get(key);
    if (known) return known;
    const compiled = compile(content, { registry: this.registry(kind), name });
    if (this.#compiled.size >= maxPrograms) this.#compiled.clear();
    this.#compiled.set(key, compiled);
    return compiled;
  }

  /** Rejects with all errors of all files. */
  async load(files: RuleOptions['before'], kind: ScriptKind): Promise<readonly GlobalScript[]> {
    const read = await Promise.all(files.map(({ file }) => readScript(file, this.registry(kind))));
    const errors = read.flatMap(each => each.errors);
    if (errors.length > 0) throw new Error(`Scripts do not compile: ${errors.join('; ')}`);
    return read.flatMap(({ program }, index) => (program ? [{ program, domain: files[index]?.domain }] : []));
  }
}

const keyOf = ({ own, imap }: ScriptKind): string => `${own ? 'own' : 'user'}${imap ? '-imap' : ''}`;
const hashOf = (content: Buffer): string => createHash('sha256').update(content).digest('base64url');
