// One run of one contestant: started anew on a disk of its own, warmed up, loaded, and followed until the last message is
// where it belongs.
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fsyncProbeMs, seconds } from '../lib/figures.ts';
import type { OwnDisk } from '../lib/own-disk.ts';
import { demandFree } from '../lib/ports.ts';
import { cpuSeconds, memoryMiB, runToEnd } from '../lib/processes.ts';
import type { LoadResult } from '../lib/smtp-load.ts';
import type { Contestant } from './contestant.ts';
import { defaultWarmUp, type Profile } from './profiles.ts';
import type { Sink } from './sink.ts';

export interface Run {
  readonly profile: string;
  readonly name: string;
  /** Messages per second until the last 250; until the last delivery. */
  readonly accepted: number;
  readonly deliveredRate: number;
  readonly cpuPer1000: number;
  readonly pss: number;
  readonly fsyncMs: number;
  /** ms from MAIL to the last 250; only where the load generator tells. */
  readonly p50: number;
  readonly p99: number;
}

const limitSeconds = 300;

/** Makes the load; the times of the messages where it tells them. */
export type Load = (port: number, profile: Profile) => Promise<readonly number[]>;

async function runGenerator(command: string, args: readonly string[]): Promise<string> {
  const done = await runToEnd('timeout', [String(limitSeconds), command, ...args]);
  if (done.code !== 0) throw new Error(`${command} ended with ${done.code}: ${done.output.slice(-300)}`);
  return done.output;
}

/** Postfix's generator: costs the least. */
export const smtpSource: Load = async (port, { messages, sessions, bytes, reuse }) => {
  const addresses = ['-f', 'a@example.org', '-t', 'b@bench.local', `127.0.0.1:${port}`];
  const amount = ['-s', String(sessions), '-l', String(bytes), '-m', String(messages)];
  await runGenerator('smtp-source', [...(reuse ? ['-d'] : []), ...amount, ...addresses]);
  return [];
};

/** Ours: tells the time of each message. */
export const timedLoad: Load = async (port, { messages, sessions, bytes, reuse }) => {
  const program = fileURLToPath(new URL('../lib/smtp-load.js', import.meta.url));
  const words = [port, sessions, messages, bytes, reuse ? 'reuse' : 'anew'].map(String);
  return (JSON.parse(await runGenerator(process.execPath, [program, ...words])) as LoadResult).times;
};

async function untilEmpty(contestant: Contestant): Promise<void> {
  const end = seconds() + limitSeconds;
  while (contestant.backlog() > 0) {
    if (seconds() > end) throw new Error(`${contestant.name} still has a backlog of ${contestant.backlog()}`);
    await pause(50);
  }
}

/** Resolves to the moment at which all `messages` had arrived. */
async function arrival(contestant: Contestant, before: number, messages: number, sink: Sink | undefined) {
  if (sink) return sink.reached(before + messages, limitSeconds * 1000);
  await untilEmpty(contestant);
  const drained = seconds();
  const arrived = (contestant.delivered?.() ?? before + messages) - before;
  if (arrived !== messages) throw new Error(`${contestant.name} delivered ${arrived} of ${messages}`);
  return drained;
}

const atShare = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;

export interface Measured {
  readonly contestant: Contestant;
  readonly disk: OwnDisk;
  readonly name: string;
  readonly profile: Profile;
  readonly load: Load;
  readonly sink?: Sink;
}

export async function measure({ contestant, disk, name, profile, load, sink }: Measured): Promise<Run> {
  disk.renew();
  contestant.prepare();
  await demandFree(contestant.port, contestant.name);
  const daemon = await contestant.start();
  const count = (): number => sink?.count() ?? contestant.delivered?.() ?? 0;
  try {
    const warmUp = { what: '', sessions: 10, bytes: 10_000, messages: profile.warmUp ?? defaultWarmUp };
    const atStart = count();
    await load(contestant.port, warmUp);
    await arrival(contestant, atStart, warmUp.messages, sink);
    await untilEmpty(contestant);
    const before = count();
    const fsyncMs = fsyncProbeMs(contestant.folder);
    const cpuBefore = cpuSeconds(daemon.pid);
    const begin = seconds();
    const times = await load(contestant.port, profile);
    const accepted = seconds() - begin;
    const delivered = (await arrival(contestant, before, profile.messages, sink)) - begin;
    await untilEmpty(contestant);
    return {
      profile: name,
      name: contestant.name,
      accepted: profile.messages / accepted,
      deliveredRate: profile.messages / delivered,
      cpuPer1000: ((cpuSeconds(daemon.pid) - cpuBefore) / profile.messages) * 1000,
      pss: memoryMiB(daemon.pid).pss,
      fsyncMs,
      p50: atShare(times, 0.5),
      p99: atShare(times, 0.99),
    };
  } finally {
    await daemon.stop();
  }
}
