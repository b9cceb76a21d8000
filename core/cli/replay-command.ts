// postern replay: recorded messages through another configuration. It changes nothing: see compose/replay.ts.
import { mkdtempSync, rmSync } from 'node:fs';
import { hostname as machineName, tmpdir } from 'node:os';
import path from 'node:path';
import { chainEntries } from '../compose/chain-entries.ts';
import { CloseStack } from '../compose/close-stack.ts';
import { hasRecordings, openRecordings } from '../compose/recordings.ts';
import { type Flip, type ReplayReport, replayRecordings } from '../compose/replay.ts';
import { createReplayHost } from '../compose/replay-host.ts';
import { dataFolder, openAccountsOn } from '../compose/stores.ts';
import { ConfigError, type LoadedConfig, loadConfig } from '../config/load.ts';
import { builtInTable } from '../gateway.ts';
import { createDns, systemServers } from '../net/dns.ts';
import type { Chain } from '../pipeline/chain.ts';
import { ChainError, loadChain } from '../pipeline/load-chain.ts';
import { openMemory } from '../state/memory.ts';
import { openSqliteState } from '../state/sqlite.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { printable } from './render-trace.ts';
import { formatTable } from './table.ts';
import { showTime, timeOption } from './time-option.ts';

export interface ReplayOptions {
  /** File of the configuration that is tried. */
  readonly candidate?: string;
  readonly since: string;
  readonly until?: string;
  readonly limit: number;
}

type World = Omit<Parameters<typeof createReplayHost>[0], 'config' | 'hostname' | 'scratchFolder'>;

interface Tried {
  readonly chain: Chain;
  /** Entries that are left out. */
  readonly history: readonly string[];
}

async function chainOf(config: LoadedConfig, world: World, scratchFolder: string): Promise<Tried> {
  const { entries, problems } = await chainEntries(config, builtInTable, world.clock, world.log);
  if (problems.length > 0) throw new ConfigError(problems);
  const hostname = config.options.hostname ?? machineName();
  const hostFor = createReplayHost({ ...world, config, hostname, scratchFolder });
  const asked = entries.filter(entry => entry.plugin.history !== true);
  const chain = await loadChain(asked, { clock: world.clock, log: world.log, hostFor }).catch((error: unknown) => {
    if (!(error instanceof ChainError)) throw error;
    throw new ConfigError(error.problems.map(problem => config.locate(problem.path, problem.message)));
  });
  return { chain, history: entries.filter(entry => !asked.includes(entry)).map(({ name }) => name) };
}

const words = {
  deliver: 'accepted',
  quarantine: 'quarantined',
  reject: 'refused',
  defer: 'deferred',
  discard: 'discarded',
} as const;

