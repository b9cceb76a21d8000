// A real clamd with a signature database of its own: the EICAR test file, and nothing that must be downloaded.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findEngine } from './engine.ts';
import { type EngineProcess, engineFolder, startEngine, type Teardown, untilAccepts } from './engine-process.ts';
import { freePort } from './gateway-process.ts';

/** The text that every scanner takes for a virus by agreement; in two halves, so that this file is none. */
export const eicar = ['X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR', '-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*'].join('');

export interface Clamd extends EngineProcess {
  readonly socket: string;
  readonly port: number;
}

export async function startClamd(t: Teardown, settings: readonly string[] = []): Promise<Clamd> {
  const folder = await engineFolder(t, 'clamd');
  const database = path.join(folder, 'db');
  const socket = path.join(folder, 'clamd.sock');
  const port = await freePort();
  await mkdir(database);
  // Name:target:offset:bytes. Target 0 = any file, so that it is found in any text and any archive member.
  await writeFile(path.join(database, 'test.ndb'), `Eicar-Test-Signature:0:*:${Buffer.from(eicar).toString('hex')}\n`);
  const file = path.join(folder, 'clamd.conf');
  await writeFile(
    file,
    [
      'Foreground yes',
      `DatabaseDirectory ${database}`,
      `TemporaryDirectory ${folder}`,
      `LocalSocket ${socket}`,
      `TCPSocket ${port}`,
      'TCPAddr 127.0.0.1',
      'MaxThreads 4',
      ...settings,
      '',
    ].join('\n'),
  );
  const program = findEngine('clamd');
  if (!program) throw new Error('clamd is not installed');
  const engine = startEngine(t, program, ['--config-file', file]);
  await Promise.race([
    Promise.all([untilAccepts({ path: socket }), untilAccepts({ port, host: '127.0.0.1' })]),
    engine.untilOutput(/ERROR/).then(() => Promise.reject(new Error(engine.output()))),
  ]);
  return { ...engine, socket, port };
}

/** A real clamav-milter in front of a clamd; what it does with a virus is `onInfected`. */
export async function startClamavMilter(
  t: Teardown,
  clamd: Clamd,
  onInfected: 'Reject' | 'Quarantine' | 'Accept',
): Promise<EngineProcess & { readonly where: string }> {
  const folder = await engineFolder(t, 'clamav-milter');
  const port = await freePort();
  const file = path.join(folder, 'clamav-milter.conf');
  const settings = [
    'Foreground yes',
    `MilterSocket inet:${port}@127.0.0.1`,
    `ClamdSocket unix:${clamd.socket}`,
    `TemporaryDirectory ${folder}`,
    `OnInfected ${onInfected}`,
    'OnFail Defer',
    'AddHeader Replace',
    ...(process.getuid?.() === 0 ? ['User root'] : []),
    '',
  ];
  await writeFile(file, settings.join('\n'));
  const program = findEngine('clamav-milter');
  if (!program) throw new Error('clamav-milter is not installed');
  const engine = startEngine(t, program, ['--config-file', file]);
  await Promise.race([
    untilAccepts({ port, host: '127.0.0.1' }),
    engine.untilOutput(/ERROR/).then(() => Promise.reject(new Error(engine.output()))),
  ]);
  return { ...engine, where: `inet:${port}@127.0.0.1` };
}
