// A real opendkim with a key of its own: signs for internal clients, verifies for all others, keys from a file.
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findEngine } from './engine.ts';
import { type EngineProcess, engineFolder, startEngine, type Teardown, untilAccepts } from './engine-process.ts';
import { freePort } from './gateway-process.ts';

export interface OpenDkim extends EngineProcess {
  readonly socket: string;
  readonly port: number;
}

/** One key for `sel._domainkey.sender.example`; two processes, for one listens at one place only. */
export async function startOpenDkims(
  t: Teardown,
  internal: string,
): Promise<{ readonly unix: OpenDkim; readonly tcp: OpenDkim }> {
  const folder = await engineFolder(t, 'opendkim');
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
  const file = (name: string): string => path.join(folder, name);
  await writeFile(file('key.pem'), privateKey, { mode: 0o600 });
  await writeFile(file('internal'), `${internal}\n`);
  await writeFile(file('keys'), `sel._domainkey.sender.example v=DKIM1; k=rsa; p=${publicKey.toString('base64')}\n`);
  const program = findEngine('opendkim');
  if (!program) throw new Error('opendkim is not installed');
  const start = async (name: string, where: string): Promise<EngineProcess> => {
    await writeFile(
      file(`${name}.conf`),
      [
        'Syslog no',
        'Background no',
        'Mode sv',
        'Domain sender.example',
        'Selector sel',
        `KeyFile ${file('key.pem')}`,
        `InternalHosts ${file('internal')}`,
        `TestPublicKeys ${file('keys')}`,
        `TemporaryDirectory ${folder}`,
        'AuthservID gateway.test',
        'AlwaysAddARHeader yes',
        // The strictest: every byte of the header counts, folds of the signature itself too.
        'Canonicalization simple/simple',
        `Socket ${where}`,
        ...(process.getuid?.() === 0 ? ['RequireSafeKeys no'] : []),
        '',
      ].join('\n'),
    );
    return startEngine(t, program, ['-f', '-x', file(`${name}.conf`)]);
  };
  const socket = file('opendkim.sock');
  const port = await freePort();
  const unix = await start('unix', `local:${socket}`);
  const tcp = await start('tcp', `inet:${port}@127.0.0.1`);
  await untilAccepts({ path: socket });
  await untilAccepts({ port, host: '127.0.0.1' });
  return { unix: { ...unix, socket, port }, tcp: { ...tcp, socket, port } };
}
