// A validating resolver (unbound) over zones that are signed (ldns), broken or plain: what DANE stands on.
import { spawnSync } from 'node:child_process';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findEngine } from './engine.ts';
import { engineFolder, startEngine, type Teardown, untilAccepts } from './engine-process.ts';
import { freePort } from './gateway-process.ts';

export interface SignedZone {
  readonly name: string;
  /** Lines of the zone file besides SOA and NS, with absolute names. */
  readonly records: readonly string[];
  /** `bogus`: changed after it was signed. */
  readonly kind: 'signed' | 'plain' | 'bogus';
  /** What `bogus` changes, as `sed` would. */
  readonly change?: readonly [from: string, to: string];
}

function run(program: string, args: readonly string[], cwd: string): string {
  const result = spawnSync(program, args, { cwd, encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${program} failed: ${result.error?.message ?? ''}${result.stderr}`);
  return result.stdout.trim();
}

/** Resolves to the resolver's address, `127.0.0.1:port`. */
export async function startValidatingResolver(t: Teardown, zones: readonly SignedZone[]): Promise<string> {
  const folder = await engineFolder(t, 'unbound');
  const anchors: string[] = [];
  const served: string[] = [];
  for (const zone of zones) {
    const head = [
      `${zone.name}. 300 IN SOA ns.${zone.name}. root.${zone.name}. 1 3600 600 86400 60`,
      `${zone.name}. 300 IN NS ns.${zone.name}.`,
      `ns.${zone.name}. 300 IN A 127.0.0.1`,
    ];
    let file = path.join(folder, zone.name);
    await writeFile(file, `${[...head, ...zone.records].join('\n')}\n`);
    if (zone.kind !== 'plain') {
      const key = run('ldns-keygen', ['-a', 'ECDSAP256SHA256', '-k', zone.name], folder);
      run('ldns-signzone', ['-n', file, path.join(folder, key)], folder);
      anchors.push(path.join(folder, `${key}.key`));
      file = `${file}.signed`;
      const [from, to] = zone.change ?? ['', ''];
      if (zone.kind === 'bogus') await writeFile(file, (await readFile(file, 'utf8')).replace(from, to));
    }
    served.push(
      `auth-zone:\n  name: "${zone.name}"\n  zonefile: "${file}"\n  for-upstream: yes\n  for-downstream: no\n`,
    );
    await chmod(file, 0o644);
  }
  const port = await freePort();
  const config = path.join(folder, 'unbound.conf');
  await writeFile(
    config,
    `server:
  interface: 127.0.0.1
  port: ${port}
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  access-control: 127.0.0.0/8 allow
  local-zone: "test." nodefault
  module-config: "validator iterator"
${anchors.map(file => `  trust-anchor-file: "${file}"`).join('\n')}
remote-control:
  control-enable: no
${served.join('')}`,
  );
  const program = findEngine('unbound');
  if (!program) throw new Error('unbound is not installed');
  startEngine(t, program, ['-d', '-c', config]);
  await untilAccepts({ port, host: '127.0.0.1' });
  return `127.0.0.1:${port}`;
}
