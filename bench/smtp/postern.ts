// Postern as it is started by `postern start`, with the default chain: delivers to a Maildir before its 250, or hands the
// message to the next hop before it (cut-through).
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runToEnd, startDaemon, waitForGreeting } from '../lib/processes.ts';
import type { Contestant } from './contestant.ts';

const local = 'domains: [{ name: bench.local }]';
const relayed = (port: number): string => `domains: [{ name: bench.local, kind: relay }]
routes: [{ domain: bench.local, hosts: ['127.0.0.1:${port}'], tls: none }]`;

/** Delivers to a Maildir, or relays to `sinkPort` where that is given. */
export function postern(scratch: string, root: string, port: number, sinkPort?: number): Contestant {
  const folder = path.join(scratch, 'postern');
  const main = path.join(root, 'build/core/main.js');
  const config = path.join(folder, 'postern.yaml');
  const inbox = path.join(folder, 'data/mail/bench.local/b/new');

  async function addUser(): Promise<void> {
    const words = ['--config', config, 'user', 'add', 'b@bench.local', '--generate'];
    const added = await runToEnd(process.execPath, [main, ...words]);
    if (added.code !== 0) throw new Error(`Cannot add the user: ${added.output}`);
  }

  return {
    name: 'postern',
    port,
    folder,
    promise: sinkPort === undefined ? 'fsynced to the Maildir' : 'the next hop has it, or it is fsynced to the queue',
    available: () => existsSync(main),
    prepare() {
      // The chain of config/postern.yaml, word for word.
      writeFileSync(
        config,
        `hostname: mx.bench.local
dataDir: data
${sinkPort === undefined ? local : relayed(sinkPort)}
listeners:
  - { name: smtp, role: smtp, port: ${port}, tls: none, limits: { connections: 2000, connectionsPerAddress: 2000 } }
chain: [auth, limits, { dnsbl: { lists: [] } }, relay-policy, aliases, recipients, rfc822, sieve]
log: { level: warn, format: json }
`,
      );
    },
    async start() {
      if (sinkPort === undefined) await addUser();
      const daemon = await startDaemon(process.execPath, [main, '--config', config, 'start'], {
        logFile: path.join(folder, 'log'),
      });
      await waitForGreeting(port);
      return daemon;
    },
    backlog: () => 0,
    ...(sinkPort === undefined && { delivered: () => (existsSync(inbox) ? readdirSync(inbox).length : 0) }),
  };
}
