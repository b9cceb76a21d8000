// Recipients asked about at the next hop: a real Postfix that refuses unknown ones, one that takes all, one that is gone.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { startPeer } from '../core/relay/peers.ts';
import { requireEngines } from '../harness/engine.ts';
import { startTestGateway } from '../harness/gateway.ts';
import { makePostfix } from '../harness/postfix.ts';
import { SmtpClient } from '../harness/smtp-client.ts';

const silent = pino({ level: 'silent' });
const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }';
const yamlFor = (port: number, recipients: string): string => `
hostname: mx.example.org
domains: [{ name: inner.test, kind: relay, recipients: ${recipients} }]
chain: [relay-policy, recipients]
routes: [{ domain: inner.test, hosts: ['127.0.0.1:${port}'] }]
`;

async function session(port: number): Promise<SmtpClient> {
  const smtp = await SmtpClient.open(port);
  await smtp.command('EHLO client.example.net');
  await smtp.command('MAIL FROM:<a@example.net>');
  return smtp;
}

async function timed(smtp: SmtpClient, address: string, pattern: RegExp): Promise<number> {
  const begun = performance.now();
  await smtp.command(`RCPT TO:<${address}>`, pattern);
  return performance.now() - begun;
}

t.test('a next hop that refuses unknown recipients: asked once, then from the cache, also when it is down', async t => {
  if (!requireEngines(t, 'callout to Postfix', 'postfix')) return;
  const postfix = await makePostfix(t, { domains: ['inner.test'], recipients: ['one@inner.test'] });
  await postfix.start();
  const folder = t.testdir();
  const yaml = yamlFor(postfix.port, '{ callout: { budget: 30s } }');
  const gateway = await startTestGateway({ folder, yaml, listeners, log: silent });
  const smtp = await session(gateway.port('smtp'));
  await timed(smtp, 'one@inner.test', /^250 /);
  await timed(smtp, 'two@inner.test', /^550 5\.1\.1 /);
  t.match((await gateway.gateway.status()).recipients.backends, {
    [`smtp:[127.0.0.1]:${postfix.port} inner.test`]: false,
  });
  await postfix.stop();
  const waits = [
    await timed(smtp, 'one@inner.test', /^250 /),
    await timed(smtp, 'ONE@inner.test', /^250 /),
    await timed(smtp, 'two@inner.test', /^550 5\.1\.1 /),
  ];
  t.comment(`from the cache: ${waits.map(ms => ms.toFixed(1)).join(', ')} ms`);
  await timed(smtp, 'three@inner.test', /^451 4\.3\.0 /);
  smtp.close();
  await gateway.stop();

  const again = await startTestGateway({ folder, yaml, listeners, log: silent });
  t.teardown(() => again.stop());
  const later = await session(again.port('smtp'));
  await timed(later, 'one@inner.test', /^250 /);
  await timed(later, 'two@inner.test', /^550 5\.1\.1 /);
  t.pass('the answers outlive a restart, with the next hop down');
  later.close();
});

t.test('a next hop that takes everything is found out; what then is said is an option', async t => {
  if (!requireEngines(t, 'callout to Postfix that takes all', 'postfix')) return;
  const postfix = await makePostfix(t, { domains: ['inner.test'] });
  await postfix.start();
  for (const [option, pattern] of [
    ['defer', /^451 4\.3\.0 /],
    ['accept', /^250 /],
  ] as const) {
    const yaml = yamlFor(postfix.port, `{ callout: { budget: 30s, acceptsAll: ${option} } }`);
    const gateway = await startTestGateway({ folder: path.join(t.testdirName, option), yaml, listeners, log: silent });
    const smtp = await session(gateway.port('smtp'));
    await timed(smtp, 'one@inner.test', pattern);
    await timed(smtp, 'two@inner.test', pattern);
    t.match(Object.values((await gateway.gateway.status()).recipients.backends), [true], option);
    smtp.close();
    await gateway.stop();
  }
});

t.test('what is no answer about the address is none; a slow one is waited for within the budget', async t => {
  const held: (() => void)[] = [];
  const peer = await startPeer(t, {
    on: (verb, line) => {
      if (verb === 'MAIL' && !line.includes('<>')) return '550 5.7.1 only the null sender is asked with';
      if (verb !== 'RCPT') return undefined;
      if (line.includes('full@')) return '552 5.2.2 over quota at exch01.corp.local';
      if (line.includes('policy@')) return '550 5.7.133 exch01.corp.local wants authentication';
      if (line.includes('later@')) return '451 4.7.1 greylisted';
      if (line.includes('no-such-user')) return '550 5.1.10 RecipientNotFound exch01.corp.local';
      return undefined;
    },
  });
  const folder = t.testdir();
  writeFileSync(path.join(folder, 'map'), '# known without asking\nlisted@inner.test  OK\n@catch.test x\n');
  const yaml = yamlFor(peer.port, '{ list: [always], maps: [map], callout: { budget: 30s } }');
  const gateway = await startTestGateway({ folder, yaml, listeners, log: silent });
  t.teardown(() => gateway.stop());
  const smtp = await session(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  // An idle connection may be closed at any time: QUIT is no question.
  const questions = (): readonly string[] => peer.commands.filter(line => line.startsWith('RCPT'));
  await timed(smtp, 'listed@inner.test', /^250 /);
  await timed(smtp, 'always+tag@inner.test', /^250 /);
  t.same(questions(), [], 'nobody was asked');
  for (const name of ['full', 'policy', 'later']) await timed(smtp, `${name}@inner.test`, /^451 4\.3\.0 (?!.*exch01)/);
  await timed(smtp, 'good@inner.test', /^250 /);
  const asked = questions().length;
  await timed(smtp, 'good@inner.test', /^250 /);
  t.equal(questions().length, asked, 'from the cache');
  t.equal(peer.bodies.length, 0, 'nothing was sent');
  for (const release of held) release();
});
