// A plugin in its module, which exports `plugin`, or exactly one thing that is a plugin.
import type { Plugin } from '../plugin/contract.ts';

/** @throws Error where there is none, or more than one. */
export function pluginOf(spec: string, module: Readonly<Record<string, unknown>>): Plugin<unknown> {
  const named = module['plugin'] ?? module['default'];
  if (isPlugin(named)) return named;
  const found = Object.values(module).filter(isPlugin);
  const [only] = found;
  if (only && found.length === 1) return only;
  throw new Error(
    found.length === 0
      ? `Module '${spec}' exports no plugin: export const plugin = definePlugin({ … })`
      : `Module '${spec}' exports several plugins: name the wanted one 'plugin'`,
  );
}

function isPlugin(value: unknown): value is Plugin<unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const { name, options, setup } = value as Partial<Plugin<unknown>>;
  return typeof name === 'string' && typeof setup === 'function' && typeof options?.safeParse === 'function';
}
