// `postern setup` with the recipients in a directory, a real slapd: what is asked, said and written, whether the gateway
// reads it then, and what an administrator hears where it cannot be read.
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import t from 'tap';
import type { CliContext } from '../../../core/cli/context.ts';
import type { SetupOptions } from '../../../core/cli/setup-command.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { ensureSelfSigned } from '../../../core/net/tls.ts';
import { explainRefusal } from '../../../core/setup/probe-directory.ts';
import { terminalQuestions } from '../../../core/setup/questions.ts';
import { startDnsServer } from '../../harness/dns-server.ts';
import { requireEngines } from '../../harness/engine.ts';
import { startFakeLdap } from '../../harness/fake-ldap.ts';
import { until } from '../../harness/gateway-files.ts';
import { freePorts, runPostern, startGatewayProcess } from '../../harness/gateway-process.ts';
import { type AdObject, makeSlapd } from '../../harness/slapd.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { terminal } from './terminal.ts';

const people: readonly AdObject[] = [
  { kind: 'user', cn: 'bob', proxyAddresses: ['SMTP:bob@example.org', 'smtp:robert@example.org'] },
  { kind: 'group', cn: 'sales', proxyAddresses: ['SMTP:sales@example.org'] },
];
const flags = {
  yes: true,
  kind: 'exchange',
  backend: '127.0.0.1:9',
  hostname: 'mx.example.org',
  domain: ['example.org', 'example.net'],
  outbound: false,
  data: 'data',
} as const;

/** The reply to RCPT, each time in a session of its own: one that hears too many errors is ended. */
async function asked(port: number, recipient: string): Promise<string> {
  const smtp = await SmtpClient.open(port);
  await smtp.command('EHLO client.example.net');
  await smtp.command('MAIL FROM:<a@example.net>');
  const reply = await smtp.command(`RCPT TO:<${recipient}>`, /^/);
  smtp.close();
  return reply;
}

