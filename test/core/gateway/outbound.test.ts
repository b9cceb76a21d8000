// config/examples/outbound.yaml as it stands, with addresses and ports of the test: the way out for the server behind and
// for users.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createTransport } from 'nodemailer';
import t from 'tap';
import { dkimVerify } from '../../harness/dkim-verdicts.ts';
import { startDnsServer } from '../../harness/dns-server.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { runPostern } from '../../harness/gateway-process.ts';
import { guardedLogger } from '../../harness/log-guard.ts';
import { root } from '../../harness/root.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { startPeer } from '../relay/peers.ts';

t.test('outgoing mail: signed, clean, limited', { timeout: 240_000 }, async t => {
  const folder = t.testdir();
  const world = await startPeer(t, { extensions: ['PIPELINING', '8BITMIME'] });
  const key = await runPostern([
    '--json',
    'dkim',
    'keygen',
    'example.org',
    '2026a',
    '--out',
    path.join(folder, 'dkim'),
  ]);
  t.equal(key.code, 0, key.stderr);
  const { record } = JSON.parse(key.stdout) as { readonly record: string };
  const dns = await startDnsServer({ '2026a._domainkey.example.org': { TXT: [record.match(/.{1,255}/g) ?? []] } });
  t.teardown(() => dns.close());

  const example = readFileSync(path.join(root, 'config/examples/outbound.yaml'), 'utf8');
  const swap = (text: string, from: string | RegExp, to: string): string => {
    const changed = text.replace(from, to);
    t.not(changed, text, `the example has ${String(from)}`);
    return changed;
  };
  let yaml = swap(example, /^dataDir: .*\n/m, '');
  const [, before = '', listeners = '', after = ''] =
    /^([\s\S]*?)^listeners:(\n(?:[ ]+.*\n)+)([\s\S]*)$/m.exec(yaml) ?? [];
  t.not(listeners, '');
  yaml = swap(
    `${before}${after}`,
    /tls: required\n/,
    "tls: none\n  - { domain: '*', hosts: ['127.0.0.1:PORT'], tls: none }\n",
  );
  yaml = swap(yaml, 'exchange.corp.example:25', '127.0.0.1:PORT').replaceAll('PORT', String(world.port));
  yaml = swap(yaml, 'recipients: 1000', 'recipients: 3');
  const gateway = await startTestGateway({
    folder,
    yaml: `${yaml}\ndns: { servers: ['${dns.address}'] }\n`,
    listeners: listeners
      .replaceAll('0.0.0.0', '127.0.0.1')
      .replace(/port: \d+/g, 'port: 0')
      .replace('role: smtp, address', 'role: smtp, xclient: [127.0.0.0/8], address')
      .replace('    role: smtp\n', '    role: smtp\n    xclient: [127.0.0.0/8]\n')
      .trimEnd(),
    log: guardedLogger({ expected: [/Rate limit exceeded/] }),
  });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });

  /** A session of somebody at that address. */
  const session = async (listener: string, address: string): Promise<SmtpClient> => {
    const client = await SmtpClient.open(gateway.port(listener));
    t.teardown(() => client.close());
    await client.command('EHLO exchange.corp.example');
    await client.command(`XCLIENT ADDR=${address} NAME=[UNAVAILABLE]`);
    await client.command('EHLO exchange.corp.example');
    return client;
  };
  const body =
    'Received: from desk17.corp.example (10.0.0.17) by exchange.corp.example; Sat, 28 Nov 2026 08:00:00 +0000\r\nX-Originating-IP: [10.0.0.17]\r\nX-MS-Exchange-Organization-AuthAs: Internal\r\nFrom: Bob <bob@example.org>\r\nTo: eve@remote.test\r\nSubject: out\r\nDate: Sat, 28 Nov 2026 08:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello\r\n';
  const exchange = await session('outbound', '192.0.2.10');
  t.match(await exchange.send({ from: 'bob@example.org', to: ['eve@remote.test'], body }), /^250/);
  t.equal(world.bodies.length, 1);
  const sent = world.bodies[0] ?? '';
  t.notMatch(sent, /10\.0\.0\.17|corp\.example|X-MS-Exchange|X-Originating|192\.0\.2\.10/, 'nothing of the inside');
  t.same(await dkimVerify(Buffer.from(sent, 'latin1'), dns.address), ['pass example.org']);

  for (const listener of ['outbound', 'smtp']) {
    const stranger = await session(listener, '203.0.113.9');
    await stranger.command('MAIL FROM:<bob@example.org>');
    t.match(await stranger.command('RCPT TO:<eve@remote.test>', /^5/), /^554 5\.7\.1/, `a stranger on ${listener}`);
  }

  const submit = (from: string) =>
    createTransport({
      host: '127.0.0.1',
      port: gateway.port('submission'),
      tls: { rejectUnauthorized: false },
      auth: { user: 'ann@example.org', pass: 'secret' },
    })
      .sendMail({ from, to: 'eve@remote.test', subject: 'submitted', text: 'x' })
      .then(
        () => 250,
        (error: { readonly responseCode?: number }) => error.responseCode ?? 0,
      );
  t.equal(await submit('ann@example.org'), 250);
  t.same(await dkimVerify(Buffer.from(world.bodies[1] ?? '', 'latin1'), dns.address), ['pass example.org']);
  for (const foreign of ['ann@elsewhere.test', 'bob@example.org'])
    t.ok((await submit(foreign)) >= 550, `ann does not send as ${foreign}`);
  for (let n = 0; n < 4; n++) t.equal(await submit('ann@example.org'), 250);
  const { quarantine } = await gateway.gateway.status();
  t.ok(quarantine.messages > 0, 'over the limit the account is held');
  t.ok(world.bodies.length <= 5);

  const inner = body.replace('Bob <bob@example.org>', 'Cron <cron@srv3.example.org>');
  t.match(await exchange.send({ from: 'cron@srv3.example.org', to: ['eve@remote.test'], body: inner }), /^250/);
  t.ok(
    world.commands.some(line => line.startsWith('MAIL FROM:<cron@example.org>')),
    'masqueraded envelope',
  );
  const masqueraded = world.bodies.at(-1) ?? '';
  t.match(masqueraded, /^From: Cron <cron@example\.org>\r$/m);
  t.same(await dkimVerify(Buffer.from(masqueraded, 'latin1'), dns.address), ['pass example.org']);
});
