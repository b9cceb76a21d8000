// A real Postfix with its own configuration, queue and data folders: a next hop that behaves like a front end.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
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

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise<void>(resolve => server.close(() => resolve()));
  return port;
}

const services = (port: number): string =>
  [`127.0.0.1:${port} inet n - n - - smtpd`, ...postfixServices, ''].join('\n');

/** Resolves when the port greets. */
async function greeted(port: number): Promise<void> {
  for (const until = Date.now() + 20_000; Date.now() < until; ) {
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
    if (outcome === 'up') return;
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
    if (!master) return;
    const ended = once(master, 'exit');
    signal('SIGCONT');
    master.kill('SIGTERM');
    master = undefined;
    await ended;
  };
  t.teardown(async () => {
    await stop();
    await rm(folder, { recursive: true, force: true });
  });
  return {
    port,
    maildir: path.join(mail, 'inbox'),
    async start() {
      // A process group of its own, which its children share.
      master = spawn('/usr/lib/postfix/sbin/master', ['-c', etc, '-d'], { stdio: 'ignore', detached: true });
      await greeted(port);
    },
    stop,
    async kill() {
      if (!master) return;
      const ended = once(master, 'exit');
      signal('SIGKILL');
      master = undefined;
      await ended;
    },
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
  };
}
