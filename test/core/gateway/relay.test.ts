// The whole gateway in front of a next hop: cut-through, its 5xx to the real client, queue while it is down, and a report
// into the sender's mailbox.
import t from 'tap';
import { startTestGateway } from '../../harness/gateway.ts';
import { deliveredFiles, until } from '../../harness/gateway-files.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { type Peer, startPeer } from '../relay/peers.ts';

const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }\n  - { name: lmtp, role: lmtp, port: 0 }';

t.test('in front of another mail server', async t => {
  let up = true;
  const peer: Peer = await startPeer(t, {
    extensions: ['PIPELINING', 'CHUNKING', 'XFORWARD NAME ADDR'],
    on: (verb, line) => {
      if (verb === 'MAIL' && !up) return '421 4.3.2 exch01.corp.local is shutting down';
      if (verb === 'RCPT' && line.includes('nobody@'))
        return '550 5.1.1 no mailbox in CORP\\users at exch01.corp.local';
      return undefined;
    },
  });
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }, { name: inner.test, kind: relay }]
relayNetworks: [127.0.0.0/8]
chain: [relay-policy, recipients]
routes: [{ domain: inner.test, hosts: ['127.0.0.1:${peer.port}'], clientFacts: xforward }]
queue: { firstRetry: 1s }
`;
  const folder = t.testdir();
  const gateway = await startTestGateway({ folder, yaml, listeners });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO client.example.net');
  const body = (mark: string): string => `Subject: ${mark}\r\n\r\n.text\r\n`;
  const send = (mark: string, ...to: readonly string[]) => smtp.send({ from: 'ann@example.org', to, body: body(mark) });

  t.match(await send('one', 'bob@inner.test'), /^250 2\.0\.0 /);
  t.equal(peer.bodies.length, 1, 'delivered before the reply');
  t.ok(peer.bodies[0]?.startsWith('Received: from client.example.net'));
  t.ok(peer.bodies[0]?.endsWith(body('one')), 'byte for byte');
  t.match(peer.commands.join('\n'), /XFORWARD .*ADDR=127\.0\.0\.1/);

  const refused = await send('two', 'nobody@inner.test');
  t.match(refused, /^550 5\.1\.1 /);
  t.notMatch(refused, /corp|CORP|exch/, 'no inner host, no path');

  t.match(await send('three', 'nobody@inner.test', 'ann@example.org', 'bob@inner.test'), /^250/);
  await until(() => deliveredFiles(folder).length === 2, 'the message and the report');
  const report = deliveredFiles(folder).find(text => text.includes('delivery-status')) ?? '';
  t.match(report, /Return-Path: <>/);
  t.match(report, /Final-Recipient: rfc822; nobody@inner\.test\r?\nAction: failed\r?\nStatus: 5\.1\.1/);
  t.notMatch(report, /corp|CORP|exch/);

  up = false;
  const marks = Array.from({ length: 20 }, (_, n) => `down${n}`);
  for (const mark of marks) t.match(await send(mark, 'bob@inner.test'), /^250/);
  const { queue } = await gateway.gateway.status();
  t.equal(queue.pending, 20);
  up = true;
  await until(() => peer.bodies.length === 22, 'the queue to empty');
  const subjects = peer.bodies.slice(2).map(each => /^Subject: (.*)\r$/m.exec(each)?.[1] ?? '');
  t.same(subjects.sort(), marks.sort(), 'all, each once');
  await until(async () => (await gateway.gateway.status()).queue.pending === 0, 'the last to be entered');
});