t.test(
  'by flags: wrong password, wrong base, a directory that is down, and at last one that is read',
  { timeout: 200_000 },
  async t => {
    if (!requireEngines(t, 'postern setup with a directory', 'slapd')) return;
    const slapd = await makeSlapd(t);
    slapd.load(people);
    await slapd.start();
    const dns = await startDnsServer({});
    t.teardown(() => dns.close());
    const [port = 0] = await freePorts(1);
    const secrets = t.testdir({ right: `${slapd.password}\n`, wrong: 'wrong', empty: '\n' });
    const file = (name: string): string => path.join(secrets, name);
    const folder = path.join(secrets, 'etc');
    const shell = terminal(folder, [], false, { LDAP_PASSWORD: slapd.password });
    const config = path.join(folder, 'postern.yaml');
    const run = async (more: SetupOptions): Promise<string> => {
      const before = shell.output().length;
      const code = await shell.setup({
        ...flags,
        dns: [dns.address],
        listen: `127.0.0.1:${port}`,
        force: true,
        ldap: slapd.url,
        ldapBind: slapd.bindDn,
        ...more,
      });
      t.equal(code, 0);
      t.match(await runPostern(['--config', config, 'config', 'check']), { code: 0, stdout: /is valid/ });
      const yaml = readFileSync(config, 'utf8');
      t.notMatch(yaml, slapd.password);
      return `${shell.output().slice(before)}\n${yaml}`;
    };
    const right = { ldapPasswordFile: file('right') };

    const wrong = await run({ ldapPasswordFile: file('wrong') });
    t.match(wrong, /Not read: ldap:\S+ refuses cn=reader,\S+: the user or the password is wrong; correct --ldap-bind/);
    t.match(wrong, /The configuration is written all the same; 'postern doctor' asks again/);
    const elsewhere = await run({ ...right, ldapBase: 'ou=nowhere,dc=corp,dc=test' });
    t.match(elsewhere, /It names dc=corp,dc=test\n +Not read: \S+ shows no 'ou=nowhere,dc=corp,dc=test' to cn=reader/);
    t.match(elsewhere, /base: "ou=nowhere,dc=corp,dc=test"/);
    t.match(await run({ ...right, ldapBase: 'cn=bob,dc=corp,dc=test' }), /2 addresses/, 'a base that is told');
    t.match(
      await run({ ...right, ldapBase: 'cn=ntds,dc=corp,dc=test' }),
      /0 addresses\n.*give it the right to read them/,
    );
    t.match(
      await run({ ldapBind: 'anonymous' }),
      /shows nothing without a login: name a user that may read it, --ldap-bind/,
    );

    const read = await run(right);
    t.match(read, /It names dc=corp,dc=test\n {2}3 addresses, such as .*bob@example\.org/);
    t.match(read, /example\.org: 3\n +example\.net: none; until there are some, its mail is put off \(451\)/);
    t.notMatch(read, /base:/, 'the gateway finds it as setup did');
    const byVariable = await run({ ldapPasswordEnv: 'LDAP_PASSWORD' });
    t.match(byVariable, /3 addresses[\s\S]*password: \{ env: LDAP_PASSWORD \}/);

    for (const [options, message] of [
      [{ ldapBind: 'reader' }, /--ldap-bind: 'reader' is neither user@domain nor a DN/],
      [{}, /--ldap-password-file or --ldap-password-env is needed/],
      [{ ldapPasswordFile: file('none') }, /--ldap-password-file: Cannot read the secret: ENOENT/],
      [{ ldapPasswordFile: file('empty') }, /--ldap-password-file: the password is empty/],
      [{ ldapPasswordEnv: 'NO_SUCH' }, /--ldap-password-env: Environment variable 'NO_SUCH' is not set/],
      [{ ...right, ldapPasswordEnv: 'LDAP_PASSWORD' }, /Either --ldap-password-file or --ldap-password-env/],
      [{ ...right, ldapBind: 'anonymous' }, /--ldap-bind is needed/],
      [{ ...right, ldapBase: 'corp.test' }, /--ldap-base: 'corp\.test' is no DN/],
      [{ ...right, ldapCa: file('none') }, /--ldap-ca: ENOENT/],
      [{ ...right, ldap: 'corp.test' }, /--ldap: 'corp\.test' is neither/],
      [{ ...right, ldapDomain: 'corp.test' }, /Either --ldap or --ldap-domain/],
    ] as const)
      await t.rejects(run(options), { name: 'UsageError', message });
    t.match(readFileSync(config, 'utf8'), /LDAP_PASSWORD/, 'what was there stays');

    await slapd.stop();
    const down = await run({ ...right, ldapBase: 'dc=corp,dc=test' });
    t.match(down, /Not read: ldap:\S+ cannot be reached \(.*ECONNREFUSED.*\): does it run/);
    t.ok(existsSync(`${config}.old`), 'the old one is kept');
    await slapd.start();

    t.match(await shell.doctor({ only: ['directory'] }), { code: 0, found: [{ state: 'skip' }] });
    const gateway = await startGatewayProcess(config, port);
    t.teardown(() => gateway.end('SIGKILL'));
    // The copy is made in the background; until then nobody is refused for good.
    await until(async () => /^250/.test(await asked(port, 'robert@example.org')), 'the copy of the directory');
    t.match(await asked(port, 'zoe@example.org'), /^550 5\.1\.1/);
    t.match(await asked(port, 'zoe@example.net'), /^451/, 'as setup said of a domain without addresses');
    t.match(await shell.doctor({ only: ['directory'] }), { code: 0, found: [{ state: 'ok', detail: /^3 addresses/ }] });
    t.equal(await gateway.end('SIGTERM'), 0);
  },
);

