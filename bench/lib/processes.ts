// CPU and memory of process trees as the kernel accounts them, and daemons that are started and stopped by pid.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const ticksPerSecond = 100;

interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Seconds of user and system time: its own, and that of children it has waited for. */
  readonly own: number;
  readonly reaped: number;
}

function processes(): Map<number, Process> {
  const found = new Map<number, Process>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    let stat: string;
    try {
      stat = readFileSync(`/proc/${name}/stat`, 'latin1');
    } catch {
      continue; // ended meanwhile
    }
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const seconds = (index: number): number => (fields[index] ?? 0) / ticksPerSecond;
    found.set(Number(name), {
      pid: Number(name),
      parent: fields[1] ?? 0,
      own: seconds(11) + seconds(12),
      reaped: seconds(13) + seconds(14),
    });
  }
  return found;
}

function tree(root: number): Process[] {
  const all = processes();
  const members: Process[] = [];
  const wanted = [root];
  for (let pid = wanted.pop(); pid !== undefined; pid = wanted.pop()) {
    const entry = all.get(pid);
    if (!entry) continue;
    members.push(entry);
    for (const other of all.values()) if (other.parent === pid) wanted.push(other.pid);
  }
  return members;
}

/** User and system seconds of a process and all its children, dead ones included. */
export const cpuSeconds = (root: number): number =>
  tree(root).reduce((sum, entry) => sum + entry.own + entry.reaped, 0);

/** MiB of a process tree: `pss` shares common pages out, `rss` counts them in each process. */
export function memoryMiB(root: number): { readonly pss: number; readonly rss: number; readonly processes: number } {
  let pss = 0;
  let rss = 0;
  let count = 0;
  for (const { pid } of tree(root)) {
    try {
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
      pss += Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) / 1024;
      rss += Number(/^Rss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0) / 1024;
      count++;
    } catch {
      // ended meanwhile
    }
  }
  return { pss, rss, processes: count };
}

export interface Daemon {
  readonly pid: number;
  stop(): Promise<void>;
}

export interface DaemonOptions {
  readonly logFile?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** In a pid namespace of its own, so that children it leaves behind end with it. */
  readonly namespaced?: boolean;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise(resolve => child.once('exit', resolve));
}

export async function startDaemon(
  command: string,
  args: readonly string[],
  options: DaemonOptions = {},
): Promise<Daemon> {
  const output = options.logFile === undefined ? 'ignore' : openSync(options.logFile, 'a');
  const line = options.namespaced
    ? ['unshare', '--pid', '--fork', 'sh', '-c', '"$@" & wait $!', 'sh', command, ...args]
    : [command, ...args];
  const [program = '', ...rest] = line;
  const child = spawn(program, rest, {
    stdio: ['ignore', output, output],
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
  });
  if (typeof output === 'number') closeSync(output);
  const pid = child.pid;
  if (pid === undefined) throw new Error(`Cannot start ${command}`);
  const childOf = (parent: number | undefined): number | undefined =>
    [...processes().values()].find(entry => entry.parent === parent)?.pid;
  const signal = (target: number | undefined, name: NodeJS.Signals): void => {
    try {
      if (target !== undefined) process.kill(target, name);
    } catch {
      // gone already
    }
  };
  return {
    pid,
    async stop() {
      const init = options.namespaced ? childOf(pid) : undefined;
      signal(options.namespaced ? childOf(init) : pid, 'SIGTERM');
      const force = setTimeout(() => signal(init ?? pid, 'SIGKILL'), 8000);
      await ended(child);
      clearTimeout(force);
    },
  };
}

/** A daemon that does not come up leaves nothing behind: neither a port nor a mounted disk in use. */
export async function greetedOrStopped(daemon: Daemon, port: number): Promise<void> {
  try {
    await waitForGreeting(port, 60_000);
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}

/** Runs a command to its end. */
export async function runToEnd(
  command: string,
  args: readonly string[],
): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { code, output };
}

/** Resolves once a server greets on that port of 127.0.0.1. */
export async function waitForGreeting(port: number, limitMs = 20_000): Promise<void> {
  const end = Date.now() + limitMs;
  while (Date.now() < end) {
    const greeted = await new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1');
      socket.setTimeout(2000, () => socket.destroy());
      socket.once('data', () => {
        socket.end('QUIT\r\n');
        resolve(true);
      });
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(false));
    });
    if (greeted) return;
    await pause(50);
  }
  throw new Error(`Nothing greets on port ${port}`);
}
