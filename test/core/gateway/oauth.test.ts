// Bearer tokens through a whole gateway: mail programs that log in with one at every protocol, and an issuer that is down.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import t from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { checkConfig } from '../../../core/gateway.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { requireEngines } from '../../harness/engine.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { deliveredFiles } from '../../harness/gateway-files.ts';
import { msmtp } from '../../harness/msmtp.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { startTokenIssuer } from '../../harness/token-issuer.ts';

const run = promisify(execFile);
const encode = (text: string): string => Buffer.from(text).toString('base64');
const mail = 'From: ann@example.org\r\nTo: ann@example.org\r\nSubject: token\r\n\r\nHello\r\n';
const listeners = (openPort: number | string): string => `
  - { name: open, role: submission, port: ${openPort}, tls: none, allowPlaintextAuth: true }
  - { name: submissions, role: submission, port: 0, tls: implicit }
  - { name: imaps, role: imap, port: 0, tls: implicit }
  - { name: pop3s, role: pop3, port: 0, tls: implicit }`;

t.test('OAUTHBEARER and XOAUTH2', { timeout: 240_000 }, async t => {
  const issuer = await startTokenIssuer();
  t.teardown(() => issuer.close());
  const token = 'ya29.a0-real_token~+/=='.padStart(40, 'x');
  issuer.tokens.set(token, { email: 'ann@example.org', aud: 'mail' });
  const folder = t.testdir({ 'mail.eml': mail, secret: 'issuer-secret\n' });
  const base = `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [auth, relay-policy, recipients]
`;
  const oauth = `oauth: { introspection: '${issuer.url}', clientId: postern, clientSecret: { file: secret }, audience: mail }\n`;
  const lines: string[] = [];
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
  const gateway = await startTestGateway({ folder, yaml: base + oauth, listeners: listeners(0), log });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'ann-secret' });
  await gateway.gateway.users.add('ben@example.org', { password: 'ben-secret' });
  const open = async () => {
    const client = await SmtpClient.open(gateway.port('open'));
    t.teardown(() => client.close());
    const offered = /^250[ -]AUTH (.*)\r$/m.exec(await client.command('EHLO client.example'))?.[1];
    return { client, offered };
  };
  const bearer = (name: string, value: string): string =>
    `AUTH OAUTHBEARER ${encode(`n,a=${name},\x01auth=Bearer ${value}\x01\x01`)}`;

  await t.test('curl and msmtp log in with a token', async t => {
    if (!requireEngines(t, 'tokens of mail programs', 'curl', 'msmtp')) return;
    const curl = (mechanism: string, scheme: string, listener: string, value: string, rest: readonly string[]) =>
      run('curl', [
        '--silent',
        '--show-error',
        '--insecure',
        '--user',
        'ann@example.org:',
        '--oauth2-bearer',
        value,
        '--login-options',
        `AUTH=${mechanism}`,
        ...rest,
        `${scheme}://127.0.0.1:${gateway.port(listener)}/`,
      ]);
    const file = path.join(folder, 'mail.eml');
    const send = ['--mail-from', 'ann@example.org', '--mail-rcpt', 'ann@example.org', '--upload-file', file];
    for (const mechanism of ['OAUTHBEARER', 'XOAUTH2']) {
      await curl(mechanism, 'smtps', 'submissions', token, send);
      const inbox = await curl(mechanism, 'imaps', 'imaps', token, ['--request', 'STATUS INBOX (MESSAGES)']);
      t.match(inbox.stdout, /MESSAGES \d/);
      await curl(mechanism, 'pop3s', 'pop3s', token, []);
      // 67: the server denied the login.
      for (const [scheme, listener, rest] of [
        ['smtps', 'submissions', send],
        ['imaps', 'imaps', []],
        ['pop3s', 'pop3s', []],
      ] as const)
        await t.rejects(curl(mechanism, scheme, listener, 'stolen', rest), { code: 67 }, `${mechanism} ${scheme}`);
    }
    const ann = { user: 'ann@example.org', from: 'ann@example.org', to: 'ann@example.org' };
    for (const auth of ['oauthbearer', 'xoauth2'])
      await msmtp({ ...ann, port: gateway.port('submissions'), auth, secret: token }, mail.replaceAll('\r', ''));
    t.equal(deliveredFiles(folder).length, 4);
    t.same(
      gateway.traces.map(trace => trace.steps.find(step => step.hook === 'sasl' && step.verdict === 'accept')?.plugin),
      Array(4).fill('auth'),
    );
  });

  await t.test('who the token is of decides; nothing of it is written down', async t => {
    const { client, offered } = await open();
    t.equal(offered, 'SCRAM-SHA-256 OAUTHBEARER XOAUTH2 PLAIN LOGIN');
    const denial = await client.command(bearer('ben@example.org', token), /^334 /);
    t.match(JSON.parse(Buffer.from(denial.slice(4), 'base64').toString()), { status: 'invalid_token' });
    await client.command('AQ==', /^535 5\.7\.8 /);
    await client.command(`AUTH OAUTHBEARER ${encode(`n,,\x01auth=Bearer ${token}\x01\x01`)}`, /^235 /);
    t.match(await client.send({ from: 'ann@example.org', to: ['ben@example.org'], body: mail }), /^250 /);
    const written = JSON.stringify(gateway.traces) + lines.join('');
    for (const secret of [token, 'stolen', 'issuer-secret', encode('postern:issuer-secret')])
      t.notOk(written.includes(secret), 'neither in the log nor in the trace');
  });

  await t.test('an issuer that does not answer is a temporary failure', async t => {
    issuer.behave = response => void response.writeHead(503).end();
    const { client } = await open();
    for (const value of [token, 'stolen']) await client.command(bearer('ann@example.org', value), /^454 4\.7\.0 /);
    issuer.behave = undefined;
    await client.command(bearer('ann@example.org', token), /^235 /);
    t.ok(lines.some(line => line.includes('token-issuer-unavailable') && line.includes('status 503')));
  });

  await t.test('a reload without the issuer takes the mechanisms off the list', async t => {
    const file = path.join(folder, 'postern.yaml');
    const write = (yaml: string) =>
      writeFileSync(file, `dataDir: data\n${base}${yaml}listeners:${listeners(gateway.port('open'))}\n`);
    write('');
    await gateway.gateway.reload(() => loadConfig(file, folder));
    t.equal((await open()).offered, 'SCRAM-SHA-256 PLAIN LOGIN');
    write(`oauth: { introspection: 'http://issuer.example/', clientId: x, clientSecret: { file: missing } }\n`);
    const { problems } = await checkConfig(loadConfig(file, folder), { clock: systemClock, log });
    t.match(
      problems.map(({ message }) => message),
      [/https:/, /Cannot read the secret/],
    );
  });
});
