// postern sieve check | test | put | get | list | activate | delete | apply
import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { verdictSources } from '../compose/sieve-rule-set.ts';
import { openScripts, ruleRegistry } from '../compose/sieve-scripts.ts';
import { dataFolder, openAccountsOn } from '../compose/stores.ts';
import { type LoadedConfig, loadConfig } from '../config/load.ts';
import type { Clock } from '../lib/clock.ts';
import { type Metadata, openMetadata } from '../mailstore/metadata.ts';
import { type ScriptTest, testScript } from '../sieve/check-script.ts';
import type { SieveHost } from '../sieve/contract.ts';
import { type Diagnostic, formatDiagnostics } from '../sieve/diagnostic.ts';
import { compile } from '../sieve/index.ts';
import { ScriptError, type SieveScripts } from '../sieve/script-store.ts';
import { openSqliteState } from '../state/sqlite.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { formatTable } from './table.ts';
import { addressIn } from './user-command.ts';

async function readInput(context: CliContext, file: string): Promise<Buffer> {
  if (file === '-') {
    const chunks: Buffer[] = [];
    for await (const chunk of context.stdin) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks);
  }
  try {
    return await readFile(path.resolve(context.workingFolder, file));
  } catch (error) {
    throw new UsageError(`Cannot read '${file}': ${(error as Error).message}`);
  }
}

const hasErrors = (diagnostics: readonly Diagnostic[]): boolean =>
  diagnostics.some(({ severity }) => severity === 'error');

const shown = (file: string, diagnostics: readonly Diagnostic[]): string =>
  formatDiagnostics(diagnostics)
    .split('\n')
    .filter(line => line !== '')
    .map(line => `${file}:${line}`)
    .join('\n');

export interface SieveLanguage {
  /** A script of the gateway: it may run programs. */
  readonly global?: boolean;
}

export async function sieveCheck(context: CliContext, file: string, options: SieveLanguage): Promise<ExitCode> {
  const registry = ruleRegistry({ imap: true, programs: options.global === true });
  const { diagnostics } = compile(await readInput(context, file), { registry });
  const valid = !hasErrors(diagnostics);
  print(context, { valid, diagnostics }, () =>
    [shown(file, diagnostics), valid ? `${file} is valid.` : ''].filter(text => text !== '').join('\n'),
  );
  return valid ? exitCodes.ok : exitCodes.negative;
}

export interface SieveTestOptions extends SieveLanguage {
  readonly from?: string;
  readonly to?: string;
  readonly trace?: boolean;
}

const refuseToAct = async (): Promise<never> => {
  throw new Error('A test run carries nothing out');
};

/** Looks at nothing outside: every mailbox exists, nothing is remembered, nothing is sent. */
export function dryHost(clock: Clock): Omit<SieveHost, 'message' | 'envelope'> {
  return {
    clock,
    mailboxes: { exists: async () => true, store: refuseToAct },
    outgoing: { send: refuseToAct },
    tracking: {
      seen: async () => false,
      remember: async () => undefined,
      claim: async () => true,
      forget: async () => undefined,
    },
    settings: verdictSources('X-Spam-Status', 'X-Virus-Status'),
  };
}

const actionText = ({ action, arguments: given }: ScriptTest['actions'][number]): string =>
  [action, ...Object.entries(given).map(([name, value]) => `${name}=${JSON.stringify(value)}`)].join(' ');

function stepText(step: ScriptTest['trace'][number]): string {
  const result = step.result === undefined ? '' : step.result ? ' = true' : ' = false';
  const compared = [
    ...(step.values ? [`values ${JSON.stringify(step.values)}`] : []),
    ...(step.keys ? [`keys ${JSON.stringify(step.keys)}`] : []),
  ].join(', ');
  return `${String(step.line).padStart(5)}:${step.column}  ${'  '.repeat(step.depth)}${step.name}${result}${compared === '' ? '' : `  (${compared})`}`;
}

export async function sieveTest(
  context: CliContext,
  file: string,
  messageFile: string,
  options: SieveTestOptions,
): Promise<ExitCode> {
  const script = await readInput(context, file);
  const message = await readInput(context, messageFile);
  const envelope = { from: options.from ?? 'sender@example.org', to: options.to ?? 'recipient@example.org' };
  const registry = ruleRegistry({ programs: options.global === true });
  const test = await testScript(script, message, envelope, dryHost(context.clock), { registry });
  const { status, actions, diagnostics, trace } = test;
  // The JSON of a script that fails must not be taken for a result.
  if (diagnostics.length > 0 && context.json) context.stderr.write(`${shown(file, diagnostics)}\n`);
  print(context, options.trace ? { status, actions, diagnostics, trace } : actions, () =>
    [
      ...(options.trace ? trace.map(stepText) : []),
      shown(file, diagnostics),
      ...actions.map(actionText),
      status === 'ok' ? '' : `Result: ${status}`,
    ]
      .filter(line => line !== '')
      .join('\n'),
  );
  return status === 'ok' ? exitCodes.ok : exitCodes.negative;
}

