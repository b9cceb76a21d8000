// What senders hear of mail that was taken for some and refused for others: reports, signed by the chain, never for mail
// whose sender is forged; PRDR; recipients that do not share a message.
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { dkimVerify } from '../../harness/dkim-verdicts.ts';
import { startDnsServer } from '../../harness/dns-server.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { until } from '../../harness/gateway-files.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { startPeer } from '../relay/peers.ts';

const delivered = (folder: string): readonly string[] => {
  try {
    return readdirSync(path.join(folder, 'data', 'mail'), { recursive: true, encoding: 'utf8' })
      .filter(name => /\/(new|cur)\/[^/]+$/.test(name))
      .map(name => readFileSync(path.join(folder, 'data', 'mail', name), 'latin1'));
  } catch {
    return [];
  }
};

/** A gateway that signs and checks, in front of a next hop that knows everybody but `nobody`. */
async function setUp(t: Test, listener = '', queue = '') {
  const folder = t.testdir();
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(path.join(folder, 'key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const published = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  const dns = await startDnsServer({
    's1._domainkey.example.org': {
      TXT: [[`v=DKIM1; k=rsa; p=${published}`.slice(0, 250), `v=DKIM1; k=rsa; p=${published}`.slice(250)]],
    },
    'forged.test': { TXT: ['v=spf1 -all'] },
    'good.test': { TXT: ['v=spf1 +all'], A: ['127.0.0.1'] },
  });
  t.teardown(() => dns.close());
  const peer = await startPeer(t, {
    on: (verb, line) => (verb === 'RCPT' && line.includes('nobody@') ? '550 5.1.1 no such user here' : undefined),
  });
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }, { name: inner.test, kind: relay }, { name: good.test, kind: relay }]
dns: { servers: ['${dns.address}'] }
chain: [relay-policy, mail-auth, recipients, { dkim-sign: { keys: [{ domain: example.org, selector: s1, key: key.pem }] } }]
routes: [{ domain: '*', hosts: ['127.0.0.1:${peer.port}'] }]
queue: { firstRetry: 1s${queue} }
`;
  const listeners = `\n  - { name: smtp, role: smtp, port: 0, tls: none${listener} }`;
  const gateway = await startTestGateway({ folder, yaml, listeners, log: pino({ level: 'silent' }) });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO client.example.net');
  return { folder, dns, peer, gateway, smtp };
}
const body = 'From: a@good.test\r\nSubject: x\r\n\r\ntext\r\n';

t.test('split by disposition: the report is signed, and its signature verifies', async t => {
  const { peer, smtp, dns } = await setUp(t);
  t.match(await smtp.send({ from: 'a@good.test', to: ['bob@inner.test', 'nobody@inner.test'], body }), /^250/);
  const report = await until(() => peer.bodies.find(each => each.includes('multipart/report')), 'the report');
  t.match(report, /^DKIM-Signature: .*d=example\.org/ms);
  t.match(report, /Action: failed/);
  t.ok(
    peer.commands.includes('MAIL FROM:<> SIZE') || peer.commands.some(line => line.startsWith('MAIL FROM:<>')),
    'null sender',
  );
  t.same(await dkimVerify(Buffer.from(report, 'latin1'), dns.address), ['pass example.org']);
});

t.test('no report for a forged sender', async t => {
  const { peer, smtp, gateway, folder } = await setUp(t);
  t.match(await smtp.send({ from: 'victim@forged.test', to: ['bob@inner.test', 'nobody@inner.test'], body }), /^250/);
  t.match(await smtp.send({ from: 'a@good.test', to: ['bob@inner.test', 'nobody@inner.test'], body }), /^250/);
  await until(() => peer.bodies.find(each => each.includes('multipart/report')), 'the report about the second');
  await until(
    async () => ((await gateway.gateway.status()).queue.pending === 0 ? true : undefined),
    'the queue to empty',
  );
  const reports = peer.commands.filter(line => line.startsWith('RCPT') && /forged|good/.test(line));
  t.same(reports.length, 1, 'one report, and not to the forged sender');
  t.match(reports[0], /a@good\.test/);
  t.same(delivered(folder), []);
});

t.test('reports to one sender are limited, as the configuration is now', async t => {
  const limit = (count: number): string => `, reportsPerSender: ${count}`;
  const { peer, smtp, gateway, folder } = await setUp(t, '', limit(1));
  const refused = async (from: string, times: number): Promise<void> => {
    for (let n = 0; n < times; n += 1)
      t.match(await smtp.send({ from, to: ['bob@inner.test', 'nobody@inner.test'], body }), /^250/);
  };
  const told = (): string =>
    peer.commands
      .flatMap(line => /^RCPT TO:<(\w)@good\.test>/.exec(line)?.[1] ?? [])
      .sort()
      .join('');
  const settled = (failed: number) =>
    until(async () => {
      const { queue } = await gateway.gateway.status();
      return queue.pending === 0 && queue.failed === failed ? true : undefined;
    }, 'what may be told to be told');
  await refused('a@good.test', 2);
  await refused('b@good.test', 1);
  await settled(1);
  t.equal(told(), 'ab', 'the second waits');

  const file = path.join(folder, 'postern.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replace(limit(1), limit(3)));
  await gateway.gateway.reload(() => loadConfig(file, folder));
  await refused('c@good.test', 4);
  await refused('d@good.test', 1);
  await settled(2);
  t.equal(told(), 'abcccd');
});

t.test('PRDR: each recipient its own reply, and no report', async t => {
  const { peer, smtp, gateway } = await setUp(t, ', prdr: true');
  await smtp.command('MAIL FROM:<a@good.test> PRDR');
  for (const name of ['bob', 'nobody']) await smtp.command(`RCPT TO:<${name}@inner.test>`);
  await smtp.command('DATA', /^354/);
  smtp.write(`${body}.\r\n`);
  await smtp.expect(/^353/);
  await smtp.expect(/^250 2\.0\.0/);
  await smtp.expect(/^550 5\.1\.1/);
  await smtp.expect(/^250/);
  t.equal((await gateway.gateway.status()).queue.pending, 0);
  t.notOk(peer.bodies.some(each => each.includes('multipart/report')));
});

t.test('recipients that do not share a message: the refusal reaches the client, and no report arises', async t => {
  const { peer, smtp, gateway } = await setUp(t, ', recipientsTogether: one');
  await smtp.command('MAIL FROM:<a@good.test>');
  await smtp.command('RCPT TO:<bob@inner.test>');
  await smtp.command('RCPT TO:<nobody@inner.test>', /^452 4\.5\.3 /);
  await smtp.command('DATA', /^354/);
  smtp.write(`${body}.\r\n`);
  await smtp.expect(/^250/);
  t.match(await smtp.send({ from: 'a@good.test', to: ['nobody@inner.test'], body }), /^550 5\.1\.1/);
  t.equal((await gateway.gateway.status()).queue.pending, 0);
  t.equal(peer.bodies.length, 1);
});
