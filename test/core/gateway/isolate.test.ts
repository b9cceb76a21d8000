// `isolate` as an administrator writes it: a built-in plugin and one of one's own, in a running gateway.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { checkConfig } from '../../../core/gateway.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { guardedLogger } from '../../harness/log-guard.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

/** Loops for one sender, otherwise says in which process it runs. No import: a file alone. */
const source = (greeting: string): string => `
const options = { safeParse: data => data.wrong ? { success: false, error: { issues: [{ code: 'custom', path: ['wrong'], message: 'Wrong indeed' }] } } : { success: true, data } };
export const plugin = {
  name: 'mine', doc: 'x', options,
  setup: (given, host) => ({
    mail(at) {
      if (at.envelope.sender?.local === 'evil') for (;;);
      return { kind: 'continue' };
    },
    message: at => ({ kind: 'continue', edits: [
      { kind: 'add-header', name: 'X-Mine', value: '${greeting} ' + process.pid + ' ' + host.mailboxes.domainKind('example.org') },
    ] }),
  }),
};`;
const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }';

t.test('isolated plugins in a gateway', { timeout: 240_000 }, async t => {
  const folder = t.testdir({ 'mine.mjs': source('first') });
  const yaml = (mine: string): string => `
hostname: mx.example.org
domains: [{ name: example.org }]
chain:
  - limits: { isolate: true, messageSize: 1MiB }
  - relay-policy
  - mine: { plugin: ./mine.mjs, timeout: 10s, isolate: { memory: 64MiB }${mine} }
  - recipients
`;
  const gateway = await startTestGateway({
    folder,
    yaml: yaml(''),
    listeners,
    log: guardedLogger({ expected: [/^Plugin failed$/, /^Isolated plugin ended$/] }),
  });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('bob@example.org', { password: 'some-password' });
  const file = path.join(folder, 'postern.yaml');
  const fixed = `\n  - { name: smtp, role: smtp, port: ${gateway.port('smtp')}, tls: none }`;
  const write = (mine: string): void => writeFileSync(file, `dataDir: data\n${yaml(mine)}\nlisteners:${fixed}\n`);
  const load = () => loadConfig(file, folder);
  write('');
  await gateway.gateway.reload(load);

  const open = async () => {
    const client = await SmtpClient.open(gateway.port('smtp'));
    t.teardown(() => client.close());
    await client.command('EHLO client.example');
    return client;
  };
  const mail = { from: 'a@example.net', to: ['bob@example.org'], body: 'Subject: x\r\n\r\nx\r\n' };
  const client = await open();
  t.match(await client.send(mail), /^250 /);
  const step = gateway.traces.at(-1)?.steps.find(({ plugin, hook }) => plugin === 'mine' && hook === 'message');
  t.same(step?.evidence, { edits: ['add-header X-Mine'] });
  await client.command('MAIL FROM:<a@example.net> SIZE=2000000', /^552 5\.3\.4/);
  const other = await open();
  const [bad] = await Promise.all([
    client.command('MAIL FROM:<evil@example.net>', /^451 4\.3\.0/),
    other.command('NOOP'),
  ]);
  t.match(bad, /Temporary local problem/);
  // The process is ended a moment after the deadline and started again.
  for (let tries = 0; tries < 5; tries++) {
    await other.command('RSET');
    if (/^250/.test(await other.command('MAIL FROM:<a@example.net>', /^(?:250|451)/))) break;
  }
  await other.command('RSET');
  t.match(await other.send(mail), /^250 /, 'it is back');
  const { plugins } = await gateway.gateway.status();
  t.match(plugins.find(({ name }) => name === 'mine')?.values, {
    restarts: 1,
    lastEnd: 'Did not stop at its deadline',
  });

  await gateway.gateway.reload(load);
  const kept = await gateway.gateway.status();
  t.match(kept.plugins.find(({ name }) => name === 'mine')?.values, { restarts: 1 }, 'a reload keeps the process');
  writeFileSync(path.join(folder, 'mine.mjs'), source('second'));
  await gateway.gateway.reload(load);
  const anew = await gateway.gateway.status();
  const values = anew.plugins.find(({ name }) => name === 'mine')?.values;
  t.same(values, { isolated: 'running' }, 'a changed file gets a new one');
  t.match(await other.send(mail), /^250 /, 'while a session in flight goes on with the old one');

  write(', wrong: 1');
  const { problems } = await checkConfig(load(), { clock: systemClock, log: guardedLogger() });
  t.match(problems, [{ message: 'Wrong indeed', line: 8 }]);
  await t.rejects(gateway.gateway.reload(load), /Wrong indeed/);
  t.match(await (await open()).send(mail), /^250 /);
});
