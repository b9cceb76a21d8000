// Dovecot's LMTP with Pigeonhole: Maildir, passwd-file, stock settings otherwise. Needs root.
import { chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { findEngine } from '../../test/harness/engine.ts';
import { greetedOrStopped, startDaemon } from '../lib/processes.ts';
import { twentyRules } from '../lib/rules.ts';
import type { LmtpContestant } from './contestant.ts';

const uid = 5000;

export function dovecot(scratch: string, port = 2634): LmtpContestant {
  const folder = path.join(scratch, 'dovecot');
  const home = (user: string): string => path.join(folder, 'mail', user);
  return {
    name: 'dovecot',
    port,
    folder,
    available: () =>
      process.getuid?.() === 0 &&
      findEngine('dovecot-lmtp') !== undefined &&
      existsSync('/usr/lib/dovecot/modules/lib90_sieve_plugin.so'),
    async prepare() {
      for (const user of ['plain', 'sieve']) {
        mkdirSync(home(user), { recursive: true });
        if (user === 'sieve') writeFileSync(path.join(home(user), '.dovecot.sieve'), twentyRules());
        chownSync(home(user), uid, uid);
      }
      mkdirSync(path.join(folder, 'run'), { recursive: true });
      const lines = ['plain', 'sieve'].map(user => `${user}:{PLAIN}pw:${uid}:${uid}::${home(user)}::\n`);
      writeFileSync(path.join(folder, 'users'), lines.join(''), { mode: 0o644 });
      writeFileSync(path.join(folder, 'dovecot.conf'), configuration(folder, port));
    },
    async start() {
      const daemon = await startDaemon('dovecot', ['-F', '-c', path.join(folder, 'dovecot.conf')], {
        logFile: path.join(folder, 'out'),
        namespaced: true,
      });
      await greetedOrStopped(daemon, port);
      return daemon;
    },
    maildir: user => path.join(home(user), 'Maildir'),
  };
}

const configuration = (folder: string, port: number): string => `base_dir = ${folder}/run
state_dir = ${folder}/run
log_path = ${folder}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
mail_location = maildir:~/Maildir
first_valid_uid = 1
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%n ${folder}/users
}
userdb {
  driver = passwd-file
  args = username_format=%n ${folder}/users
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = ${port}
  }
}
protocol lmtp {
  mail_plugins = sieve
}
plugin {
  sieve = file:~/sieve;active=~/.dovecot.sieve
}
`;
