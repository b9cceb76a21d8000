// Haraka with `queue/smtp_forward` and its stock settings: 250 once the next hop said so, nothing on disk here. Not a
// dependency of ours: `npm install --prefix /tmp/haraka Haraka@3.3.4` and `--haraka=/tmp/haraka`.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startDaemon, waitForGreeting } from '../lib/processes.ts';
import type { Contestant } from './contestant.ts';

/** `installed`: folder of the node_modules that hold Haraka. */
export function harakaRelay(scratch: string, port: number, sinkPort: number, installed: string): Contestant {
  const folder = path.join(scratch, 'haraka');
  const program = path.join(installed, 'node_modules/Haraka');
  return {
    name: 'haraka',
    port,
    folder,
    promise: 'the next hop has it; nothing on disk',
    available: () => existsSync(path.join(program, 'haraka.js')),
    prepare() {
      for (const name of ['config', 'plugins', 'queue']) mkdirSync(path.join(folder, name), { recursive: true });
      const config = (name: string, text: string): void => writeFileSync(path.join(folder, 'config', name), text);
      config('smtp.ini', `listen=127.0.0.1:${port}\n`);
      config('host_list', 'bench.local\n');
      config('me', 'haraka.bench.local\n');
      // A partial connection.ini makes Haraka 3.3.4 throw at each connection: the stock one, for larger messages.
      const stock = readFileSync(path.join(program, 'config/connection.ini'), 'utf8');
      config('connection.ini', stock.replace(/^bytes=.*$/m, 'bytes=52428800'));
      config('log.ini', '[main]\nlevel=error\nformat=default\n');
      config('smtp_forward.ini', `host=127.0.0.1\nport=${sinkPort}\n`);
      config('plugins', 'rcpt_to.in_host_list\nqueue/smtp_forward\n');
      config('internalcmd_key', 'x\n');
      writeFileSync(path.join(folder, 'package.json'), '{"private":true}');
    },
    async start() {
      const daemon = await startDaemon(process.execPath, [path.join(program, 'haraka.js'), '-c', folder], {
        logFile: path.join(folder, 'log'),
        cwd: folder,
        env: { HARAKA: folder },
      });
      await waitForGreeting(port);
      return daemon;
    },
    backlog: () => 0,
  };
}
