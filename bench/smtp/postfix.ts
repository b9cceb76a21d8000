// Postfix with configuration, queue and data folders of its own: accepts, fsyncs to its queue, then delivers to a Maildir or
// relays to a next hop.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { postfixServices } from '../../test/harness/postfix-services.ts';
import { startDaemon, waitForGreeting } from '../lib/processes.ts';
import type { Contestant } from './contestant.ts';

const master = '/usr/lib/postfix/sbin/master';
/** Owner of the mailboxes; any id that is not root. */
const owner = 5000;

function run(command: string, ...args: readonly string[]): void {
  const done = spawnSync(command, args, { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${done.stderr}`);
}

function countFiles(folder: string): number {
  return readdirSync(folder, { withFileTypes: true }).reduce(
    (sum, entry) => sum + (entry.isDirectory() ? countFiles(path.join(folder, entry.name)) : 1),
    0,
  );
}

const mainCf = (etc: string, spool: string, data: string, destination: string): string => `compatibility_level = 3.6
config_directory = ${etc}
queue_directory = ${spool}
data_directory = ${data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
multi_instance_name = postfix-bench
multi_instance_enable = yes
myhostname = mx.bench.local
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
smtpd_tls_security_level = none
smtp_tls_security_level = none
smtpd_recipient_restrictions = permit_mynetworks, reject
smtputf8_enable = no
biff = no
in_flow_delay = 0
message_size_limit = 52428800
alias_maps =
alias_database =
local_recipient_maps =
${destination}`;

const toMaildir = (mail: string): string => `virtual_mailbox_domains = bench.local
virtual_mailbox_base = ${mail}
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:${owner}
virtual_gid_maps = static:${owner}
virtual_mailbox_limit = 0
`;

const toNextHop = (port: number): string => `relay_domains = bench.local
relay_transport = relay:[127.0.0.1]:${port}
default_transport = error:no
`;

/** Delivers to a Maildir, or relays to `sinkPort` where that is given. */
export function postfix(scratch: string, port: number, sinkPort?: number): Contestant {
  const folder = path.join(scratch, 'postfix');
  const within = (name: string): string => path.join(folder, name);
  const [etc, spool, data, mail] = [within('etc'), within('spool'), within('data'), within('mail')];
  const inbox = path.join(mail, 'inbox/new');
  return {
    name: 'postfix',
    port,
    folder,
    promise: `fsynced to the queue; then ${sinkPort === undefined ? 'delivered, fsynced, to a Maildir' : 'relayed'}`,
    available: () => existsSync(master) && process.getuid?.() === 0,
    prepare() {
      for (const name of [etc, spool, data, mail]) mkdirSync(name, { recursive: true });
      const destination = sinkPort === undefined ? toMaildir(mail) : toNextHop(sinkPort);
      writeFileSync(path.join(etc, 'main.cf'), mainCf(etc, spool, data, destination));
      writeFileSync(
        path.join(etc, 'master.cf'),
        `${[`127.0.0.1:${port} inet n - n - - smtpd`, ...postfixServices].join('\n')}\n`,
      );
      run('chown', `${owner}:${owner}`, mail);
      run('chown', 'postfix', data);
      run('chmod', '755', scratch, folder, etc, spool);
      run('postfix', '-c', etc, 'check');
    },
    async start() {
      const daemon = await startDaemon(master, ['-c', etc, '-d'], {
        logFile: path.join(folder, 'master.log'),
        namespaced: true,
      });
      await waitForGreeting(port);
      return daemon;
    },
    backlog: () =>
      ['incoming', 'active', 'deferred'].reduce((sum, queue) => sum + countFiles(path.join(spool, queue)), 0),
    ...(sinkPort === undefined && { delivered: () => (existsSync(inbox) ? readdirSync(inbox).length : 0) }),
  };
}
