// `postern sieve` as an administrator uses it, on the data of a gateway that need not run.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { startTestGateway } from '../../harness/gateway.ts';
import { runPostern, writeConfig } from '../../harness/gateway-process.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const message = 'From: a@example.net\nTo: ann@example.org\nSubject: list mail\n\ntext\n';
const script = `require ["fileinto", "mailbox", "imap4flags"];
if header :contains "subject" "list" { fileinto :create "Lists"; }
elsif header :is "subject" "mark" { addflag "\\\\Flagged"; }
elsif header :is "subject" "send" { redirect "bob@example.org"; }
`;

t.test('sieve check and sieve test need no configuration', async t => {
  const folder = t.testdir({ 'good.sieve': script, 'bad.sieve': 'keep;\nkeeep;\nfileinto "x";\n', 'm.eml': message });
  const postern = (...args: readonly string[]) => runPostern(args, { cwd: folder });
  t.match(await postern('sieve', 'check', 'good.sieve'), { code: 0, stdout: /good\.sieve is valid/ });
  const bad = await postern('sieve', 'check', 'bad.sieve');
  t.equal(bad.code, 1);
  t.match(bad.stdout, /^bad\.sieve:2:1: error: .*keeep.*\nbad\.sieve:3:1: error: .*fileinto/);
  const checked = await postern('--json', 'sieve', 'check', 'bad.sieve');
  t.match(JSON.parse(checked.stdout), { valid: false, diagnostics: [{ line: 2 }, { line: 3 }] });

  const from = ['--from', 'a@example.net', '--to', 'ann@example.org'];
  const json = await postern('sieve', 'test', 'good.sieve', 'm.eml', ...from, '--json');
  t.equal(json.code, 0);
  t.same(JSON.parse(json.stdout), [{ action: 'fileinto', arguments: { mailbox: 'Lists', create: true } }]);
  const traced = await postern('sieve', 'test', 'good.sieve', 'm.eml', '--trace');
  t.match(
    traced.stdout,
    /2:\d+ +header = true +\(values \["list mail"\], keys \["list"\]\)[\s\S]*fileinto mailbox="Lists"/,
  );
  const both = JSON.parse((await postern('sieve', 'test', 'good.sieve', 'm.eml', '--trace', '--json')).stdout);
  t.match(both, { status: 'ok', actions: [{ action: 'fileinto' }], trace: Array });
  t.match(await postern('sieve', 'test', 'bad.sieve', 'm.eml'), { code: 1, stdout: /bad\.sieve:2:1: error/ });
  t.match(await postern('sieve', 'check', 'missing.sieve'), { code: 64, stderr: /Cannot read 'missing\.sieve'/ });
});

t.test('scripts of a user, and rules over mail that is there', { timeout: 280_000 }, async t => {
  const folder = t.testdir({ 'main.sieve': script, 'bad.sieve': 'keeep;\n' });
  const yaml = 'hostname: mx.example.org\ndomains: [{ name: example.org }]\nchain: [relay-policy, recipients, sieve]\n';
  const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }';
  const gateway = await startTestGateway({ folder, yaml, listeners });
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  await smtp.command('EHLO client.example.net');
  for (const subject of ['list mail', 'mark', 'send', 'other'])
    await smtp.send({ from: 'a@example.net', to: ['ann@example.org'], body: `Subject: ${subject}\r\n\r\nx\r\n` });
  smtp.close();
  await gateway.stop();

  const config = writeConfig(folder, `dataDir: data\n${yaml}listeners:${listeners}\n`);
  const postern = (...args: readonly string[]) => runPostern(['--config', config, 'sieve', ...args], { cwd: folder });
  t.match(await postern('put', 'ann', 'bad.sieve'), { code: 1, stderr: /has errors\n1:1: error/ });
  t.match(await postern('put', 'nobody', 'main.sieve'), { code: 1, stderr: /No user 'nobody@example\.org'/ });
  t.match(await postern('apply', 'ann', '--folder', 'INBOX'), { code: 1, stderr: /No script .* is active/ });
  t.match(await postern('put', 'ann', 'main.sieve'), { code: 0, stdout: /Stored "main" of ann@example\.org/ });
  t.match(await postern('activate', 'ann', 'main'), { code: 0 });
  t.match(await postern('list', 'ann'), { code: 0, stdout: /main +active/ });
  t.equal((await postern('get', 'ann', 'main')).stdout, script);
  t.match(await postern('delete', 'ann', 'main'), { code: 1, stderr: /active/ });

  const root = path.join(folder, 'data/mail/example.org/ann');
  const files = (name: string): readonly string[] =>
    ['new', 'cur'].flatMap(part => readdirSync(path.join(root, name, part)));
  const dry = await postern('--json', 'apply', 'ann', '--folder', 'INBOX', '--dry-run');
  t.equal(dry.code, 0, dry.stderr);
  t.match(JSON.parse(dry.stdout), { dryRun: true, messages: 4 });
  t.equal(JSON.parse(dry.stdout).changed.length, 3);
  t.equal(files('').length, 4, 'a dry run changes nothing');
  const applied = await postern('apply', 'ann', '--folder', 'INBOX');
  t.match(
    applied,
    { code: 0, stdout: /fileinto Lists[\s\S]*not done here: redirect[\s\S]*4 messages, 2 changed/ },
    applied.stderr,
  );
  t.equal(files('').length, 3);
  t.equal(files('.Lists').length, 1);
  t.equal(files('').filter(name => /:2,[A-Z]*F/.test(name)).length, 1);
  t.match(await postern('activate', 'ann', '--none'), { code: 0 });
  t.match(await postern('delete', 'ann', 'main'), { code: 0 });
});
