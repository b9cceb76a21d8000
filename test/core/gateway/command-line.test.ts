// The `postern` command as a person and a script use it.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { renderJsonSchema, renderReference } from '../../../core/config/render-docs.ts';
import { builtInPlugins } from '../../../core/gateway.ts';
import { until } from '../../harness/gateway-files.ts';
import { freePort, runPostern, startGatewayProcess, writeConfig } from '../../harness/gateway-process.ts';
import { sourcePath } from '../../harness/root.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const yamlOf = (port: number): string => `hostname: mx.example.org
dataDir: data
domains: [{ name: example.org }]
listeners:
  - { name: smtp, role: smtp, port: ${port}, tls: none }
chain: [relay-policy, recipients]
log: { level: warn, format: json }
`;

t.test('config check: valid, invalid, with a position', async t => {
  const folder = t.testdir();
  const good = writeConfig(folder, yamlOf(0));
  const valid = await runPostern(['--config', good, '--json', 'config', 'check']);
  t.equal(valid.code, 0);
  t.same(JSON.parse(valid.stdout), { valid: true, chain: ['relay-policy', 'recipients'] });
  const bad: readonly [string, RegExp][] = [
    [
      yamlOf(0).replace('[relay-policy, recipients]', '[relay-policy, recipient]'),
      /recipient.*did you mean 'recipients'\? at postern\.yaml:6:23/,
    ],
    [yamlOf(0).replace('chain:', 'chian:'), /Unknown key 'chian', did you mean 'chain'\? at postern\.yaml:6:1/],
    [
      yamlOf(0).replace('[relay-policy, recipients]', '\n  - dnsbl: { list: [] }'),
      /Unknown key 'list', did you mean 'lists'\? at postern\.yaml:7:14/,
    ],
  ];
  for (const [yaml, expected] of bad) {
    writeConfig(folder, yaml);
    const invalid = await runPostern(['--config', 'postern.yaml', 'config', 'check'], { cwd: folder });
    t.equal(invalid.code, 78);
    t.match(invalid.stdout + invalid.stderr, expected);
    const start = await runPostern(['--config', 'postern.yaml', 'start', '--worker'], { cwd: folder });
    t.equal(start.code, 78, 'a configuration that does not validate is never started (I10)');
  }
});

t.test('config show, explain and reference', async t => {
  const config = writeConfig(t.testdir(), yamlOf(0));
  t.match((await runPostern(['--config', config, 'config', 'show'])).stdout, /lineEnds: refuse/);
  t.match((await runPostern(['config', 'explain', 'listeners.port'])).stdout, /listeners\[\]\.port\n {2}Port to bind/);
  const unknown = await runPostern(['config', 'explain', 'listners.port']);
  t.equal(unknown.code, 1);
  t.match(unknown.stderr, /did you mean 'listeners\.port'/);
  t.equal(
    renderReference(builtInPlugins()),
    readFileSync(sourcePath('config/REFERENCE.md'), 'utf8'),
    'config/REFERENCE.md is current: npm run reference',
  );
  t.equal(
    renderJsonSchema(builtInPlugins()),
    readFileSync(sourcePath('config/schema.json'), 'utf8'),
    'config/schema.json is current: npm run reference',
  );
});

t.test('every example configuration is valid', async t => {
  for (const name of readdirSync(sourcePath('config/examples'))) {
    const checked = await runPostern(['--config', sourcePath(`config/examples/${name}`), 'config', 'check']);
    t.equal(checked.code, 0, `${name}: ${checked.stdout}${checked.stderr}`);
  }
});

t.test('users: add, list, passwd, remove', async t => {
  const config = writeConfig(t.testdir(), yamlOf(0));
  const postern = (args: readonly string[], input?: string) =>
    runPostern(['--config', config, '--json', ...args], input === undefined ? {} : { input });
  t.equal((await postern(['user', 'add', 'ann'], 'secret\n')).code, 0);
  t.match(JSON.parse((await postern(['user', 'list'])).stdout), [{ name: 'ann@example.org', disabled: false }]);
  t.equal((await postern(['user', 'add', 'ann@example.org'], 'x\n')).code, 1, 'exists already');
  t.equal((await postern(['user', 'add', 'ann@elsewhere.example'], 'x\n')).code, 64, 'no such domain');
  t.equal((await postern(['user', 'add', 'ben'], '\n')).code, 64, 'no password');
  t.match(JSON.parse((await postern(['user', 'passwd', 'ann', '--generate'])).stdout), { password: /^.{16}$/ });
  t.equal((await postern(['user', 'passwd', 'nobody', '--generate'])).code, 1);
  t.equal((await postern(['user', 'remove', 'ann'])).code, 0);
  t.equal((await postern(['user', 'remove', 'ann'])).code, 1);
  t.match((await runPostern(['--config', config, 'user', 'list'])).stdout, /No users/);
});

t.test('usage errors and help', async t => {
  t.equal((await runPostern(['nonsense'])).code, 64);
  t.equal((await runPostern(['--help'])).code, 0);
  t.match((await runPostern(['--json', 'version'])).stdout, /"postern": "\d+\.\d+\.\d+"/);
});

t.test('a running gateway: status, trace, reload', async t => {
  const folder = t.testdir();
  const port = await freePort();
  const config = writeConfig(folder, yamlOf(port));
  const postern = (...args: readonly string[]) => runPostern(['--config', config, ...args]);
  t.equal((await postern('status')).code, 69, 'not running');
  t.equal((await postern('user', 'add', 'ann', '--generate')).code, 0);
  const gateway = await startGatewayProcess(config, port);
  t.teardown(() => gateway.end('SIGKILL'));

  const status = JSON.parse((await postern('--json', 'status')).stdout) as { listeners: unknown[]; queue: unknown };
  t.match(status, { hostname: 'mx.example.org', listeners: [{ name: 'smtp', port }], queue: { pending: 0, held: 0 } });

  const client = await SmtpClient.open(port);
  await client.command('EHLO client.example.net');
  const reply = await client.send({
    from: 'stranger@example.net',
    to: ['ann@example.org'],
    body: 'Subject: traced\r\n\r\nhello\r\n',
  });
  const id = /^250 2\.0\.0 .* ([0-9A-Z]{17})\r\n$/.exec(reply)?.[1] ?? '';
  t.ok(id, reply);
  await client.command('MAIL FROM:<stranger@example.net>');
  await client.command('RCPT TO:<nobody@example.org>', /^550 5\.1\.1 /);

  // Traces are written behind the reply, at most a moment later.
  const trace = await until(async () => {
    const found = await postern('trace', id);
    return found.code === 0 ? found : undefined;
  }, 'the trace to be written');
  t.match(trace.stdout, new RegExp(`^${id}  .*  accepted`));
  t.match(trace.stdout, /rcpt {4}recipients {4}accept .* ms/);
  t.match(trace.stdout, /to ann@example\.org: delivered/);
  t.equal((await postern('trace', 'NOSUCHID')).code, 1);

  writeConfig(folder, yamlOf(port).replace('[relay-policy, recipients]', '[relay-policy, nonsense]'));
  const refused = await postern('reload');
  t.equal(refused.code, 70);
  t.match(refused.stderr, /nonsense/, 'a reload that fails says why');
  await client.command('RSET');
  t.match(
    await client.send({
      from: 'stranger@example.net',
      to: ['ann@example.org'],
      body: 'Subject: still\r\n\r\nhere\r\n',
    }),
    /^250 /,
    'and keeps the running one',
  );

  writeConfig(
    folder,
    yamlOf(port).replace('domains: [{ name: example.org }]', 'domains: [{ name: example.org }, { name: example.com }]'),
  );
  t.equal((await postern('user', 'add', 'ben@example.com', '--generate')).code, 0);
  t.equal((await postern('reload')).code, 0);
  const fresh = await SmtpClient.open(port);
  await fresh.command('EHLO client.example.net');
  t.match(
    await fresh.send({
      from: 'stranger@example.net',
      to: ['ben@example.com'],
      body: 'Subject: new domain\r\n\r\n\r\n',
    }),
    /^250 /,
  );
  gateway.child.kill('SIGHUP');
  t.match(
    await client.send({ from: 'a@example.net', to: ['ann@example.org'], body: 'Subject: old session\r\n\r\n\r\n' }),
    /^250 /,
    'a session goes on over a reload',
  );
  client.close();
  fresh.close();
  t.equal(await gateway.end('SIGTERM'), 0);
  t.equal(path.basename(config), 'postern.yaml');
});

t.test('the queue: list, show, hold, release, bounce, delete; the trace tells what the queue did', async t => {
  const folder = t.testdir();
  const port = await freePort();
  const deadPort = await freePort();
  const config = writeConfig(
    folder,
    `${yamlOf(port)}relayNetworks: [127.0.0.0/8]\nroutes: [{ domain: '*', hosts: ['127.0.0.1:${deadPort}'], tls: none }]\n`,
  );
  const postern = (...args: readonly string[]) => runPostern(['--config', config, '--json', ...args]);
  const gateway = await startGatewayProcess(config, port);
  t.teardown(() => gateway.end('SIGKILL'));
  const client = await SmtpClient.open(port);
  await client.command('EHLO client.example.net');
  const reply = await client.send({
    from: 'ann@example.org',
    to: ['someone@remote.example'],
    body: 'Subject: queued\r\n\r\nhello\r\n',
  });
  client.close();
  const id = /([0-9A-Z]{17})\r\n$/.exec(reply)?.[1] ?? '';
  t.match(reply, /^250 /, 'a next hop that is down means the queue, not a refusal');
  t.match(JSON.parse((await postern('queue', 'list')).stdout), [
    { id, recipients: [{ address: 'someone@remote.example', state: 'pending' }] },
  ]);
  t.equal((await postern('queue', 'hold', '--domain', 'elsewhere.example')).code, 1, 'nothing of that kind');
  t.same(JSON.parse((await postern('queue', 'hold', id)).stdout), { recipients: 1 });
  t.match(JSON.parse((await postern('queue', 'show', id)).stdout), { recipients: [{ state: 'held' }] });
  t.same(JSON.parse((await postern('queue', 'release', '--sender', 'ann@example.org')).stdout), { recipients: 1 });
  await until(async () => {
    const trace = JSON.parse((await postern('trace', id)).stdout || '{}') as { events?: { outcome: string }[] };
    return trace.events?.some(event => event.outcome === 'deferred');
  }, 'an attempt of the queue to be in the trace');
  t.same(JSON.parse((await postern('queue', 'delete', '--all')).stdout), { recipients: 1 });
  t.same(JSON.parse((await postern('queue', 'list')).stdout), []);
  t.equal((await postern('queue', 'flush')).code, 64, 'says what to flush');
  t.equal(await gateway.end('SIGTERM'), 0);
});
