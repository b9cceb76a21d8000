import t from 'tap';
import { examplePerRecipient } from '../../plugins/example-per-recipient/index.ts';
import { startTestGateway } from '../harness/gateway.ts';
import { guardedLogger } from '../harness/log-guard.ts';
import { plugin } from '../harness/plugin.ts';
import { SmtpClient } from '../harness/smtp-client.ts';

t.test('who may write to whom', async t => {
  const p = await plugin(examplePerRecipient, {
    recipients: [
      { address: 'Staff@example.org', senders: ['@example.org', 'boss@example.net'] },
      { address: '@closed.example', senders: [] },
    ],
  });
  t.teardown(() => p.close());
  await p.mail('stranger@example.net');
  t.match(await p.rcpt('staff@example.org'), { kind: 'reject', reply: { code: 550, enhanced: '5.7.1' } });
  t.equal((await p.rcpt('bob@example.org')).kind, 'continue');
  t.equal((await p.rcpt('x@closed.example')).kind, 'reject');
  for (const sender of ['Boss@Example.net', 'ann@example.org', null]) {
    await p.mail(sender);
    t.equal((await p.rcpt('STAFF@example.org')).kind, 'continue', `${sender}`);
  }
});

t.test('no attachments for one recipient, the message for the other', { timeout: 600_000 }, async t => {
  const gateway = await startTestGateway({
    folder: t.testdir(),
    yaml: `
hostname: mx.example.org
domains: [{ name: example.org }]
chain:
  - relay-policy
  - example-per-recipient: { recipients: [{ address: desk@example.org, attachments: false }] }
  - recipients
`,
    // The report to a stranger finds no way here.
    log: guardedLogger({ expected: [/double-bounce-dropped/] }),
    listeners: '\n  - { name: smtp, role: smtp, port: 0, tls: none }',
  });
  t.teardown(() => gateway.stop());
  for (const name of ['desk', 'bob'])
    await gateway.gateway.users.add(`${name}@example.org`, { password: 'some-password' });
  const client = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => client.close());
  await client.command('EHLO client.example');
  const attached =
    'Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\ny\r\n--b--\r\n';
  const send = (to: readonly string[], body: string) =>
    client.send({ from: 'a@example.net', to: to.map(name => `${name}@example.org`), body });
  t.match(await send(['desk'], 'Subject: plain\r\n\r\nx\r\n'), /^250 /);
  t.match(await send(['desk'], attached), /^550 5\.7\.1 This address takes no attachments/);
  t.match(await send(['desk', 'bob'], attached), /^250 /);
  t.match(gateway.traces.at(-1)?.recipients, [
    { address: 'desk@example.org', outcome: /^(?!delivered)/ },
    { address: 'bob@example.org', outcome: 'delivered' },
  ]);
});
