// An entry of the `chain` list, taken apart: which plugin, under what terms, with which options of its own.
import type { GatewayOptions } from './gateway-options.ts';
import { byteSize, duration, z } from './schema.ts';

/** What an isolated plugin may use where the entry does not say. */
const defaultMemory = '256MiB';

/** Keys of an entry that belong to the gateway; all others are the plugin's. */
export const entryTerms = z.object({
  plugin: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Where the plugin comes from when its name is not one of the built-in ones: a path (`./my-filter.js`) or an npm package name.',
    ),
  timeout: duration().prefault('30s').describe('Deadline of each hook of this entry.'),
  onError: z
    .enum(['defer', 'continue'])
    .default('defer')
    .describe('What a throw, a hang or a dead engine means: 451 to the client, or go on without this plugin.'),
  mode: z.enum(['enforce', 'observe']).default('enforce').describe('`observe`: runs and is recorded, decides nothing.'),
  isolate: z
    .union([
      z.boolean(),
      z.strictObject({
        memory: byteSize()
          .prefault(defaultMemory)
          .describe('Most memory of the plugin; beyond it, it is ended and started anew.'),
      }),
    ])
    .default(false)
    .describe(
      'Run the plugin in a process of its own, within `memory` and its deadline: whatever it does then costs its own verdict (`onError`) only. `true` or the limits.',
    ),
});

export interface ChainEntryConfig {
  readonly name: string;
  /** Built-in name, path or package. */
  readonly plugin: string;
  readonly timeoutMs: number;
  readonly onError: 'defer' | 'continue';
  readonly mode: 'enforce' | 'observe';
  readonly isolate?: { readonly memoryBytes: number };
  readonly options: Readonly<Record<string, unknown>>;
  /** Path of this entry's options in the configuration, for messages. */
  readonly path: readonly (string | number)[];
}

export interface EntryProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

function isolation(isolate: z.output<typeof entryTerms>['isolate']): Pick<ChainEntryConfig, 'isolate'> {
  if (isolate === false) return {};
  return { isolate: { memoryBytes: isolate === true ? byteSize().parse(defaultMemory) : isolate.memory } };
}

/** Splits every entry; problems are collected, not thrown. */
export function readChain(chain: GatewayOptions['chain']): {
  readonly entries: readonly ChainEntryConfig[];
  readonly problems: readonly EntryProblem[];
} {
  const entries: ChainEntryConfig[] = [];
  const problems: EntryProblem[] = [];
  chain.forEach((entry, index) => {
    const names = typeof entry === 'string' ? [entry] : Object.keys(entry);
    const name = names[0];
    if (name === undefined || names.length > 1) {
      problems.push({
        path: ['chain', index],
        message: `A chain entry has one name, found ${names.length === 0 ? 'none' : names.map(n => `'${n}'`).join(', ')}: indent its options below it`,
      });
      return;
    }
    const given = typeof entry === 'string' ? {} : (entry[name] ?? {});
    const termKeys = Object.keys(entryTerms.shape);
    const terms = entryTerms.safeParse(
      Object.fromEntries(Object.entries(given).filter(([key]) => termKeys.includes(key))),
    );
    if (!terms.success) {
      for (const issue of terms.error.issues)
        problems.push({ path: ['chain', index, name, ...(issue.path as (string | number)[])], message: issue.message });
      return;
    }
    entries.push({
      name,
      plugin: terms.data.plugin ?? name,
      timeoutMs: terms.data.timeout,
      onError: terms.data.onError,
      mode: terms.data.mode,
      ...isolation(terms.data.isolate),
      options: Object.fromEntries(Object.entries(given).filter(([key]) => !termKeys.includes(key))),
      path: typeof entry === 'string' ? ['chain', index] : ['chain', index, name],
    });
  });
  return { entries, problems };
}