export interface OpenedScripts {
  readonly config: LoadedConfig;
  readonly scripts: SieveScripts;
  readonly metadata: Metadata;
  readonly user: string;
}

function ownerIn(config: LoadedConfig, name: string): string {
  const address = name.toLowerCase();
  const domain = address.slice(address.lastIndexOf('@') + 1);
  const relayed = config.options.domains.some(entry => entry.kind === 'relay' && entry.name === domain);
  return relayed && address.lastIndexOf('@') > 0 ? address : addressIn(config, name);
}

/** Scripts of a user that exists. A script that is refused is for the person at the terminal. */
export async function withScripts(
  context: CliContext,
  name: string,
  work: (opened: OpenedScripts) => Promise<ExitCode>,
): Promise<ExitCode> {
  const config = loadConfig(context.configFile, context.workingFolder);
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = await openSqliteState(path.join(folder, config.options.stores.state));
  try {
    const { users, close } = await openAccountsOn(state, context.clock, context.log);
    try {
      const user = ownerIn(config, name);
      const elsewhere = config.options.domains.some(
        ({ kind, name: domain }) => kind === 'relay' && user.endsWith(`@${domain}`),
      );
      // The next hop knows who its users are.
      if (!elsewhere && (await users.find(user)).kind !== 'found')
        throw new UsageError(`No user '${user}'`, exitCodes.negative);
      const scripts = await openScripts(state, context.clock);
      return await work({ config, user, scripts, metadata: await openMetadata(state, context.clock) });
    } finally {
      await close();
    }
  } catch (error) {
    if (!(error instanceof ScriptError)) throw error;
    throw new UsageError([error.message, formatDiagnostics(error.diagnostics)].join('\n').trim(), exitCodes.negative);
  } finally {
    await state.close();
  }
}

export interface SievePutOptions {
  readonly name?: string;
  readonly activate?: boolean;
}

export const sievePut = (
  context: CliContext,
  name: string,
  file: string,
  options: SievePutOptions,
): Promise<ExitCode> =>
  withScripts(context, name, async ({ scripts, user }) => {
    const script = options.name ?? (file === '-' ? 'main' : path.basename(file).replace(/\.(?:sieve|siv)$/, ''));
    const warnings = await scripts.put(user, script, await readInput(context, file));
    if (options.activate) await scripts.activate(user, script);
    print(context, { user, script, active: options.activate === true, warnings }, () =>
      [shown(file, warnings), `Stored "${script}" of ${user}${options.activate ? ', active' : ''}`]
        .filter(text => text !== '')
        .join('\n'),
    );
    return exitCodes.ok;
  });

export const sieveGet = (context: CliContext, name: string, script: string): Promise<ExitCode> =>
  withScripts(context, name, async ({ scripts, user }) => {
    const content = await scripts.get(user, script);
    print(context, { user, script, content: content.toString() }, () => content.toString());
    return exitCodes.ok;
  });

export const sieveList = (context: CliContext, name: string): Promise<ExitCode> =>
  withScripts(context, name, async ({ scripts, user }) => {
    const list = await scripts.list(user);
    print(context, list, () =>
      list.length === 0
        ? `${user} has no scripts.`
        : formatTable(
            ['SCRIPT', 'STATE', 'BYTES', 'CHANGED'],
            list.map(each => [
              each.name,
              each.active ? 'active' : '-',
              String(each.size),
              new Date(each.changedAt).toISOString().slice(0, 16),
            ]),
          ),
    );
    return exitCodes.ok;
  });

export const sieveActivate = (
  context: CliContext,
  name: string,
  script: string | undefined,
  options: { readonly none?: boolean },
): Promise<ExitCode> =>
  withScripts(context, name, async ({ scripts, user }) => {
    if ((script === undefined) === (options.none !== true))
      throw new UsageError(`Name the script that shall be active, or give '--none'`);
    await scripts.activate(user, script);
    print(context, { user, active: script ?? null }, () =>
      script === undefined ? `No script of ${user} is active` : `"${script}" of ${user} is active`,
    );
    return exitCodes.ok;
  });

export const sieveDelete = (context: CliContext, name: string, script: string): Promise<ExitCode> =>
  withScripts(context, name, async ({ scripts, user }) => {
    await scripts.delete(user, script);
    print(context, { user, script }, () => `Deleted "${script}" of ${user}`);
    return exitCodes.ok;
  });
