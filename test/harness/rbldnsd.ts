// A real rbldnsd with lists from objects: what block lists are served with. Started by root it becomes the user `rbldns`.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns } from '../../core/net/dns.ts';
import { findEngine } from './engine.ts';
import { type EngineProcess, engineFolder, startEngine, type Teardown } from './engine-process.ts';
import { freePort } from './gateway-process.ts';

/** Zone → lines of its data file, of type `dnset` for names and `ip4set` or `ip6trie` for addresses. */
export type ListData = Readonly<
  Record<string, { readonly type: 'dnset' | 'ip4set' | 'ip6trie'; readonly lines: string }>
>;

export interface Rbldnsd extends EngineProcess {
  /** `127.0.0.1:port` */
  readonly address: string;
}

export async function startRbldnsd(t: Teardown, lists: ListData): Promise<Rbldnsd> {
  const folder = await engineFolder(t, 'rbldnsd');
  const zones = path.join(folder, 'zones');
  await mkdir(zones);
  const specs: string[] = [];
  for (const [zone, { type, lines }] of Object.entries(lists)) {
    const file = `${zone}.${type}`;
    const text = lines.split('\n').map(line => line.trim());
    await writeFile(
      path.join(zones, file),
      `$SOA 60 ns.test. hostmaster.test. 0 600 60 86400 60\n${text.join('\n')}\n`,
    );
    specs.push(`${zone}:${type}:${file}`);
  }
  const program = findEngine('rbldnsd');
  if (!program) throw new Error('rbldnsd is not installed');
  const port = await freePort();
  const engine = startEngine(t, program, ['-n', '-4', '-t', '60', '-w', zones, '-b', `127.0.0.1/${port}`, ...specs]);
  const address = `127.0.0.1:${port}`;
  await untilAnswers(address, Object.keys(lists)[0] ?? '');
  return { ...engine, address };
}

/** It speaks UDP only and tells nobody when it is ready, so it is asked. */
async function untilAnswers(address: string, zone: string): Promise<void> {
  const until = Date.now() + 120_000;
  while (Date.now() < until) {
    const dns = createDns({ clock: systemClock, servers: [address], attemptMs: 200, totalMs: 400 });
    const answer = await dns.query(`ready.${zone}`, 'A');
    dns.close();
    if (answer.kind !== 'tempfail') return;
  }
  throw new Error(`rbldnsd does not answer at ${address}`);
}
