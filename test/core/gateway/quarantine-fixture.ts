// A gateway in a process of its own that quarantines what has no date, and the built command over it.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import {
  freePort,
  type GatewayProcess,
  runPostern,
  startGatewayProcess,
  writeConfig,
} from '../../harness/gateway-process.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const yamlOf = (port: number, more = ''): string => `hostname: mx.example.org
dataDir: data
domains: [{ name: example.org }]
listeners: [{ name: smtp, role: smtp, port: ${port}, tls: none }]
chain:
  - relay-policy
  - recipients
  - rfc822: { rules: { missing-date: quarantine } }
log: { level: error, format: json }
${more}`;

interface SetUp {
  readonly folder: string;
  readonly config: string;
  readonly port: number;
  gateway: GatewayProcess;
  postern(...args: readonly string[]): ReturnType<typeof runPostern>;
  json<T>(...args: readonly string[]): Promise<T>;
  /** Sends a message that the chain quarantines, or with a date one that passes. */
  send(subject: string, to: readonly string[], date?: boolean): Promise<string>;
  mailOf(user: string): readonly string[];
}

export async function setUp(t: Test, more = ''): Promise<SetUp> {
  const folder = t.testdir();
  const port = await freePort();
  const config = writeConfig(folder, yamlOf(port, more));
  for (const user of ['ann', 'ben']) await runPostern(['--config', config, 'user', 'add', user, '--generate']);
  const parts: SetUp = {
    folder,
    config,
    port,
    gateway: await startGatewayProcess(config, port),
    postern: (...args) => runPostern(['--config', config, ...args]),
    async json<T>(...args: readonly string[]) {
      const { stdout, stderr } = await runPostern(['--config', config, '--json', ...args]);
      if (stdout === '') throw new Error(stderr);
      return JSON.parse(stdout) as T;
    },
    async send(subject, to, date = false) {
      const client = await SmtpClient.open(port);
      await client.command('EHLO client.example.net');
      const body = `From: stranger@example.net\r\nMessage-ID: <${subject.replace(/\W/g, '')}@example.net>\r\n${date ? 'Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n' : ''}Subject: ${subject}\r\n\r\nHello\r\n`;
      const reply = await client.send({ from: 'stranger@example.net', to, body });
      client.close();
      const id = /^250 .* ([0-9A-Z]{17})\r\n$/.exec(reply)?.[1];
      if (!id) throw new Error(`No 250: ${reply}`);
      return id;
    },
    mailOf(user) {
      const maildir = path.join(folder, 'data/mail/example.org', user);
      try {
        return ['new', 'cur'].flatMap(sub =>
          readdirSync(path.join(maildir, sub)).map(name => readFileSync(path.join(maildir, sub, name), 'latin1')),
        );
      } catch {
        return [];
      }
    },
  };
  t.teardown(() => parts.gateway.end('SIGKILL'));
  return parts;
}
