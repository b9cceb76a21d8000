// SMTP ingest, contestants interleaved (A B, A B …) under Postfix's load generator `smtp-source`.
//   npm run bench -- --runs=5 --profiles=p20,p20d,p100,p1,big
// Prints medians and ratios to Postfix as Markdown; every run appears as a line while it goes on.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { root } from '../../test/harness/root.ts';
import { fsyncProbeMs, markdownTable, median, seconds } from '../lib/figures.ts';
import { type OwnDisk, ownDisk } from '../lib/own-disk.ts';
import { cpuSeconds, memoryMiB, runToEnd } from '../lib/processes.ts';
import type { Contestant } from './contestant.ts';
import { postern } from './postern.ts';
import { postfix } from './postfix.ts';

const profiles: Readonly<
  Record<string, { readonly messages: number; readonly args: readonly string[]; readonly what: string }>
> = {
  p20: { messages: 5000, args: ['-s', '20', '-l', '10000'], what: '20 sessions, a new connection per message, 10 kB' },
  p20d: { messages: 5000, args: ['-d', '-s', '20', '-l', '10000'], what: '20 sessions, reused, 10 kB' },
  p100: {
    messages: 5000,
    args: ['-s', '100', '-l', '10000'],
    what: '100 sessions, a new connection per message, 10 kB',
  },
  p1: { messages: 300, args: ['-s', '1', '-l', '10000'], what: 'one session, a new connection per message, 10 kB' },
  big: { messages: 200, args: ['-s', '10', '-l', '1000000'], what: '10 sessions, 1 MB' },
  smoke: { messages: 50, args: ['-s', '5', '-l', '2000'], what: 'does it run at all' },
};

interface Run {
  readonly profile: string;
  readonly name: string;
  /** Messages per second until the last 250; until the last delivery. */
  readonly accepted: number;
  readonly deliveredRate: number;
  readonly cpuPer1000: number;
  readonly pss: number;
  readonly fsyncMs: number;
}

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    profiles: { type: 'string', default: 'p20,p20d,p100,p1,big' },
    only: { type: 'string' },
  },
});

async function load(port: number, messages: number, args: readonly string[]): Promise<void> {
  const done = await runToEnd('timeout', [
    '120',
    'smtp-source',
    ...args,
    '-m',
    String(messages),
    '-f',
    'a@example.org',
    '-t',
    'b@bench.local',
    `127.0.0.1:${port}`,
  ]);
  if (done.code !== 0) throw new Error(`smtp-source ended with ${done.code}: ${done.output.slice(-300)}`);
}

async function untilEmpty(contestant: Contestant, limitMs: number): Promise<void> {
  const end = Date.now() + limitMs;
  while (contestant.backlog() > 0) {
    if (Date.now() > end) throw new Error(`${contestant.name} still has a backlog of ${contestant.backlog()}`);
    await pause(50);
  }
}

async function measure(contestant: Contestant, disk: OwnDisk, profile: string): Promise<Run> {
  const settings = profiles[profile];
  if (!settings) throw new Error(`No profile '${profile}': ${Object.keys(profiles).join(', ')}`);
  disk.renew();
  contestant.prepare();
  const daemon = await contestant.start();
  try {
    await load(contestant.port, 200, ['-s', '10', '-l', '10000']);
    await untilEmpty(contestant, 30_000);
    const before = contestant.delivered?.() ?? 0;
    const fsyncMs = fsyncProbeMs(contestant.folder);
    const cpuBefore = cpuSeconds(daemon.pid);
    const begin = seconds();
    await load(contestant.port, settings.messages, settings.args);
    const accepted = seconds() - begin;
    await untilEmpty(contestant, 120_000);
    const drained = seconds() - begin;
    const cpu = cpuSeconds(daemon.pid) - cpuBefore;
    const { pss } = memoryMiB(daemon.pid);
    const arrived = (contestant.delivered?.() ?? before + settings.messages) - before;
    if (arrived !== settings.messages)
      throw new Error(`${contestant.name} delivered ${arrived} of ${settings.messages}`);
    return {
      profile,
      name: contestant.name,
      accepted: settings.messages / accepted,
      deliveredRate: settings.messages / drained,
      cpuPer1000: (cpu / settings.messages) * 1000,
      pss,
      fsyncMs,
    };
  } finally {
    await daemon.stop();
  }
}

function report(runs: readonly Run[], names: readonly string[]): string {
  const base = 'postfix';
  const cell = (profile: string, name: string, pick: (run: Run) => number, digits: number): string => {
    const of = (who: string): number =>
      median(runs.filter(run => run.profile === profile && run.name === who).map(pick));
    const value = of(name);
    return Number.isNaN(value) ? '-' : `${value.toFixed(digits)} (${(value / of(base)).toFixed(2)})`;
  };
  const used = [...new Set(runs.map(run => run.profile))];
  const section = (title: string, pick: (run: Run) => number, digits: number): string =>
    `### ${title}\n\n${markdownTable(
      ['contestant', ...used],
      names.map(name => [name, ...used.map(profile => cell(profile, name, pick, digits))]),
    )}\n`;
  return [
    `Medians of ${Math.max(...names.map(name => runs.filter(run => run.name === name && run.profile === used[0]).length))} interleaved runs (ratio to ${base}).`,
    section('Messages accepted per second', run => run.accepted, 0),
    section('Messages delivered per second', run => run.deliveredRate, 0),
    section('CPU seconds per 1000 messages, user and system, whole process tree', run => run.cpuPer1000, 2),
    section('Memory after the run, MiB PSS', run => run.pss, 0),
    section('Median fsync of this disk before the run, ms', run => run.fsyncMs, 2),
  ].join('\n');
}

const disks = new Map<string, OwnDisk>();
const scratch = mkdtempSync(path.join(tmpdir(), 'postern-bench-'));
mkdirSync(scratch, { recursive: true });
try {
  const all = [postern(scratch, root), postfix(scratch)];
  const wanted =
    values.only === undefined ? all : all.filter(contestant => values.only?.split(',').includes(contestant.name));
  for (const contestant of wanted)
    if (!contestant.available()) console.log(`${contestant.name} is left out: not installed (or not root)`);
  const contestants = wanted.filter(contestant => contestant.available());
  for (const { folder } of contestants) disks.set(folder, ownDisk(folder));
  if (![...disks.values()].every(disk => disk.separate))
    console.log('No loop devices here: the contestants share one file system');
  const runs: Run[] = [];
  for (const profile of values.profiles.split(',')) {
    for (let round = 0; round < Number(values.runs); round++) {
      for (const contestant of contestants) {
        const disk = disks.get(contestant.folder);
        if (!disk) throw new Error(`No disk for ${contestant.name}`);
        const run = await measure(contestant, disk, profile);
        runs.push(run);
        console.log(
          `${profile} #${round} ${run.name.padEnd(10)} ${run.accepted.toFixed(0).padStart(6)} accepted/s ${run.deliveredRate.toFixed(0).padStart(6)} delivered/s  ${run.cpuPer1000.toFixed(2)} CPU s/1000  ${run.pss.toFixed(0)} MiB  fsync ${run.fsyncMs.toFixed(2)} ms`,
        );
      }
    }
  }
  console.log(
    `\n${report(
      runs,
      contestants.map(contestant => contestant.name),
    )}`,
  );
  for (const profile of values.profiles.split(',')) console.log(`${profile}: ${profiles[profile]?.what}`);
} finally {
  for (const disk of disks.values()) disk.remove();
  rmSync(scratch, { recursive: true, force: true });
}