/** What changed, and by whom. */
function change({ was, now }: Flip): {
  readonly from: string;
  readonly to: string;
  readonly by: string;
  readonly why: string;
} {
  if (was.decision !== now.decision) {
    const decided = now.plugin === '' ? was : now;
    const gone = now.plugin === '' && was.plugin !== '';
    return {
      from: words[was.decision],
      to: words[now.decision],
      by: decided.plugin,
      why: gone ? `no longer: ${was.why}` : decided.why,
    };
  }
  const more = Object.entries(now.refused).find(([address]) => !(address in was.refused));
  const fewer = Object.keys(was.refused).find(address => !(address in now.refused));
  return more
    ? { from: 'all recipients', to: `without ${more[0]}`, by: more[1].split(':', 1)[0] ?? '', why: more[1] }
    : { from: `without ${fewer ?? ''}`, to: 'taken', by: '', why: was.refused[fewer ?? ''] ?? '' };
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;

function render(report: ReplayReport, left: readonly string[], limit: number): string {
  const { messages, same, flips, failed, byHistory, lost } = report;
  const others = flips.filter(flip => !flip.byConfiguration).length;
  const lines = [
    `${count(messages, 'recorded message')} replayed: ${same} would end as they did, ${flips.length} otherwise.`,
    ...(others > 0
      ? [
          `${others} of those would end so with the running configuration too: DNS, engines or mailboxes changed since (marked with =).`,
        ]
      : []),
    ...(left.length > 0 ? [`Not asked, for they judge by what came before: ${left.join(', ')}.`] : []),
    ...(byHistory > 0 ? [`${count(byHistory, 'message')} left out: decided by such an entry.`] : []),
    ...(lost > 0 ? [`${count(lost, 'message')} could not be read any more.`] : []),
  ];
  if (failed.length > 0) {
    const [first] = failed;
    lines.push(
      `On ${count(failed.length, 'message')} a plugin failed, so nothing is known of them; first ${first?.id}, ${first?.plugin}: ${printable(first?.why ?? '')}`,
    );
  }
  if (flips.length === 0) return lines.join('\n');
  const groups = new Map<string, { readonly cells: readonly string[]; messages: number }>();
  for (const flip of flips) {
    const { from, to, by } = change(flip);
    const key = [from, to, by].join('\0');
    const group = groups.get(key) ?? { cells: [from, to, by], messages: 0 };
    group.messages++;
    groups.set(key, group);
  }
  const sums = [...groups.values()]
    .sort((a, b) => b.messages - a.messages)
    .slice(0, 20)
    .map(({ cells, messages: number }) => [...cells.map(printable), String(number)]);
  const rows = flips.slice(0, limit).map(flip => {
    const { from, to, by, why } = change(flip);
    const who = flip.sender === '' ? '<>' : flip.sender;
    return [
      flip.id,
      showTime(flip.receivedAt),
      who,
      flip.recipients[0] ?? '',
      `${from} → ${to}${flip.byConfiguration ? '' : ' ='}`,
      by,
      why,
    ].map(printable);
  });
  return [
    ...lines,
    '',
    formatTable(['WAS', 'WOULD BE', 'BY', 'MESSAGES'], sums),
    '',
    formatTable(['ID', 'RECEIVED', 'SENDER', 'RECIPIENT', 'WAS → WOULD BE', 'BY', 'WHY'], rows),
    ...(flips.length > limit ? [`… and ${flips.length - limit} more (--limit, or --json for all)`] : []),
  ].join('\n');
}

export async function replay(context: CliContext, options: ReplayOptions): Promise<ExitCode> {
  if (options.candidate === undefined)
    throw new UsageError('Name the configuration to try: postern replay --config new.yaml');
  const now = context.clock.now();
  const from = timeOption('--since', options.since, now);
  const to = options.until === undefined ? now : timeOption('--until', options.until, now);
  const running = loadConfig(context.configFile, context.workingFolder);
  const candidate = loadConfig(options.candidate, context.workingFolder);
  const folder = dataFolder(running);
  if (!hasRecordings(folder))
    throw new UsageError(
      `Nothing was recorded in '${folder}': set 'recordings: { share: 10 }' in the running configuration, and wait for mail`,
      exitCodes.negative,
    );
  const stack = new CloseStack(context.log);
  const scratch = mkdtempSync(path.join(tmpdir(), 'postern-replay-'));
  stack.add('scratch folder', { close: async () => rmSync(scratch, { recursive: true, force: true }) });
  try {
    const { clock, log, env } = context;
    const state = stack.add('state', await openSqliteState(path.join(folder, running.options.stores.state)));
    const { users } = stack.add('accounts', await openAccountsOn(state, clock, log));
    const memory = await openMemory(state, clock);
    const store = stack.add('recordings', await openRecordings(folder, () => running, { clock, log }));
    const { servers, timeout } = candidate.options.dns;
    const dns = createDns({ servers: servers.length > 0 ? servers : await systemServers(), totalMs: timeout, clock });
    stack.add('dns', { close: async () => dns.close() });
    const world: World = { log, clock, env, dns, directory: users, memory };
    const tried = await chainOf(candidate, world, path.join(scratch, 'candidate'));
    stack.add('chain', tried.chain);
    const today = await chainOf(running, world, path.join(scratch, 'running'));
    stack.add('running chain', today.chain);
    const history = new Set([...tried.history, ...today.history]);
    const progress = context.stdout.isTTY && !context.json ? progressOn(context) : undefined;
    const report = await replayRecordings({
      store,
      chain: tried.chain,
      running: today.chain,
      history,
      from,
      to,
      ...(progress ? { onProgress: progress } : {}),
    });
    if (progress) context.stderr.write('\r\x1b[K');
    print(context, { ...report, notAsked: [...history] }, () => render(report, [...history], options.limit));
    return exitCodes.ok;
  } finally {
    await stack.closeAll();
  }
}

function progressOn(context: CliContext): (done: number) => void {
  let shownAt = context.clock.monotonic();
  return done => {
    if (context.clock.monotonic() - shownAt < 500) return;
    shownAt = context.clock.monotonic();
    context.stderr.write(`\r${done} messages`);
  };
}