t.test(
  'on a terminal: a private authority, a slip in the password, which is stored for this user only',
  { timeout: 200_000 },
  async t => {
    if (!requireEngines(t, 'postern setup with ldaps', 'slapd')) return;
    const etc = t.testdir({ etc: {} });
    const tls = await ensureSelfSigned(path.join(etc, 'tls'), ['localhost'], systemClock);
    const slapd = await makeSlapd(t, { tls });
    slapd.load(people);
    await slapd.start();
    const dns = await startDnsServer({});
    t.teardown(() => dns.close());
    const [port = 0] = await freePorts(1);
    const folder = path.join(etc, 'etc');
    const config = path.join(folder, 'postern.yaml');
    const secret = path.join(folder, 'ldap-password');
    const { yes: _, ...given } = { ...flags, dns: [dns.address], listen: `127.0.0.1:${port}` };
    const shell = terminal(folder, [
      'ldaps//localhost', // a slip
      slapd.ldapsUrl,
      'reader', // neither user@domain nor a DN
      slapd.bindDn,
      '', // a password is needed
      'wrong',
      '/no/such/file',
      tls.cert,
      '', // again
      '', // the same server
      '', // the same user
      slapd.password,
      '', // the base that it names
      '', // write: yes
    ]);
    t.equal(await shell.setup(given), 0);
    const said = shell.output();
    t.match(said, /'ldaps\/\/localhost' is neither a domain, /);
    t.match(said, /'reader' is neither user@domain nor a DN/);
    t.match(said, /Password of cn=reader,\S+ \(not shown; kept in \S+\/ldap-password\): \s+An answer is needed/);
    t.match(said, /by an authority that is not known here \(DEPTH_ZERO_SELF_SIGNED_CERT\): give its PEM file/);
    t.match(said, /refuses cn=reader,\S+: the user or the password is wrong/);
    t.match(said, /Password of cn=reader,.*\[unchanged\]: /);
    t.match(said, /Where to search in it \[dc=corp,dc=test\]: \s+3 addresses/);
    const yaml = readFileSync(config, 'utf8');
    t.match(yaml, /password: \{ file: ldap-password \}\n\n/);
    t.match(yaml, /caFile: \S+\/tls\//);
    t.notMatch(yaml, slapd.password);
    t.equal(readFileSync(secret, 'utf8'), `${slapd.password}\n`);
    t.equal(statSync(secret).mode & 0o777, 0o600);
    t.match(await runPostern(['--config', config, 'config', 'check']), { code: 0, stdout: /is valid/ });

    // Once more: the password that is there is good, and a typed one replaces it only where the configuration is written.
    const again = { ...given, force: true, ldap: slapd.ldapsUrl, ldapBind: slapd.bindDn, ldapCa: tls.cert };
    const kept = terminal(folder, ['', '', '']);
    t.equal(await kept.setup(again), 0);
    t.match(kept.output(), /3 addresses/);
    await t.rejects(terminal(folder, ['other', 'n', 'n']).setup(again), /Nothing was written/);
    t.equal(readFileSync(secret, 'utf8'), `${slapd.password}\n`);

    const gateway = await startGatewayProcess(config, port);
    t.teardown(() => gateway.end('SIGKILL'));
    await until(async () => /^250/.test(await asked(port, 'bob@example.org')), 'the copy of the directory');
    t.match(await asked(port, 'zoe@example.org'), /^550 5\.1\.1/);
    t.equal(await gateway.end('SIGTERM'), 0);
  },
);

t.test('domain controllers by SRV records, with StartTLS', { timeout: 200_000 }, async t => {
  if (!requireEngines(t, 'postern setup with SRV records', 'slapd')) return;
  const folder = t.testdir({});
  const tls = await ensureSelfSigned(path.join(folder, 'tls'), ['dc1.corp.test'], systemClock);
  const slapd = await makeSlapd(t, { tls, rootDse: true });
  slapd.load(people);
  await slapd.start();
  writeFileSync(path.join(folder, 'secret'), slapd.password);
  const port = Number(new URL(slapd.url).port);
  const dns = await startDnsServer({
    '_ldap._tcp.dc._msdcs.corp.test': { SRV: [{ target: 'dc1.corp.test', port, priority: 0, weight: 100 }] },
    'dc1.corp.test': { A: ['127.0.0.1'] },
  });
  t.teardown(() => dns.close());
  const made = async (name: string, more: SetupOptions): Promise<string> => {
    const shell = terminal(path.join(folder, name), [], false);
    const login = { ldapBind: slapd.bindDn, ldapPasswordFile: path.join(folder, 'secret') };
    t.equal(await shell.setup({ ...flags, dns: [dns.address], ...login, ldapStarttls: true, ...more }), 0);
    const config = path.join(folder, name, 'postern.yaml');
    t.match(await runPostern(['--config', config, 'config', 'check']), { code: 0, stdout: /is valid/ });
    return `${shell.output()}\n${readFileSync(config, 'utf8')}`;
  };
  const found = await made('found', { ldapDomain: 'Corp.Test', ldapCa: tls.cert });
  t.match(found, /Reading the directory of corp\.test …\n +It names dc=corp,dc=test\n +3 addresses/);
  t.match(found, /domain: corp\.test +#.*\n +startTls: true\n +caFile: /);
  t.match(
    await made('private', { ldapDomain: 'corp.test' }),
    /Not read: The certificate of corp\.test is by an authority/,
  );
  t.match(await made('none', { ldapDomain: 'none.test' }), /_ldap\._tcp\.none\.test does not exist/);
  // Where the password would cross the network in clear, StartTLS goes without saying.
  const clear = await made('clear', { ldap: 'ldap://0.0.0.0:9', ldapStarttls: false });
  t.match(clear, /ECONNREFUSED[\s\S]*startTls: true/);
});

t.test('several bases and no default: one must be chosen', async t => {
  const server = await startFakeLdap();
  t.teardown(() => server.close());
  const bases = ['dc=a,dc=test', 'dc=b,dc=test'];
  server.entries = [
    { dn: '', attributes: { namingContexts: bases } },
    { dn: 'cn=bob,dc=b,dc=test', attributes: { proxyAddresses: ['SMTP:bob@example.org'] } },
  ];
  const dns = await startDnsServer({});
  t.teardown(() => dns.close());
  const folder = t.testdir({});
  const given = { ...flags, dns: [dns.address], ldap: server.url, ldapBind: 'anonymous' };
  const silent = terminal(folder, [], false);
  await t.rejects(silent.setup(given), { name: 'UsageError', message: /--ldap-base is needed/ });
  t.match(silent.output(), /It names dc=a,dc=test and dc=b,dc=test/);
  t.notOk(existsSync(path.join(folder, 'postern.yaml')));
  const { yes: _, ...asking } = { ...given, listen: '127.0.0.1:2525', dkim: false };
  const shell = terminal(folder, ['b.test', 'dc=b,dc=test', '']);
  t.equal(await shell.setup(asking), 0);
  t.match(shell.output(), /'b\.test' is no DN[\s\S]* 1 addresses, such as bob@example\.org/);
  t.match(readFileSync(path.join(folder, 'postern.yaml'), 'utf8'), /base: "dc=b,dc=test"/);
});

t.test('what a domain controller says of a login, in words', async t => {
  const directory = {
    at: { url: 'ldaps://dc1.corp.test' },
    startTls: false,
    login: { bindDn: 'postern@corp.test', password: { file: 'secret' } },
  };
  const refusal = (code: number | string, text: string): Error =>
    new Error('No host answered', { cause: Object.assign(new Error(text), { code }) });
  const comment = '80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 533, v4563';
  t.match(explainRefusal(refusal(49, comment), directory), /refuses postern@corp\.test: the account is disabled/);
  t.match(explainRefusal(refusal(8, ''), directory), /wants encryption/);
  t.match(explainRefusal(refusal('ERR_TLS_CERT_ALTNAME_INVALID', 'x'), directory), /for another name/);
  const { login: _, ...nobody } = directory;
  const bind =
    '000004DC: LdapErr: DSID-0C090A5C, comment: In order to perform this operation a successful bind must be';
  t.match(explainRefusal(refusal(1, bind), nobody), /shows nothing without a login.*--ldap-bind/);
  t.match(explainRefusal(refusal(1, bind), directory), /cannot be read: 000004DC/);
});

t.test('a secret is not shown while it is typed, and no key brings it back', async t => {
  // What a terminal has and a pipe has not.
  const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => undefined });
  const stdout = Object.assign(new PassThrough(), { isTTY: true });
  let shown = '';
  stdout.on('data', (chunk: Buffer) => {
    shown += chunk.toString();
  });
  const questions = terminalQuestions({ stdin, stdout } as unknown as CliContext);
  t.teardown(() => questions.close());
  const secret = questions.secret('Password', false);
  stdin.write(' hush-hush \r');
  t.equal(await secret, ' hush-hush ', 'blanks are part of it');
  const next = questions.ask('Next', 'none');
  stdin.write('\u001b[Aseen\r');
  t.equal(await next, 'seen');
  t.match(shown, /Password: [\s\S]*Next \[none\]: [\s\S]*seen/);
  t.notMatch(shown, /hush/);
});
