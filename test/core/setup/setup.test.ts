// `postern setup` from nothing to a filtered message in a stand-in for Exchange, which is a real Postfix: refuses unknown
// recipients, has a certificate of its own and greets as Exchange does. Then `postern doctor` over the same.
import { createSocket } from 'node:dgram';
import dns from 'node:dns';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { SetupOptions } from '../../../core/cli/setup-command.ts';
import type { Finding } from '../../../core/doctor/finding.ts';
import { checkClock, checkNode } from '../../../core/doctor/local-checks.ts';
import { selfSignedCertificate } from '../../../core/net/self-signed.ts';
import { startDnsServer } from '../../harness/dns-server.ts';
import { requireEngines } from '../../harness/engine.ts';
import { until } from '../../harness/gateway-files.ts';
import { freePorts, runPostern, startGatewayProcess } from '../../harness/gateway-process.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { makePostfix, type Postfix } from '../../harness/postfix.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { startPeer } from '../relay/peers.ts';
import { terminal } from './terminal.ts';

async function exchange(t: Test, recipients?: readonly string[]): Promise<Postfix> {
  // Not in `t.testdir()`, which empties the folder at its second call.
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-exchange-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const { key, cert } = selfSignedCertificate({ names: ['exchange.corp.test'], now: Date.now() });
  writeFileSync(path.join(folder, 'key.pem'), key, { mode: 0o600 });
  writeFileSync(path.join(folder, 'cert.pem'), cert);
  const postfix = await makePostfix(t, {
    domains: ['example.org'],
    ...(recipients ? { recipients } : {}),
    settings: [
      'smtpd_banner = EXCH01.corp.test Microsoft ESMTP MAIL Service ready',
      'smtpd_tls_security_level = may',
      `smtpd_tls_cert_file = ${folder}/cert.pem`,
      `smtpd_tls_key_file = ${folder}/key.pem`,
      'message_size_limit = 20000000',
    ],
  });
  await postfix.start();
  return postfix;
}

const zone = {
  'mx.example.org': { A: ['192.0.2.5'] },
  '5.2.0.192.in-addr.arpa': { PTR: ['mx.example.org'] },
  'example.org': { MX: [{ preference: 10, exchange: 'mx.example.org' }], TXT: ['v=spf1 mx -all', 'other'] },
  '_dmarc.example.org': { TXT: ['v=DMARC1; p=none', 'v=DMARC1; p=reject'] },
  '2.0.0.127.zen.spamhaus.org': { A: ['127.0.0.2'] },
};
const state = (found: readonly Finding[], subject: string | RegExp): string | undefined =>
  found.find(each => (typeof subject === 'string' ? each.subject === subject : subject.test(each.subject)))?.state;

