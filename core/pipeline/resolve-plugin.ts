// Finds the plugin of a chain entry: in the table of built-in ones (handed in, for core names no plugin), by path, or by
// npm package name.

import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Plugin } from '../plugin/contract.ts';
import { importFresh, moduleRevision } from './fresh-import.ts';
import { pluginOf } from './plugin-module.ts';

export interface ResolveFrom {
  readonly builtIn: Readonly<Record<string, Plugin<unknown>>>;
  /** Folder of the configuration file: paths and packages are looked for from here. */
  readonly folder: string;
}

/** Where a plugin is, nothing of it loaded yet unless it is built in. */
export type LocatedPlugin =
  | { readonly kind: 'built-in'; readonly spec: string; readonly plugin: Plugin<unknown> }
  /** `revision` changes with the content of the module and of the files beside it that it imports. */
  | { readonly kind: 'module'; readonly spec: string; readonly url: string; readonly revision: string };

/** Path if it begins with `.`, `/` or a drive; otherwise a package name. */
const isPath = (spec: string): boolean => spec.startsWith('.') || path.isAbsolute(spec);

/** @throws Error with the reason, fit for a message about the entry in the configuration. */
export async function locatePlugin(spec: string, from: ResolveFrom): Promise<LocatedPlugin> {
  const known = Object.hasOwn(from.builtIn, spec) ? from.builtIn[spec] : undefined;
  if (known) return { kind: 'built-in', spec, plugin: known };
  const { href: url } = isPath(spec) ? pathToFileURL(path.resolve(from.folder, spec)) : packageUrl(spec, from);
  return { kind: 'module', spec, url, revision: await moduleRevision(url) };
}

/** @throws Error with the reason, as `locatePlugin` does. */
export async function loadPlugin(located: LocatedPlugin): Promise<Plugin<unknown>> {
  if (located.kind === 'built-in') return located.plugin;
  const { spec, url, revision } = located;
  let module: Readonly<Record<string, unknown>>;
  try {
    module = await importFresh(url, revision);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`Could not load plugin '${spec}': ${reason}`, { cause });
  }
  return pluginOf(spec, module);
}

export const resolvePlugin = async (spec: string, from: ResolveFrom): Promise<Plugin<unknown>> =>
  loadPlugin(await locatePlugin(spec, from));

/** From the configuration's folder upwards, then from this program's own packages. */
function packageUrl(spec: string, from: ResolveFrom): URL {
  try {
    return pathToFileURL(createRequire(path.join(from.folder, 'postern.yaml')).resolve(spec));
  } catch (first) {
    try {
      return new URL(import.meta.resolve(spec));
    } catch {
      const known = Object.keys(from.builtIn).join(', ');
      const message = `Found no plugin '${spec}': it is neither one of the built-in ones (${known}) nor an npm package`;
      throw new Error(message, { cause: first });
    }
  }
}
