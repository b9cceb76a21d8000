// postern status | reload | version

import type { FetchResult } from '../compose/intake.ts';
import { dataFolder } from '../compose/stores.ts';
import { loadConfig } from '../config/load.ts';
import { askGateway } from '../control/client.ts';
import { controlSocketPath } from '../control/protocol.ts';
import type { GatewayStatus } from '../gateway.ts';
import { type CliContext, type ExitCode, exitCodes, print } from './context.ts';
import { packageVersion } from './package-version.ts';
import { formatTable } from './table.ts';

function controlSocket(context: CliContext): string {
  return controlSocketPath(dataFolder(loadConfig(context.configFile, context.workingFolder)));
}

export async function status(context: CliContext): Promise<ExitCode> {
  const value = (await askGateway(controlSocket(context), { command: 'status' })) as GatewayStatus;
  print(context, value, () => {
    const listeners = formatTable(
      ['LISTENER', 'ROLE', 'ADDRESS', 'TLS', 'SESSIONS'],
      value.listeners.map(listener => [
        listener.name,
        listener.role,
        `${listener.address}:${listener.port}`,
        listener.tls,
        String(listener.sessions),
      ]),
    );
    const plugins = value.plugins.map(plugin => `  ${plugin.name}: ${JSON.stringify(plugin.values)}`);
    return [
      `Postern ${value.version} on ${value.hostname}, process ${value.pid}, up ${Math.round(value.uptimeMs / 1000)} s, ${Math.round(value.memoryBytes / 1_048_576)} MiB`,
      `Configuration ${value.configFile}, certificate ${value.certificate}`,
      `Queue: ${value.queue.pending} recipients waiting, ${value.queue.held} held`,
      `Quarantine: ${value.quarantine.messages} messages, ${Math.round(value.quarantine.bytes / 1_048_576)} MiB`,
      '',
      listeners,
      ...intakeLines(value.intake),
      ...(plugins.length > 0 ? ['', 'Plugins:', ...plugins] : []),
    ].join('\n');
  });
  return exitCodes.ok;
}

const ago = (ms: number): string => `${Math.round((Date.now() - ms) / 1000)} s ago`;

function intakeLines({ maildrop, fetch }: GatewayStatus['intake']): readonly string[] {
  const lines = maildrop.bad > 0 ? [`Maildrop: ${maildrop.bad} files set aside as *.bad in ${maildrop.folder}`] : [];
  if (fetch.length === 0) return lines;
  const rows = fetch.map(account => [
    account.name,
    account.host,
    String(account.taken),
    String(account.refused),
    account.lastOkAt === undefined ? '-' : ago(account.lastOkAt),
    account.error ?? '',
  ]);
  return [...lines, '', formatTable(['FETCH', 'HOST', 'TAKEN', 'REFUSED', 'LAST', 'ERROR'], rows)];
}

export async function fetchNow(context: CliContext, name?: string): Promise<ExitCode> {
  const request = { command: 'fetch', ...(name === undefined ? {} : { argument: name }) } as const;
  const results = (await askGateway(controlSocket(context), request, 30 * 60_000)) as readonly FetchResult[];
  print(context, results, () =>
    results
      .map(each => `${each.name}: ${each.error ?? `${each.taken} messages taken, ${each.refused} refused`}`)
      .join('\n'),
  );
  return results.some(each => each.error !== undefined) ? exitCodes.negative : exitCodes.ok;
}

export async function reload(context: CliContext): Promise<ExitCode> {
  const value = await askGateway(controlSocket(context), { command: 'reload' });
  print(context, value, () => 'Reloaded.');
  return exitCodes.ok;
}

export function version(context: CliContext): ExitCode {
  const versions = { postern: packageVersion(), node: process.version };
  print(context, versions, () => `Postern ${versions.postern}, Node.js ${versions.node}`);
  return exitCodes.ok;
}
