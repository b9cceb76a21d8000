// The demo of a first start: two users with passwords of their own, kept in a file that only the owner reads, so that a
// second start prints the same lines.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { LoadedConfig } from '../config/load.ts';
import { createDurableFiles } from '../lib/atomic-file.ts';

export interface DemoUser {
  readonly name: string;
  readonly password: string;
}

interface UserAdder {
  add(name: string, user: { readonly password: string }): Promise<unknown>;
  find(name: string): Promise<{ readonly kind: string }>;
}

const fileName = 'demo-users.json';

/** Makes the demo users where `demo: true` and they do not exist; undefined where the configuration has no demo. */
export async function ensureDemoUsers(
  config: LoadedConfig,
  dataFolder: string,
  users: UserAdder,
): Promise<readonly DemoUser[] | undefined> {
  const domain = config.options.domains.find(entry => entry.kind === 'local')?.name;
  if (!config.options.demo || domain === undefined) return undefined;
  const file = path.join(dataFolder, fileName);
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as DemoUser[]) : [];
  const demo = ['alice', 'bob'].map(
    local =>
      known.find(user => user.name === `${local}@${domain}`) ?? {
        name: `${local}@${domain}`,
        password: randomBytes(8).toString('hex'),
      },
  );
  if (known.length === 0) await createDurableFiles().write(file, `${JSON.stringify(demo, null, 2)}\n`, { mode: 0o600 });
  for (const user of demo)
    if ((await users.find(user.name)).kind === 'none') await users.add(user.name, { password: user.password });
  return demo;
}

export interface ListenerAddress {
  readonly name: string;
  readonly role: string;
  readonly tls: string;
  readonly address: string;
  readonly port: number;
}

/** Lines to copy and paste, for the listeners that are there. */
export function demoLines(
  listeners: readonly ListenerAddress[],
  users: readonly DemoUser[],
  demoCommand: string,
): readonly string[] {
  const [alice, bob] = users;
  if (!alice || !bob) return [];
  const find = (role: string, tls: string): ListenerAddress | undefined =>
    listeners.find(listener => listener.role === role && listener.tls === tls);
  const smtp = find('smtp', 'starttls') ?? find('smtp', 'none');
  const submission = find('submission', 'starttls');
  const submissions = find('submission', 'implicit');
  const imaps = find('imap', 'implicit');
  const imap = find('imap', 'starttls');
  const sieve = find('managesieve', 'starttls');
  const pop3s = find('pop3', 'implicit');
  const lines: string[] = ['Send:'];
  if (smtp)
    lines.push(
      `  swaks --server ${smtp.address}:${smtp.port} --from stranger@example.org --to ${bob.name} --header 'Subject: Hello Bob'`,
    );
  if (submission) {
    lines.push(
      `  swaks --server ${submission.address}:${submission.port} --tls --auth-user ${alice.name} --auth-password ${alice.password} --from ${alice.name} --to ${bob.name}`,
    );
  }
  if (submissions) {
    lines.push(
      `  printf 'From: ${alice.name}\\nTo: ${bob.name}\\nSubject: Hello from curl\\n\\nHi Bob\\n' | curl -sk --url smtps://${submissions.address}:${submissions.port} --user ${alice.name}:${alice.password} --mail-from ${alice.name} --mail-rcpt ${bob.name} -T - --crlf`,
    );
  }
  lines.push('Read:');
  if (imaps)
    lines.push(
      `  curl -sk --user ${bob.name}:${bob.password} 'imaps://${imaps.address}:${imaps.port}/INBOX;MAILINDEX=1'`,
    );
  if (pop3s) lines.push(`  curl -sk --user ${bob.name}:${bob.password} pop3s://${pop3s.address}:${pop3s.port}/1`);
  const account = [
    ...(imap ? [`IMAP ${imap.address} port ${imap.port} STARTTLS`] : []),
    ...(submission ? [`SMTP ${submission.address} port ${submission.port} STARTTLS`] : []),
  ];
  lines.push(
    `  Thunderbird: ${account.join(', ')}, normal password, user name ${bob.name}, password ${bob.password}`,
    ...(sieve ? [`Sort (ManageSieve ${sieve.address}:${sieve.port}, same password):`] : []),
    ...(sieve
      ? [`  sieve-connect --server ${sieve.address} --port ${sieve.port} --user ${bob.name} --notlsverify --list`]
      : []),
    'See why:',
    `  ${demoCommand} trace ID`,
  );
  return lines;
}
