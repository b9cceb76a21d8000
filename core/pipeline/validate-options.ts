// Options of one entry by its plugin's schema.
import { describeIssues, knownKeys } from '../config/load.ts';
import { z } from '../config/schema.ts';
import type { Plugin } from '../plugin/contract.ts';

export interface OptionProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** `options` as they stand in the configuration. */
export function validateOptions(
  plugin: Pick<Plugin<unknown>, 'options'>,
  options: unknown,
): { readonly options: unknown } | { readonly problems: readonly OptionProblem[] } {
  const schema = plugin.options;
  // An option that nobody reads is a typing error, whatever the plugin's author thought of.
  const strict = schema instanceof z.ZodObject ? schema.strict() : schema;
  const parsed = strict.safeParse(options ?? {});
  if (parsed.success) return { options: parsed.data };
  const issues = describeIssues(parsed.error.issues, knownKeys(strict));
  return { problems: issues.map(({ path, message }) => ({ path: path as (string | number)[], message })) };
}
