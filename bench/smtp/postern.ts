// Postern as it is started by `postern start`, with the default chain, delivering to a Maildir before its 250.
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runToEnd, startDaemon, waitForGreeting } from '../lib/processes.ts';
import type { Contestant } from './contestant.ts';

export function postern(scratch: string, root: string, port = 2651): Contestant {
  const folder = path.join(scratch, 'postern');
  const main = path.join(root, 'build/core/main.js');
  const config = path.join(folder, 'postern.yaml');
  const inbox = path.join(folder, 'data/mail/bench.local/b/new');
  return {
    name: 'postern',
    port,
    folder,
    promise: 'fsynced to the Maildir',
    available: () => existsSync(main),
    prepare() {
      // The chain of config/postern.yaml, word for word.
      writeFileSync(
        config,
        `hostname: mx.bench.local
dataDir: data
domains: [{ name: bench.local }]
listeners:
  - { name: smtp, role: smtp, port: ${port}, tls: none, limits: { connections: 2000, connectionsPerAddress: 2000 } }
chain: [auth, limits, { dnsbl: { lists: [] } }, relay-policy, aliases, recipients, rfc822, sieve]
log: { level: warn, format: json }
`,
      );
    },
    async start() {
      const added = await runToEnd(process.execPath, [
        main,
        '--config',
        config,
        'user',
        'add',
        'b@bench.local',
        '--generate',
      ]);
      if (added.code !== 0) throw new Error(`Cannot add the user: ${added.output}`);
      const daemon = await startDaemon(process.execPath, [main, '--config', config, 'start'], {
        logFile: path.join(folder, 'log'),
      });
      await waitForGreeting(port);
      return daemon;
    },
    backlog: () => 0,
    delivered: () => (existsSync(inbox) ? readdirSync(inbox).length : 0),
  };
}
