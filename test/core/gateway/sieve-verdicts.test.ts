// What real filters of the chain found out reaches users' rules: spamtest and virustest (RFC 5235).
import { readdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { eicar, startClamd } from '../../harness/clamd.ts';
import { requireEngines } from '../../harness/engine.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { gtube, startSpamd } from '../../harness/spamd.ts';

const script = `
require ["spamtestplus", "virustest", "fileinto", "mailbox", "relational", "comparator-i;ascii-numeric"];
if virustest :value "eq" :comparator "i;ascii-numeric" "5" { fileinto :create "Virus"; stop; }
if virustest :value "eq" :comparator "i;ascii-numeric" "0" { fileinto :create "Unchecked"; stop; }
if spamtest :percent :value "eq" :comparator "i;ascii-numeric" "100" { fileinto :create "Spam"; stop; }
if spamtest :value "eq" :comparator "i;ascii-numeric" "0" { fileinto :create "Unchecked"; stop; }
`;

t.test('spamtest and virustest read what spamd and clamd said', { timeout: 240_000 }, async t => {
  if (!requireEngines(t, 'rules behind clamd and spamd', 'clamd', 'spamd')) return;
  const [clamd, spamd] = await Promise.all([startClamd(t), startSpamd(t)]);
  const folder = t.testdir();
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
chain:
  - relay-policy
  - recipients
  - clamav: { hosts: ['${clamd.socket}'], hostTimeout: 100s, timeout: 120s, infected: tag }
  - spamassassin: { hosts: ['${spamd.socket}'], hostTimeout: 100s, timeout: 120s, thresholds: { reject: never } }
  - sieve
`;
  const gateway = await startTestGateway({
    folder,
    yaml,
    listeners: '\n  - { name: smtp, role: smtp, port: 0, tls: none }',
  });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('bob@example.org', { password: 'secret' });
  await gateway.gateway.scripts.put('bob@example.org', 'main', Buffer.from(script));
  await gateway.gateway.scripts.activate('bob@example.org', 'main');
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO mx.sender.example');
  const header = (id: number): string =>
    `From: Ann <ann@sender.example>\r\nTo: bob@example.org\r\nSubject: lunch\r\nDate: Sat, 21 Nov 2026 08:00:00 +0000\r\nMessage-ID: <${id}@sender.example>\r\n\r\n`;
  for (const [id, body] of [eicar, gtube, 'Lunch?'].entries())
    t.match(
      await smtp.send({ from: 'ann@sender.example', to: ['bob@example.org'], body: `${header(id)}${body}\r\n` }),
      /^250 /,
    );
  const count = (mailbox: string): number => {
    const where = path.join(folder, 'data/mail/example.org/bob', mailbox, 'new');
    return readdirSync(where).length;
  };
  t.same(['.Virus', '.Spam', ''].map(count), [1, 1, 1]);
});
