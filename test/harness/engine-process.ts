// A real engine as a child process of its own folder: started, frozen (SIGSTOP), thawed, killed; never by name.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface Teardown {
  teardown(run: () => unknown): unknown;
}

export interface EngineProcess {
  readonly pid: number;
  /** All that it wrote to standard output and standard error so far. */
  output(): string;
  /** Resolves once the output matches; rejects when the process ends or a minute passed. */
  untilOutput(pattern: RegExp): Promise<void>;
  /** Stops it and its children without ending them, as an engine that hangs. */
  freeze(): void;
  thaw(): void;
  /** Ends it, frozen or not. Harmless when repeated. */
  kill(): Promise<void>;
}

const limitMs = 120_000;

/** A folder that engines which drop their privileges can enter too; removed at the end of the test. */
export async function engineFolder(t: Teardown, name: string): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), `postern-${name}-`));
  await chmod(folder, 0o755);
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** In a process group of its own, so that a signal reaches its children as well. */
export function startEngine(
  t: Teardown,
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): EngineProcess {
  const child: ChildProcess = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`Cannot start ${program}`);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('latin1')).slice(-1_000_000);
      child.emit('output');
    });
  const signal = (name: NodeJS.Signals): void => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-pid, name);
  };
  const engine: EngineProcess = {
    pid,
    output: () => output,
    async untilOutput(pattern) {
      const late = AbortSignal.timeout(limitMs);
      while (!pattern.test(output)) {
        if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${program} ended: ${output}`);
        const wait = new AbortController();
        const either = AbortSignal.any([late, wait.signal]);
        try {
          await Promise.race([once(child, 'output', { signal: either }), once(child, 'close', { signal: either })]);
        } catch (cause) {
          throw new Error(`${program} does not say ${pattern}: ${output}`, { cause });
        } finally {
          wait.abort();
        }
      }
    },
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const closed = once(child, 'close');
      signal('SIGKILL');
      await closed;
    },
  };
  t.teardown(() => engine.kill());
  return engine;
}

/** Resolves when something accepts connections there. An engine tells nobody when it is ready, so it is asked. */
export async function untilAccepts(where: net.NetConnectOpts): Promise<void> {
  for (const until = Date.now() + limitMs; Date.now() < until; await delay(20)) {
    const socket = net.connect(where);
    const connected = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (connected) return;
  }
  throw new Error(`Nothing accepts connections at ${JSON.stringify(where)}`);
}
