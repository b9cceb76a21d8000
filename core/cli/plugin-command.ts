// postern plugin new | check | list
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parse } from 'yaml';
import { readChain } from '../config/chain-entry.ts';
import { loadConfig } from '../config/load.ts';
import { builtInPlugins } from '../gateway.ts';
import { resolvePlugin } from '../pipeline/resolve-plugin.ts';
import type { Plugin } from '../plugin/contract.ts';
import { compliance } from '../testing/compliance.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { packageFolder } from './package-version.ts';
import { packageName, pluginSpec, type Scaffold, scaffoldFiles } from './plugin-scaffold.ts';
import { formatTable } from './table.ts';

/** Whether a plugin in that folder finds what it imports. */
function findsPostern(folder: string): boolean {
  try {
    createRequire(path.join(folder, 'index.js')).resolve('postern/plugin');
    return true;
  } catch {
    return false;
  }
}

export async function pluginNew(
  context: CliContext,
  name: string,
  options: { readonly npm?: boolean },
): Promise<ExitCode> {
  if (!/^[a-z][a-z0-9-]*$/.test(name))
    throw new UsageError(`'${name}' is no name of a plugin: lower case letters, digits and '-'`);
  const scaffold: Scaffold = { name, npm: options.npm === true };
  const folder = path.join(context.workingFolder, packageName(scaffold));
  try {
    await mkdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST')
      throw new UsageError(`'${folder}' exists already`, exitCodes.negative);
    throw new UsageError(`Cannot make '${folder}': ${(error as Error).message}`, exitCodes.internal);
  }
  const files = scaffoldFiles(scaffold);
  for (const [file, content] of Object.entries(files)) await writeFile(path.join(folder, file), content);
  const missing = findsPostern(folder) ? [] : ['', 'First, for what it imports:', `  npm install ${packageFolder()}`];
  print(context, { name, folder, files: Object.keys(files), spec: pluginSpec(scaffold) }, () =>
    [
      `Made ${folder}`,
      ...missing,
      '',
      'Next:',
      `  cd ${packageName(scaffold)} && npm install && npm test`,
      '',
      'Its README says how it gets into the chain.',
    ].join('\n'),
  );
  return exitCodes.ok;
}

const builtIn = (): Readonly<Record<string, Plugin<unknown>>> =>
  Object.fromEntries(builtInPlugins().map(plugin => [plugin.name, plugin as Plugin<unknown>]));

export interface PluginCheckOptions {
  readonly options?: string;
  readonly engineAbsent?: boolean;
}

function parseOptions(text: string | undefined): Readonly<Record<string, unknown>> {
  if (text === undefined) return {};
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new UsageError(`--options is no YAML: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new UsageError("--options takes keys and values, such as '{ words: [lottery] }'");
  return value as Readonly<Record<string, unknown>>;
}

export async function pluginCheck(context: CliContext, spec: string, given: PluginCheckOptions): Promise<ExitCode> {
  const options = parseOptions(given.options);
  const plugin = await resolvePlugin(spec, { builtIn: builtIn(), folder: context.workingFolder }).catch(
    (error: Error) => {
      throw new UsageError(error.message, exitCodes.negative);
    },
  );
  const checks: { readonly name: string; readonly fault?: string }[] = [];
  const setup = { configFolder: context.workingFolder };
  for (const { name, run } of compliance(plugin, {
    options,
    setup,
    ...(given.engineAbsent ? { engine: 'absent' } : {}),
  })) {
    const fault = await run().then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    checks.push({ name, ...(fault === undefined ? {} : { fault }) });
  }
  const passed = checks.every(({ fault }) => fault === undefined);
  print(context, { plugin: plugin.name, passed, checks }, () =>
    [
      `${plugin.name}: ${plugin.doc}`,
      ...checks.map(({ name, fault }) =>
        fault === undefined ? `  ok    ${name}` : `  FAIL  ${name}\n        ${fault.replaceAll('\n', '\n        ')}`,
      ),
    ].join('\n'),
  );
  return passed ? exitCodes.ok : exitCodes.negative;
}

/** The built-in ones, and those of the chain that come from elsewhere. */
export async function pluginList(context: CliContext): Promise<ExitCode> {
  const known = builtIn();
  const config = loadConfig(context.configFile, context.workingFolder);
  const { entries } = readChain(config.options.chain);
  const usedAs = (name: string): readonly string[] =>
    entries.filter(entry => entry.plugin === name).map(entry => entry.name);
  const foreign = entries.filter(entry => !Object.hasOwn(known, entry.plugin));
  const loaded = await Promise.all(
    foreign.map(async ({ name, plugin: from }) => {
      const doc = await resolvePlugin(from, { builtIn: known, folder: config.folder }).then(
        plugin => plugin.doc,
        (error: Error) => error.message,
      );
      return { name, from, chain: [name], doc };
    }),
  );
  const list = [
    ...Object.values(known).map(({ name, doc }) => ({ name, from: 'built in', chain: usedAs(name), doc })),
    ...loaded,
  ];
  print(context, list, () =>
    formatTable(
      ['plugin', 'from', 'in the chain', 'what it does'],
      list.map(({ name, from, chain, doc }) => [name, from, chain.length > 0 ? 'yes' : '-', doc]),
    ),
  );
  return exitCodes.ok;
}
