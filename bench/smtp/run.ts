// SMTP in, contestants interleaved (A B, A B …): into a Maildir under Postfix's load generator `smtp-source`, or with
// --relay to a next hop under ours, which also times each message.
//   npm run bench -- --runs=5 --profiles=p20,p20d,p100,p1,big
//   npm run bench -- --relay --haraka=/tmp/haraka
// Prints medians and ratios to Postfix as Markdown; every run appears as a line while it goes on.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { freePorts } from '../../test/harness/gateway-process.ts';
import { root } from '../../test/harness/root.ts';
import { markdownTable, median } from '../lib/figures.ts';
import { type OwnDisk, ownDisk } from '../lib/own-disk.ts';
import type { Contestant } from './contestant.ts';
import { harakaRelay } from './haraka.ts';
import { measure, type Run, smtpSource, timedLoad } from './measure.ts';
import { postern } from './postern.ts';
import { postfix } from './postfix.ts';
import { profileNamed } from './profiles.ts';
import { startSink } from './sink.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    profiles: { type: 'string' },
    only: { type: 'string' },
    relay: { type: 'boolean', default: false },
    haraka: { type: 'string', default: '/tmp/haraka' },
  },
});
const { relay } = values;
const profileNames = (values.profiles ?? (relay ? 'p20,p20d,p1,big' : 'p20,p20d,p100,p1,p1warm,big')).split(',');
const base = 'postfix';

function line(run: Run, round: number): string {
  const figures = [
    `${run.accepted.toFixed(0).padStart(6)} accepted/s`,
    `${run.deliveredRate.toFixed(0).padStart(6)} delivered/s`,
    `${run.cpuPer1000.toFixed(2)} CPU s/1000`,
    ...(relay ? [`p50 ${run.p50.toFixed(1)} p99 ${run.p99.toFixed(1)} ms`] : []),
    `${run.pss.toFixed(0)} MiB`,
    `fsync ${run.fsyncMs.toFixed(2)} ms`,
    `load ${readFileSync('/proc/loadavg', 'latin1').split(' ', 1)[0]}`,
  ];
  return `${run.profile} #${round} ${run.name.padEnd(8)} ${figures.join('  ')}`;
}

function report(runs: readonly Run[], names: readonly string[]): string {
  const cell = (profile: string, name: string, pick: (run: Run) => number, digits: number): string => {
    const of = (who: string): number =>
      median(runs.filter(run => run.profile === profile && run.name === who).map(pick));
    const value = of(name);
    if (Number.isNaN(value)) return '-';
    const ratio = value / of(base);
    return Number.isNaN(ratio) ? value.toFixed(digits) : `${value.toFixed(digits)} (${ratio.toFixed(2)})`;
  };
  const section = (title: string, pick: (run: Run) => number, digits: number): string =>
    `### ${title}\n\n${markdownTable(
      ['contestant', ...profileNames],
      names.map(name => [name, ...profileNames.map(profile => cell(profile, name, pick, digits))]),
    )}\n`;
  return [
    `Medians of ${values.runs} interleaved runs (ratio to ${base}).`,
    section('Messages accepted per second', run => run.accepted, 0),
    section('Messages delivered per second', run => run.deliveredRate, 0),
    section('CPU seconds per 1000 messages, user and system, whole process tree', run => run.cpuPer1000, 2),
    ...(relay
      ? [
          section('Time from MAIL to the last 250, median, ms', run => run.p50, 1),
          section('Time from MAIL to the last 250, 99 %, ms', run => run.p99, 1),
        ]
      : []),
    section('Memory after the run, MiB PSS', run => run.pss, 0),
    section('Median fsync of this disk before the run, ms', run => run.fsyncMs, 2),
    ...profileNames.map(name => `${name}: ${profileNamed(name).what}`),
  ].join('\n');
}

function present(all: readonly Contestant[]): readonly Contestant[] {
  const wanted = all.filter(({ name }) => values.only === undefined || values.only.split(',').includes(name));
  for (const contestant of wanted)
    if (!contestant.available()) console.log(`${contestant.name} is left out: not installed (or not root)`);
  return wanted.filter(contestant => contestant.available());
}

async function compete(contestants: readonly Contestant[], disks: ReadonlyMap<string, OwnDisk>, sinkPort: number) {
  const sink = relay ? await startSink(sinkPort) : undefined;
  const runs: Run[] = [];
  try {
    for (const name of profileNames)
      for (let round = 0; round < Number(values.runs); round++)
        for (const contestant of contestants) {
          const disk = disks.get(contestant.folder);
          if (!disk) throw new Error(`No disk for ${contestant.name}`);
          const run = await measure({
            contestant,
            disk,
            name,
            profile: profileNamed(name),
            load: relay ? timedLoad : smtpSource,
            ...(sink && { sink }),
          });
          runs.push(run);
          console.log(line(run, round));
        }
  } finally {
    await sink?.stop();
  }
  return runs;
}

const disks = new Map<string, OwnDisk>();
const scratch = mkdtempSync(path.join(tmpdir(), 'postern-bench-'));
try {
  for (const name of profileNames) profileNamed(name);
  const [sinkPort = 0, ours = 0, theirs = 0, third = 0] = await freePorts(4);
  const contestants = present(
    relay
      ? [
          postern(scratch, root, ours, sinkPort),
          postfix(scratch, theirs, sinkPort),
          harakaRelay(scratch, third, sinkPort, values.haraka),
        ]
      : [postern(scratch, root, ours), postfix(scratch, theirs)],
  );
  for (const contestant of contestants) {
    disks.set(contestant.folder, ownDisk(contestant.folder));
    console.log(`${contestant.name}: 250 means ${contestant.promise}`);
  }
  if (![...disks.values()].every(disk => disk.separate))
    console.log('No loop devices here: the contestants share one file system');
  const runs = await compete(contestants, disks, sinkPort);
  const names = contestants.map(contestant => contestant.name);
  console.log(`\n${report(runs, names)}`);
} finally {
  for (const disk of disks.values()) disk.remove();
  rmSync(scratch, { recursive: true, force: true });
}
