// The gateway as a process of its own, the way `postern start --worker` runs it: for tests that kill it.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import path from 'node:path';
import { openAccounts } from '../../core/compose/stores.ts';
import { loadConfig } from '../../core/config/load.ts';
import { systemClock } from '../../core/lib/clock.ts';
import { guardedLogger } from './log-guard.ts';
import { plainNode } from './plain-node.ts';
import { root } from './root.ts';

export const mainFile = path.join(root, 'build/core/main.js');

export interface GatewayProcess {
  readonly child: ChildProcess;
  /** Everything it printed so far. */
  output(): string;
  /** Sends the signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

/** Below what the kernel gives to those who ask for any port, so that no other test is given one of ours meanwhile. */
const firstPort = 20_000;
const lastPort = 32_000;

/** Ports that are free now, all different. A killed gateway must come back on the same one, so 0 will not do. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const held: Server[] = [];
  const ports: number[] = [];
  while (ports.length < count) {
    const port = randomInt(firstPort, lastPort);
    const server = createServer();
    const free = await new Promise<boolean>(resolve => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    held.push(server);
    ports.push(port);
  }
  for (const server of held) {
    server.close();
    await once(server, 'close');
  }
  return ports;
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  if (port === undefined) throw new Error('No port');
  return port;
}

/** Runs `postern` to its end. */
export async function runPostern(
  args: readonly string[],
  options: { readonly cwd?: string; readonly input?: string } = {},
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const child = spawn(...plainNode(mainFile, ...args), {
    cwd: options.cwd ?? root,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.end(options.input ?? '');
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** Resolves when something accepts connections there; rejects when the process ends before. */
async function accepting(child: ChildProcess, port: number): Promise<void> {
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('The gateway ended before it listened');
    const open = await new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1');
      socket.once('data', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(false));
    });
    if (open) return;
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

/** Starts `postern start --worker` with this configuration; resolves once `port` greets. */
export async function startGatewayProcess(
  configFile: string,
  port: number,
  main: string = mainFile,
): Promise<GatewayProcess> {
  const child = spawn(...plainNode(main, '--config', configFile, 'start', '--worker'), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '16' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  // Behind its end comes the rest of what it printed.
  const closed = once(child, 'close');
  try {
    await accepting(child, port);
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(`${(error as Error).message}: ${output}`, { cause: error });
  }
  return {
    child,
    output: () => output,
    async end(signal) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      await closed;
      return child.exitCode;
    },
  };
}

export function writeConfig(folder: string, yaml: string): string {
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, 'postern.yaml');
  writeFileSync(file, yaml);
  return file;
}

/** Of a gateway with one SMTP listener and the domain example.org; `rest`: its chain and all else. */
export const writeSmtpConfig = (folder: string, port: number, rest: string): string =>
  writeConfig(
    folder,
    `hostname: mx.example.org
dataDir: data
domains: [{ name: example.org }]
listeners: [{ name: smtp, role: smtp, port: ${port}, tls: none }]
${rest}
`,
  );

/** Users with some password, without a process for each. */
export async function addUsers(configFile: string, ...names: readonly string[]): Promise<void> {
  const config = loadConfig(configFile, path.dirname(configFile));
  const accounts = await openAccounts(config, systemClock, guardedLogger());
  try {
    for (const name of names) await accounts.users.add(name, { password: 'secret' });
  } finally {
    await accounts.close();
  }
}
