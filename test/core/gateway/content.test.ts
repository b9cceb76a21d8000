// Rewriting, sender check, attachments, banner and forwarding together, in a whole gateway: what a client hears, what lies in
// the mailbox, what the next hop gets.
import { execFile } from 'node:child_process';
import t from 'tap';
import { findEngine, requireEngines } from '../../harness/engine.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { deliveredFiles, until } from '../../harness/gateway-files.ts';
import { runPostern } from '../../harness/gateway-process.ts';
import { mailWith, program } from '../../plugins/attachment-files.ts';
import { startPeer } from '../relay/peers.ts';

t.test('content filters in a whole gateway', async t => {
  if (!requireEngines(t, 'content filters with swaks', 'swaks')) return;
  const peer = await startPeer(t);
  const folder = t.testdir({
    logins: 'sales@example.org  ann@example.org\n',
    'harmless.eml': mailWith('notes.txt', Buffer.from('hello')),
    'program.eml': mailWith('invoice.pdf.exe', program),
    'macro.eml': mailWith('letter.docm', Buffer.from('PK')),
  });
  const gateway = await startTestGateway({
    folder,
    listeners:
      '\n  - { name: smtp, role: smtp, port: 0, tls: none }\n  - { name: submission, role: submission, port: 0 }',
    yaml: `
hostname: mx.example.org
domains: [{ name: example.org }]
chain:
  - auth
  - sender-login: { maps: ['hash:logins'] }
  - relay-policy
  - rewrite:
      envelopeRecipient: ['inline:{ old@example.org=ann@example.org }']
      envelopeSender: [{ pattern: '@corp.local', to: '@example.org' }]
      headerSender: [{ pattern: '@corp.local', to: '@example.org' }]
  - aliases
  - recipients
  - attachments: { rules: [{ is: [executable], action: reject }, { is: [macro], action: strip }] }
  - banner: { text: 'From outside', subject: '[EXT]' }
  - headers: { rules: [{ origin: inside, received: hide }] }
routes: [{ domain: far.test, hosts: ['127.0.0.1:${peer.port}'] }]
`,
  });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  // Not in step with this process, in which the gateway runs.
  const swaks = (listener: string, ...args: readonly string[]): Promise<string> =>
    new Promise(resolve => {
      const server = ['--server', `127.0.0.1:${gateway.port(listener)}`, '--helo', 'client.test'];
      execFile(findEngine('swaks') ?? 'swaks', [...server, ...args], { cwd: folder }, (_error, said) => resolve(said));
    });
  const stranger = (file: string, to = 'ann@example.org') =>
    swaks('smtp', '--from', 'x@a.test', '--to', to, '--data', `@${file}`);
  t.match(await stranger('harmless.eml', 'old@example.org'), /250 2\.0\.0/);
  await until(() => deliveredFiles(folder).length === 1, 'the first message');
  const [first = ''] = deliveredFiles(folder);
  t.match(first, /^X-External-Sender: yes$/m);
  t.match(first, /^Subject: \[EXT\] x$/m);
  t.match(first, /\r\nFrom outside\r\n\r\nSee below\.\r\n/);
  t.match(await stranger('program.eml'), /<\*\* 550 5\.7\.1 Message contains an attachment/);
  t.match(await stranger('macro.eml'), /250 2\.0\.0/);
  await until(() => deliveredFiles(folder).length === 2, 'the stripped message');
  const stripped = deliveredFiles(folder).find(text => text.includes('letter.docm')) ?? '';
  t.match(stripped, /^X-Attachment-Status: strip macro/m);
  t.match(stripped.replace(/=\r\n/g, ''), /attachment "letter\.docm" was removed by the mail gateway mx\.example\.org/);

  const listed = await runPostern(['--config', `${folder}/postern.yaml`, '--json', 'quarantine', 'list']);
  t.match(JSON.parse(listed.stdout), [{ reason: 'attachment', why: /letter\.docm: macro/ }], 'the original is kept');

  const login = [
    '--tls',
    '--auth-user',
    'ann@example.org',
    '--auth-password',
    'secret',
    '--to',
    'y@far.test',
    '--suppress-data',
  ];
  const own = (from: string, header = from) =>
    swaks('submission', ...login, '--from', from, '--header', `From: ${header}`);
  t.match(await own('eve@example.org'), /<[~*]+ 553 5\.7\.1/);
  t.match(await own('sales@example.org', 'eve@example.org'), /<[~*]+ 553 5\.7\.1/);
  t.match(await own('sales@example.org'), /250 2\.0\.0/);
  await until(() => peer.bodies.length === 1, 'the outgoing message');
  const received = (peer.bodies[0] ?? '').match(/^Received: .*(?:\r\n[ \t].*)*/gm) ?? [];
  t.equal(received.length, 1);
  t.notMatch(received[0], /client\.test|127\.0\.0\.1/, 'the client is not named');
  t.notMatch(peer.bodies[0], /X-External-Sender|\[EXT\]/);
});
