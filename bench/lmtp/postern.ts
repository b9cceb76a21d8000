// Postern as it is started by `postern start`, with the default chain and an LMTP listener.
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { greetedOrStopped, runToEnd, startDaemon } from '../lib/processes.ts';
import { twentyRules } from '../lib/rules.ts';
import type { LmtpContestant } from './contestant.ts';

export function postern(scratch: string, root: string, port = 2635): LmtpContestant {
  const folder = path.join(scratch, 'postern');
  const main = path.join(root, 'build/core/main.js');
  const config = path.join(folder, 'postern.yaml');
  const command = async (...args: readonly string[]): Promise<void> => {
    const done = await runToEnd(process.execPath, [main, '--config', config, ...args]);
    if (done.code !== 0) throw new Error(`'postern ${args.join(' ')}' failed: ${done.output}`);
  };
  return {
    name: 'postern',
    port,
    folder,
    available: () => existsSync(main),
    async prepare() {
      // The chain of config/postern.yaml, word for word.
      writeFileSync(
        config,
        `hostname: mx.bench.local
dataDir: data
domains: [{ name: bench.local }]
listeners:
  - { name: lmtp, role: lmtp, port: ${port}, tls: none }
chain: [auth, limits, { dnsbl: { lists: [] } }, relay-policy, aliases, recipients, rfc822, sieve]
log: { level: warn, format: json }
`,
      );
      const script = path.join(folder, 'rules.sieve');
      writeFileSync(script, twentyRules());
      for (const user of ['plain', 'sieve']) await command('user', 'add', `${user}@bench.local`, '--generate');
      await command('sieve', 'put', 'sieve@bench.local', script, '--activate');
    },
    async start() {
      const daemon = await startDaemon(process.execPath, [main, '--config', config, 'start'], {
        logFile: path.join(folder, 'log'),
        namespaced: true,
      });
      await greetedOrStopped(daemon, port);
      return daemon;
    },
    maildir: user => path.join(folder, 'data/mail/bench.local', user),
  };
}
