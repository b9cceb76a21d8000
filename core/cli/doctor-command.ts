// postern doctor: is everything in order, here and in the world around? Every check that fails says what to do.
// Exit codes: 0 in order (warnings included), 1 something failed, 78 the configuration is not valid.
import { hostname as machineName } from 'node:os';
import { dataFolder } from '../compose/stores.ts';
import { formatProblem, loadConfig } from '../config/load.ts';
import { askGateway } from '../control/client.ts';
import { controlSocketPath } from '../control/protocol.ts';
import type { Finding } from '../doctor/finding.ts';
import { findings } from '../doctor/finding.ts';
import { checkLive } from '../doctor/live-checks.ts';
import { checkCertificates, checkClock, checkDisk, checkNode, checkPorts, checkQueue } from '../doctor/local-checks.ts';
import {
  checkBackends,
  checkDirectories,
  checkEngines,
  checkLists,
  checkRecords,
  checkResolver,
  type DirectoryFacts,
} from '../doctor/network-checks.ts';
import { checkConfig } from '../gateway.ts';
import { createDns, systemServers } from '../net/dns.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';

export interface DoctorOptions {
  readonly live?: boolean;
  readonly to?: string;
  readonly outside?: string;
  readonly ntp: string;
  /** Areas to look at; absent: all. */
  readonly only?: readonly string[];
}

const marks: Readonly<Record<Finding['state'], string>> = { ok: 'ok  ', warn: 'WARN', fail: 'FAIL', skip: 'skip' };

function render(found: readonly Finding[]): string {
  const lines = found.flatMap(({ area, subject, state, detail, fix }) => [
    `${marks[state]}  ${area}: ${subject}: ${detail}`,
    ...(fix === undefined ? [] : [`        → ${fix}`]),
  ]);
  const count = (state: Finding['state']): number => found.filter(each => each.state === state).length;
  return [
    ...lines,
    '',
    `${count('ok')} in order, ${count('warn')} warnings, ${count('fail')} failed, ${count('skip')} skipped`,
  ].join('\n');
}

export async function doctor(context: CliContext, options: DoctorOptions): Promise<ExitCode> {
  const { clock, log } = context;
  const config = loadConfig(context.configFile, context.workingFolder);
  const { problems } = await checkConfig(config, context);
  if (problems.length > 0) throw new UsageError(problems.map(formatProblem).join('\n'), exitCodes.config);
  if (options.live && options.to === undefined)
    throw new UsageError('--live needs --to ADDRESS, a mailbox behind the gateway');
  const socket = controlSocketPath(dataFolder(config));
  const running = await askGateway(socket, { command: 'status' }, 10_000).then(
    () => true,
    () => false,
  );
  const { servers, timeout } = config.options.dns;
  const dns = createDns({ servers: servers.length > 0 ? servers : await systemServers(), totalMs: timeout, clock });
  const gateway = findings('gateway');
  const checks: Readonly<Record<string, () => Promise<readonly Finding[]> | readonly Finding[]>> = {
    config: () => [findings('config').ok(config.file, 'valid')],
    node: () => checkNode(process.version, clock.now()),
    gateway: () => [
      running
        ? gateway.ok('gateway', 'runs')
        : gateway.warn('gateway', 'does not run, or is not yours', `postern --config ${config.file} start`),
    ],
    ports: () => checkPorts(config, running, clock),
    certificate: () => checkCertificates(config, clock.now()),
    disk: () => checkDisk(config, clock),
    clock: () => checkClock(options.ntp, clock),
    queue: () => checkQueue(config, clock, log),
    resolver: () => checkResolver(dns),
    dns: () => checkRecords(config, dns),
    dnsbl: () => checkLists(config, dns),
    backend: () => checkBackends(config, clock),
    directory: async () => {
      if (config.options.directories.length === 0) return [];
      const request = { command: 'recipients', argument: JSON.stringify({ kind: 'status', samples: 0 }) } as const;
      const answer = await askGateway(socket, request, 30_000).catch(() => undefined);
      return checkDirectories(
        config,
        (answer as { readonly directories: readonly DirectoryFacts[] } | undefined)?.directories,
      );
    },
    engines: () => checkEngines(config, clock),
    ...(options.live
      ? {
          live: () =>
            checkLive(
              { config, hostname: config.options.hostname ?? machineName(), clock, log },
              { to: options.to ?? '', ...(options.outside === undefined ? {} : { outside: options.outside }) },
            ),
        }
      : {}),
  };
  const wrong = options.only?.find(area => checks[area] === undefined);
  if (wrong !== undefined) throw new UsageError(`--only ${wrong}: none of ${Object.keys(checks).join(', ')}`);
  const found: Finding[] = [];
  try {
    for (const [area, check] of Object.entries(checks))
      if (!options.only || options.only.includes(area)) found.push(...(await check()));
  } finally {
    dns.close();
  }
  print(context, found, () => render(found));
  return found.some(each => each.state === 'fail') ? exitCodes.negative : exitCodes.ok;
}
