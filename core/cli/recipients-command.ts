// postern recipients status | sync | check: who is known in domains whose mailboxes live elsewhere.
import type { RecipientRequest } from '../compose/recipient-control.ts';
import type { RecipientStatus } from '../compose/recipient-sources.ts';
import { dataFolder } from '../compose/stores.ts';
import { loadConfig } from '../config/load.ts';
import { askGateway } from '../control/client.ts';
import { controlSocketPath } from '../control/protocol.ts';
import type { SyncResult } from '../recipients/directory.ts';
import type { Verification } from '../recipients/source.ts';
import { type CliContext, type ExitCode, exitCodes, print } from './context.ts';
import { formatTable } from './table.ts';

/** A whole read of a large directory takes its time. */
const timeoutMs = 600_000;

const ask = (context: CliContext, request: RecipientRequest): Promise<unknown> =>
  askGateway(
    controlSocketPath(dataFolder(loadConfig(context.configFile, context.workingFolder))),
    { command: 'recipients', argument: JSON.stringify(request) },
    timeoutMs,
  );

const time = (ms: number): string => (ms === 0 ? 'never' : new Date(ms).toISOString().slice(0, 19).replace('T', ' '));

type Shown = Pick<RecipientStatus, 'backends'> & {
  readonly directories: readonly (RecipientStatus['directories'][number] & { readonly samples: readonly string[] })[];
};

export async function recipientsStatus(
  context: CliContext,
  options: { readonly samples: number; readonly domain?: string },
): Promise<ExitCode> {
  const { samples, domain } = options;
  const value = (await ask(context, { kind: 'status', samples, ...(domain === undefined ? {} : { domain }) })) as Shown;
  print(context, value, () => {
    const rows = value.directories.map(each => [
      each.name,
      String(each.addresses),
      time(each.syncedAt),
      time(each.fullAt),
      each.why ?? 'works',
    ]);
    const backends = Object.entries(value.backends).map(
      ([name, all]) => `  ${name}: ${all ? 'takes every address' : 'refuses unknown addresses'}`,
    );
    return [
      rows.length === 0
        ? 'No directories.'
        : formatTable(['DIRECTORY', 'ADDRESSES', 'READ', 'READ WHOLE', 'STATE'], rows),
      ...value.directories.flatMap(each => each.samples.map(sample => `  ${sample}`)),
      ...(backends.length > 0 ? ['', 'Next hops:', ...backends] : []),
    ].join('\n');
  });
  return exitCodes.ok;
}

export async function recipientsSync(
  context: CliContext,
  directory: string,
  options: { readonly acceptShrink?: boolean },
): Promise<ExitCode> {
  const request = { kind: 'sync', directory, shrink: options.acceptShrink ?? false } as const;
  const value = (await ask(context, request)) as SyncResult;
  print(context, value, () => `${directory}: ${value.addresses} addresses read in ${Math.round(value.ms)} ms`);
  return exitCodes.ok;
}

export async function recipientsCheck(context: CliContext, address: string): Promise<ExitCode> {
  const value = (await ask(context, { kind: 'check', address })) as
    | Verification
    | { readonly kind: 'unchecked'; readonly why: string };
  const words = { found: 'known', none: 'unknown', unavailable: 'cannot be told', unchecked: 'not checked' } as const;
  print(context, value, () => `${address}: ${words[value.kind]} (${value.why})`);
  return value.kind === 'found' || value.kind === 'unchecked' ? exitCodes.ok : exitCodes.negative;
}
