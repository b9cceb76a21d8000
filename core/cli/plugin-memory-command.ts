// postern PLUGIN list | release: what an entry of the chain remembers, with or without a running gateway. A running one
// sees changes at once, for it asks the same store.

import { plugins } from '../../plugins/index.ts';
import { memoryOwner } from '../compose/plugin-host.ts';
import { openMemoryAlone } from '../compose/stores.ts';
import { readChain } from '../config/chain-entry.ts';
import { loadConfig } from '../config/load.ts';
import type { Memory, PluginAdmin } from '../plugin/contract.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { formatTable } from './table.ts';

export interface EntryOption {
  /** Name of the chain entry, where the plugin has several. */
  readonly entry?: string;
}

async function withMemory<T>(
  context: CliContext,
  pluginName: string,
  { entry }: EntryOption,
  work: (admin: PluginAdmin, memory: Memory) => Promise<T>,
): Promise<T> {
  const admin = plugins[pluginName]?.admin;
  if (!admin) throw new UsageError(`Plugin '${pluginName}' remembers nothing that can be listed`);
  const config = loadConfig(context.configFile, context.workingFolder);
  const names = readChain(config.options.chain).entries.filter(each => each.plugin === pluginName);
  const name = entry ?? names[0]?.name;
  if (name === undefined || !names.some(each => each.name === name))
    throw new UsageError(
      entry === undefined
        ? `The chain has no '${pluginName}'`
        : `The chain has no entry '${entry}' of the plugin '${pluginName}'`,
      exitCodes.negative,
    );
  const opened = await openMemoryAlone(config, context.clock);
  try {
    return await work(admin, opened.memory.of(memoryOwner(name)));
  } finally {
    await opened.close();
  }
}

export function memoryList(pluginName: string) {
  return (context: CliContext, options: EntryOption & { readonly limit: number }): Promise<ExitCode> =>
    withMemory(context, pluginName, options, async (admin, memory) => {
      const rows = await admin.list(memory, context.clock.now(), options.limit);
      print(context, rows, () => {
        const [first] = rows;
        if (!first) return 'Nothing is remembered.';
        const columns = Object.keys(first);
        return formatTable(
          columns.map(column => column.toUpperCase()),
          rows.map(row => columns.map(column => String(row[column] ?? ''))),
        );
      });
      return exitCodes.ok;
    });
}

export function memoryRelease(pluginName: string) {
  return (context: CliContext, what: string, options: EntryOption): Promise<ExitCode> =>
    withMemory(context, pluginName, options, async (admin, memory) => {
      const released = await admin.release(memory, context.clock.now(), what);
      print(context, { released }, () => `${released} released`);
      return released > 0 ? exitCodes.ok : exitCodes.negative;
    });
}
