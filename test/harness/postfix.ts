// A real Postfix with its own configuration, queue and data folders: a next hop that behaves like a front end.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from './gateway-process.ts';
import { postfixServices } from './postfix-services.ts';

export interface PostfixOptions {
  /** Domains that it takes mail for. */
  readonly domains: readonly string[];
  /** Known recipients; absent: it takes all (as an Exchange without recipient filter does). */
  readonly recipients?: readonly string[];
  /** Further lines for main.cf. */
  readonly settings?: readonly string[];
}

export interface Postfix {
  readonly port: number;
  /** Folder of the Maildir that all mail ends in. */
  readonly maildir: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Ends all of it at this instant (SIGKILL). */
  kill(): Promise<void>;
  /** Stops all of it without ending it, as a machine that hangs. */
  freeze(): void;
  thaw(): void;
}

interface Teardown {
  teardown(run: () => Promise<void>): unknown;
}

const services = (port: number): string =>
  [`127.0.0.1:${port} inet n - n - - smtpd`, ...postfixServices, ''].join('\n');

const isOver = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null;

/** Resolves when the port greets: true; or when the process is over: false. */
async function greets(port: number, master: ChildProcess): Promise<boolean> {
  for (const until = Date.now() + 120_000; Date.now() < until; ) {
    if (isOver(master)) return false;
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    const outcome = await Promise.race([
      once(socket, 'data', { signal: AbortSignal.timeout(2_000) }).then(
        () => 'up',
        () => 'down',
      ),
      once(socket, 'close').then(() => 'down'),
    ]);
    socket.destroy();
    if (outcome === 'up') return true;
    await delay(20);
  }
  throw new Error(`Nothing greets on port ${port}`);
}

export async function makePostfix(t: Teardown, options: PostfixOptions): Promise<Postfix> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-postfix-'));
  const [etc, spool, data, mail] = ['etc', 'spool', 'data', 'mail'].map(name => path.join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  for (const each of [etc, spool, data, mail]) await mkdir(each);
  await chmod(folder, 0o755);
  const port = await freePort();
  const known = options.recipients;
  await writeFile(
    path.join(etc, 'main.cf'),
    [
      'compatibility_level = 3.6',
      `config_directory = ${etc}`,
      `queue_directory = ${spool}`,
      `data_directory = ${data}`,
      'command_directory = /usr/sbin',
      'daemon_directory = /usr/lib/postfix/sbin',
      'mail_owner = postfix',
      'setgid_group = postdrop',
      'myhostname = inner.test',
      'mydestination =',
      'mynetworks = 127.0.0.0/8',
      'inet_interfaces = 127.0.0.1',
      'inet_protocols = ipv4',
      'smtp_dns_support_level = disabled',
      'smtpd_recipient_restrictions = reject_unauth_destination',
      'smtpd_relay_restrictions = reject_unauth_destination',
      'smtpd_authorized_xclient_hosts = 127.0.0.0/8',
      'smtpd_authorized_xforward_hosts = 127.0.0.0/8',
      'smtputf8_enable = yes',
      'biff = no',
      'in_flow_delay = 0',
      'alias_maps =',
      'alias_database =',
      'local_recipient_maps =',
      `virtual_mailbox_domains = ${options.domains.join(', ')}`,
      `virtual_mailbox_base = ${mail}`,
      // Everything known ends in one Maildir.
      known
        ? `virtual_mailbox_maps = inline:{ ${known.map(each => `{ ${each} = inbox/ }`).join(', ')} }`
        : 'virtual_mailbox_maps = static:inbox/',
      'virtual_uid_maps = static:5000',
      'virtual_gid_maps = static:5000',
      'virtual_mailbox_limit = 0',
      `maillog_file_prefixes = ${folder}`,
      `maillog_file = ${folder}/log`,
      ...(options.settings ?? []),
      '',
    ].join('\n'),
  );
  await writeFile(path.join(etc, 'master.cf'), services(port));
  spawnSync('chown', ['postfix', data]);
  spawnSync('chown', ['5000:5000', mail]);
  const check = spawnSync('postfix', ['-c', etc, 'check'], { encoding: 'utf8' });
  if (check.status !== 0) throw new Error(`Postfix refuses its configuration: ${check.stderr}`);
  let master: ChildProcess | undefined;
  const signal = (name: NodeJS.Signals): void => {
    if (master?.pid !== undefined) process.kill(-master.pid, name);
  };
  const stop = async (): Promise<void> => {
    if (!master || isOver(master)) return;
    const ended = once(master, 'exit');
    signal('SIGCONT');
    master.kill('SIGTERM');
    master = undefined;
    await ended;
  };
  t.teardown(async () => {
    await stop();
    // Its children may still be about to end.
    await rm(folder, { recursive: true, force: true, maxRetries: 20 });
  });
  return {
    port,
    maildir: path.join(mail, 'inbox'),
    async start() {
      for (const until = Date.now() + 120_000; Date.now() < until; await delay(50)) {
        // A process group of its own, which its children share.
        master = spawn('/usr/lib/postfix/sbin/master', ['-c', etc, '-d'], { stdio: 'ignore', detached: true });
        // After a kill a child may still hold the port for a moment: then this one ends at once.
        if (await greets(port, master)) return;
      }
      throw new Error(`Postfix does not start on port ${port}`);
    },
    stop,
    async kill() {
      if (!master || isOver(master)) return;
      const ended = once(master, 'exit');
      signal('SIGKILL');
      master = undefined;
      await ended;
    },
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
  };
}
