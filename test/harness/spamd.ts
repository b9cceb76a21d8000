// A real spamd with Debian's rules, no network tests, and user data in a folder of its own.
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { findEngine } from './engine.ts';
import { type EngineProcess, engineFolder, startEngine, type Teardown } from './engine-process.ts';
import { freePort } from './gateway-process.ts';

/** Takes 1000 points by agreement; in two halves, so that this file takes none. */
export const gtube = ['XJS*C4JDBQADN1.NSBN3*2IDNEN*', 'GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X'].join('');

export interface Spamd extends EngineProcess {
  readonly socket: string;
  readonly port: number;
}

export async function startSpamd(t: Teardown, more: readonly string[] = [], port?: number): Promise<Spamd> {
  const folder = await engineFolder(t, 'spamd');
  const users = path.join(folder, 'users');
  await mkdir(users, { mode: 0o777 });
  const socket = path.join(folder, 'spamd.sock');
  const chosen = port ?? (await freePort());
  const program = findEngine('spamd');
  if (!program) throw new Error('spamd is not installed');
  const engine = startEngine(
    t,
    program,
    [
      '--local',
      '--syslog=stderr',
      `--listen=127.0.0.1:${chosen}`,
      `--listen=${socket}`,
      '--allow-tell',
      '--min-children=1',
      '--max-children=3',
      '--nouser-config',
      `--virtual-config-dir=${users}/%u`,
      `--pidfile=${folder}/pid`,
      ...(process.getuid?.() === 0 ? ['--username=nobody'] : []),
      ...more,
    ],
    { HOME: folder },
  );
  await engine.untilOutput(/server successfully spawned child process/);
  return { ...engine, socket, port: chosen };
}
