// The `chain` list of the configuration as entries that can be loaded: each plugin found, and isolated where it shall be.
import type { Logger } from 'pino';
import { readChain } from '../config/chain-entry.ts';
import type { ConfigProblem, LoadedConfig } from '../config/load.ts';
import { nearest } from '../config/nearest.ts';
import type { Clock } from '../lib/clock.ts';
import { isolatePlugin } from '../pipeline/isolation/isolate.ts';
import type { ChainEntry } from '../pipeline/loaded-entry.ts';
import { type LocatedPlugin, loadPlugin, locatePlugin } from '../pipeline/resolve-plugin.ts';
import type { Plugin } from '../plugin/contract.ts';
import { fetchProblems } from './fetch-accounts.ts';

export interface PluginTable {
  readonly plugins: Readonly<Record<string, Plugin<unknown>>>;
  /** Module of a built-in one, for a process of its own. */
  moduleOf(name: string): string;
}

export interface ChainEntries {
  readonly entries: readonly ChainEntry[];
  readonly problems: readonly ConfigProblem[];
}

export async function chainEntries(
  config: LoadedConfig,
  table: PluginTable,
  clock: Clock,
  log: Logger,
): Promise<ChainEntries> {
  const read = readChain(config.options.chain);
  const problems = [
    ...read.problems.map(problem => config.locate(problem.path, problem.message)),
    ...fetchProblems(config),
  ];
  const entries: ChainEntry[] = [];
  for (const { plugin: spec, isolate, ...entry } of read.entries) {
    try {
      const located = await locatePlugin(spec, { builtIn: table.plugins, folder: config.folder });
      const source = located.kind === 'built-in' ? spec : `${located.url} ${located.revision}`;
      if (!isolate) {
        entries.push({ ...entry, source, plugin: await loadPlugin(located) });
        continue;
      }
      const module = moduleUrl(located, table);
      const isolated = { ...entry, source: { spec, module }, terms: isolate };
      const known = located.kind === 'built-in' ? located.plugin : undefined;
      const { plugin, problems: invalid } = await isolatePlugin(isolated, known, clock, log);
      for (const { path, message } of invalid) problems.push(config.locate([...entry.path, ...path], message));
      entries.push({ ...entry, plugin, source: `${source} ${isolate.memoryBytes} ${entry.timeoutMs}` });
    } catch (error) {
      const near = nearest(spec, Object.keys(table.plugins));
      problems.push(config.locate(entry.path, `${(error as Error).message}${near ? `, did you mean '${near}'?` : ''}`));
    }
  }
  return { entries, problems };
}

const moduleUrl = (located: LocatedPlugin, table: PluginTable): string =>
  located.kind === 'built-in' ? table.moduleOf(located.spec) : located.url;