t.test('on a terminal, in front of Exchange: to the first filtered message', { timeout: 600_000 }, async t => {
  if (!requireEngines(t, 'postern setup before Postfix', 'postfix')) return;
  const postfix = await exchange(t, ['bob@example.org']);
  const dns = await startDnsServer(zone);
  t.teardown(() => dns.close());
  const [port = 0, outbound = 0] = await freePorts(2);
  const folder = path.join(t.testdir(), 'etc');
  const shell = terminal(folder, [
    'exchagne', // a slip
    'exchange',
    'mx.example.org',
    'example.org',
    `127.0.0.1:${postfix.port}`,
    '', // no directory
    '', // pin: yes
    'y', // no address to listen on
    `127.0.0.1:${port}`,
    'data',
    '', // DKIM: yes
    '', // write: yes
  ]);
  const flags = { dns: [dns.address], network: ['192.0.2.10'], address: ['192.0.2.5'], outbound: String(outbound) };
  t.equal(await shell.setup(flags), 0);
  const said = shell.output();
  t.match(said, /'exchagne' is none of exchange, microsoft365, smtp, local/);
  t.match(said, /'y' is no address and port/);
  t.match(said, /127\.0\.0\.1 is Microsoft Exchange: EXCH01\.corp\.test Microsoft ESMTP MAIL Service ready/);
  t.match(said, /certificate of .*does not verify \(DEPTH_ZERO_SELF_SIGNED_CERT\)/);
  t.match(said, /example\.org: refuses unknown recipients: good/);
  t.match(said, /XCLIENT: yes/);
  t.match(said, /zen\.spamhaus\.org: answers/);
  t.match(said, /live +example\.org\. IN MX 10 mx\.example\.org/);
  t.match(said, /differs +_dmarc\.example\.org/, 'two DMARC records are none');

  const file = path.join(folder, 'postern.yaml');
  const config = readFileSync(file, 'utf8');
  t.match(config, /tls: pinned\n +fingerprint: "[0-9A-F:]{95}"/);
  t.match(config, /maxSize: 20000000/);
  t.match(await runPostern(['--config', file, 'config', 'check']), { code: 0, stdout: /is valid/ });
  t.same(readdirSync(folder).sort(), [
    'dkim',
    'dns-records.txt',
    'exchange-install.ps1',
    'exchange-undo.ps1',
    'postern.yaml',
  ]);
  for (const name of ['exchange-install.ps1', 'exchange-undo.ps1']) {
    const script = readFileSync(path.join(folder, name), 'utf8');
    for (const [open, close] of [
      ['{', '}'],
      ['(', ')'],
    ] as const)
      t.equal(script.split(open).length, script.split(close).length, `${name}: ${open}${close} in pairs`);
    t.equal((script.match(/'/g) ?? []).length % 2, 0, `${name}: quotes in pairs`);
    for (const made of ['Postern inbound', 'Postern outbound', 'Postern: spam to the junk folder'])
      t.ok(script.includes(made), `${name} knows '${made}'`);
  }
  t.match(
    readFileSync(path.join(folder, 'dns-records.txt'), 'utf8'),
    /; to publish: DKIM[^\n]*\n\d{4}a\._domainkey\.example\.org\. IN TXT \(/,
  );

  // Nothing is overwritten without being told.
  await t.rejects(terminal(folder, ['n']).setup({}), { message: /--force/ });
  await t.rejects(terminal(folder, [], false).setup({ ...flags, yes: true }), { message: /--force/ });
  t.equal(readFileSync(file, 'utf8'), config);

  const gateway = await startGatewayProcess(file, port);
  t.teardown(() => gateway.end('SIGKILL'));
  const smtp = await SmtpClient.open(port);
  await smtp.command('EHLO client.example.net');
  t.match(await smtp.command('MAIL FROM:<a@example.net>'), /^250/);
  t.match(await smtp.command('RCPT TO:<a@elsewhere.test>', /^5/), /^554 5\.7\.1/);
  await smtp.command('RSET');
  const body = 'From: a@example.net\r\nTo: bob@example.org\r\nSubject: first\r\n\r\nHello\r\n';
  t.match(await smtp.send({ from: 'a@example.net', to: ['bob@example.org'], body }), /^250/);
  await smtp.command('MAIL FROM:<a@example.net>');
  t.match(await smtp.command('RCPT TO:<zoe@example.org>', /^5/), /^550 5\.1\.1/, 'in the session');
  smtp.close();
  const box = path.join(postfix.maildir, 'new');
  // Postfix takes a message into its queue and delivers it in its own time.
  const name = await until(() => (existsSync(box) ? readdirSync(box)[0] : undefined), 'delivery by Postfix');
  const arrived = readFileSync(path.join(box, name), 'utf8');
  t.match(arrived, /^X-Postern-Score: /m, 'it went through the filters');
  t.match(arrived, /^Authentication-Results: mx\.example\.org/m);

  const time = createSocket('udp4');
  time.on('message', (_bytes, from) => {
    const answer = Buffer.alloc(48);
    answer.writeUInt32BE(Math.floor(Date.now() / 1000) + 2_208_988_800 + 60, 40);
    time.send(answer, from.port, from.address);
  });
  time.bind(0, '127.0.0.1');
  await once(time, 'listening');
  t.teardown(() => time.close());
  const ntp = `127.0.0.1:${(time.address() as AddressInfo).port}`;
  const { code, found } = await terminal(folder).doctor({
    ntp,
    live: true,
    to: 'bob@example.org',
    outside: 'bob@example.org',
  });
  t.equal(code, 1);
  t.same(
    found.filter(each => each.state !== 'ok' && each.fix === undefined),
    [],
    'what is not in order says what to do',
  );
  t.same(
    {
      ports: [state(found, /^smtp /), state(found, /^outbound /)],
      certificate: state(found, /cert\.pem$/),
      dns: ['A mx.example.org', 'PTR 192.0.2.5', 'MX example.org', 'TXT example.org', 'TXT _dmarc.example.org'].map(
        name => state(found, name),
      ),
      dkim: state(found, /_domainkey/),
      list: state(found, 'zen.spamhaus.org'),
      backend: state(found, /for example\.org$/),
      clock: state(found, 'clock'),
      live: [
        'plain message to bob@example.org',
        'bounce (null sender)',
        'open relay',
        'message to bob@example.org',
      ].map(name => state(found, name)),
    },
    {
      ports: ['ok', 'ok'],
      certificate: 'warn',
      dns: ['ok', 'ok', 'ok', 'ok', 'fail'],
      dkim: 'fail',
      list: 'ok',
      backend: 'ok',
      clock: 'warn',
      live: ['ok', 'ok', 'ok', 'ok'],
    },
  );
  const outwards = async (outside: string) =>
    (await terminal(folder).doctor({ ntp, only: ['live'], live: true, to: 'bob@example.org', outside })).found.find(
      each => each.subject === `message to ${outside}`,
    );
  t.match(await outwards('nobody'), { state: 'fail', detail: 'is no address' });
  t.match(await outwards('x@no-such.test'), { state: 'warn', detail: /^failed: / }, 'a domain that is not there');
  t.equal(await gateway.end('SIGTERM'), 0);

  // The world changes: the records are published, the resolver begins to lie, the certificate behind is another one.
  const record = /"(v=DKIM1[^"]*)"\s*"([^"]*)"/.exec(readFileSync(path.join(folder, 'dns-records.txt'), 'utf8'));
  const selector = `${new Date().getUTCFullYear()}a`;
  dns.setZone({
    ...zone,
    [`${selector}._domainkey.example.org`]: { TXT: [[record?.[1] ?? '', record?.[2] ?? '']] },
    '_dmarc.example.org': { TXT: ['v=DMARC1; p=none'] },
    '*.com': { A: ['198.51.100.1'] },
    '1.0.0.127.zen.spamhaus.org': { A: ['127.0.0.2'] },
  });
  writeFileSync(file, config.replace(/fingerprint: "../, 'fingerprint: "00'));
  const later = await terminal(folder).doctor({ only: ['resolver', 'dns', 'dnsbl', 'backend', 'ports'] });
  t.equal(later.code, 1);
  t.same(
    [/_domainkey/, 'TXT _dmarc.example.org', 'zen.spamhaus.org', dns.address, /^smtp /].map(name =>
      state(later.found, name),
    ),
    ['ok', 'ok', 'fail', 'fail', 'ok'],
  );
  t.match(
    later.found.filter(each => each.area === 'backend' && each.state === 'fail'),
    [{ detail: /another certificate/ }],
  );
});

t.test('by flags alone', { timeout: 200_000 }, async t => {
  const dns = await startDnsServer({});
  t.teardown(() => dns.close());
  const peer = await startPeer(t, { extensions: ['PIPELINING'] });
  const base = {
    yes: true,
    dns: [dns.address],
    hostname: 'mx.example.org',
    domain: ['example.org', 'Example.NET'],
    data: 'data',
  };
  const made = async (name: string, options: SetupOptions): Promise<string> => {
    const folder = path.join(t.testdirName, name);
    const shell = terminal(folder, [], false);
    t.equal(await shell.setup({ ...base, ...options }), 0, name);
    return `${shell.output()}\n${readFileSync(path.join(folder, 'postern.yaml'), 'utf8')}`;
  };
  t.testdir();
  const smtp = await made('smtp', { kind: 'smtp', backend: `127.0.0.1:${peer.port}`, outbound: false });
  t.match(smtp, /takes every recipient/);
  t.match(smtp, /# The server behind takes any recipient in example\.org, example\.net/);
  t.match(smtp, /tls: opportunistic/);
  t.notMatch(smtp, /dkim-sign|relayNetworks|outbound/);
  const local = await made('local', { kind: 'local', dkim: false });
  t.match(local, /role: managesieve/);
  t.match(local, /kind: local/);
  const cloud = await made('cloud', { kind: 'microsoft365', backend: '127.0.0.1:9' });
  t.match(cloud, /Not reached: .*ECONNREFUSED/);
  t.match(
    readFileSync(path.join(t.testdirName, 'cloud', 'exchange-install.ps1'), 'utf8'),
    /New-InboundConnector[\s\S]*EFSkipLastIP/,
  );

  const folder = path.join(t.testdirName, 'bad');
  for (const [options, message] of [
    [{ kind: 'lotus' }, /--kind: 'lotus' is none of/],
    [{ kind: 'smtp', backend: 'a b' }, /--backend: 'a b' is no host/],
    [{ kind: 'smtp' }, /--backend is needed/],
    [{ kind: 'local', hostname: 'mx' }, /--hostname: 'mx' is no domain name/],
    [{ kind: 'local', domain: ['-x'] }, /--domain/],
    [{ kind: 'local', listen: 'nowhere:x' }, /--listen/],
    [{ kind: 'smtp', backend: '127.0.0.1:9', outbound: 'many' }, /--outbound/],
  ] as const)
    await t.rejects(terminal(folder, [], false).setup({ ...base, ...options }), { name: 'UsageError', message });
  t.notOk(existsSync(path.join(folder, 'postern.yaml')));
  await t.rejects(terminal(folder, []).doctor({}), { name: 'ConfigError' });
});

t.test('a Node.js without security fixes is told of', async t => {
  const day = Date.parse('2026-11-28');
  t.match(checkNode('v20.20.2', day), [{ state: 'warn', detail: /since 2026-04-30$/, fix: /24 or 26/ }]);
  t.match(checkNode('v20.20.2', Date.parse('2026-04-29')), [{ state: 'ok', detail: /until 2026-04-30$/ }]);
  t.match(checkNode('v26.10.0', day), [{ state: 'ok', detail: /until 2029/ }]);
  t.match(checkNode('v27.0.0', day), [{ state: 'ok', subject: 'v27.0.0' }]);
});

t.test('the name of a time server that is found too late, or not at all, is no end of the doctor', async t => {
  const { lookup } = dns;
  t.teardown(() => {
    dns.lookup = lookup;
  });
  let answer: ((error: Error) => void) | undefined;
  dns.lookup = ((name: string, ...given: [never, (error: Error) => void]) => {
    if (name === 'time.test') answer = given[1];
    else (lookup as (...given: unknown[]) => void)(name, ...given);
  }) as typeof lookup;
  const clock = heldClock();
  const checked = checkClock('time.test:123', clock);
  await until(() => answer !== undefined, 'the lookup');
  clock.move(3_000);
  t.match(await checked, [{ state: 'skip', detail: 'no answer' }]);
  answer?.(new Error('EAI_AGAIN'));
  await new Promise(setImmediate);
});
