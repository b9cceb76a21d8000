// Recipients of domains that live elsewhere, over a reload.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { startPeer } from '../relay/peers.ts';

const silent = pino({ level: 'silent' });
const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }';

t.test('a reload brings other recipients, and a broken one changes nothing', async t => {
  const peer = await startPeer(t, {
    on: (verb, line) => (verb === 'RCPT' && !line.includes('asked@') ? '550 5.1.1 unknown' : undefined),
  });
  const folder = t.testdir();
  const yamlFor = (recipients: string): string => `
hostname: mx.example.org
domains: [{ name: inner.test, kind: relay, recipients: ${recipients} }]
chain: [relay-policy, recipients]
routes: [{ domain: inner.test, hosts: ['127.0.0.1:${peer.port}'] }]
`;
  const gateway = await startTestGateway({ folder, yaml: yamlFor('{ list: [bob] }'), listeners, log: silent });
  t.teardown(() => gateway.stop());
  const file = path.join(folder, 'postern.yaml');
  const before = readFileSync(file, 'utf8');
  const load = (recipients: string) => {
    writeFileSync(file, before.replace('{ list: [bob] }', recipients));
    return gateway.gateway.reload(() => loadConfig(file, folder));
  };
  const ask = async (name: string, pattern: RegExp): Promise<void> => {
    const smtp = await SmtpClient.open(gateway.port('smtp'));
    await smtp.command('EHLO c.test');
    await smtp.command('MAIL FROM:<a@b.test>');
    await smtp.command(`RCPT TO:<${name}@inner.test>`, pattern);
    t.pass(`${name} ${pattern}`);
    smtp.close();
  };
  await ask('bob', /^250/);
  await ask('ann', /^550 5\.1\.1/);
  await load('{ list: [ann], callout: { budget: 30s } }');
  await ask('ann', /^250/);
  await ask('asked', /^250/);
  await ask('bob', /^550 5\.1\.1/);
  await t.rejects(load('{ directory: nowhere }'), /There is no directory 'nowhere'/);
  await ask('ann', /^250/);
  await load('{ list: [bob] }');
  await ask('asked', /^550 5\.1\.1/);
});
