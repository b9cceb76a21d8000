// `postern replay`: what was recorded runs through another configuration, which changes nothing.
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { quarantineList } from '../../../core/cli/quarantine-command.ts';
import { queueList } from '../../../core/cli/queue-command.ts';
import { replay } from '../../../core/cli/replay-command.ts';
import type { ReplayReport } from '../../../core/compose/replay.ts';
import { loadConfig } from '../../../core/config/load.ts';
import { runJson } from '../../harness/cli-context.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { runPostern } from '../../harness/gateway-process.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

/** Decides by subject, and leaves traces wherever a plugin may: memory, data folder, a submitted notice. */
const plugin = `import { appendFileSync } from 'node:fs';
import path from 'node:path';
const no = { code: 550, enhanced: '5.7.1', text: 'No' };
const of = (name, more = {}) => ({
  name,
  doc: 'Decides by subject.',
  options: { safeParse: data => ({ success: true, data }) },
  ...more,
  setup: ({ word = 'nothing', from = '', action = 'reject', fails = 'nothing' }, host) => ({
    helo: at => (at.helo === from ? { kind: 'reject', reply: no, why: 'HELO is ' + from } : { kind: 'continue' }),
    async message(at) {
      const subject = at.message.headers.get('subject')?.value ?? '';
      appendFileSync(path.join(host.dataDir, 'seen'), subject + '\\n');
      const seen = Number((await host.memory.get('seen')) ?? 0) + 1;
      await host.memory.set('seen', String(seen), 3_600_000);
      at.evidence({ seen });
      await host.submit({ sender: null, recipients: ['ann@example.org'], bytes: Buffer.from('Subject: notice\\r\\n\\r\\n'), origin: name });
      if (subject.includes(fails)) throw new Error('engine is down');
      if (!subject.includes(word)) return { kind: 'continue' };
      return action === 'quarantine' ? { kind: 'quarantine', why: 'has ' + word } : { kind: 'reject', reply: no, why: 'has ' + word };
    },
  }),
});
export const plugin = of('by-subject');
`;
const counting = plugin.replace("of('by-subject')", "of('by-history', { history: true })");

const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }';

t.test('what would end otherwise, and nothing is changed by finding out', async t => {
  const folder = t.testdir({ 'by-subject.mjs': plugin, 'by-history.mjs': counting });
  const config = path.join(folder, 'postern.yaml');
  const yaml = (chain: string): string => `
hostname: mx.example.org
domains: [{ name: example.org }]
recordings: { share: 100 }
chain:
  - relay-policy
  - recipients
${chain}
`;
  const current = `  - filter: { plugin: ./by-subject.mjs, word: refused }
  - holds: { plugin: ./by-subject.mjs, word: held, action: quarantine }`;
  const gateway = await startTestGateway({ folder, listeners, yaml: yaml(current) });
  t.teardown(() => gateway.stop());
  const { users } = gateway.gateway;
  for (const user of ['ann', 'ben']) await users.add(`${user}@example.org`, { password: 'secret' });
  const postern = (...args: readonly string[]) => runPostern(['--config', config, ...args]);
  t.match(await postern('replay', '--config', config), { code: 1, stderr: /Nothing was recorded/ });
  const client = await SmtpClient.open(gateway.port('smtp'));
  await client.command('EHLO client.example.net');
  const send = (subject: string, to = ['ann@example.org']) =>
    client.send({ from: 'eve@example.net', to, body: `Subject: ${subject}\r\n\r\n${'hello\r\n'.repeat(10)}` });
  t.match(await send('plain'), /^250 /);
  t.match(await send('a casino'), /^250 /);
  t.match(await send('refused'), /^550 /);
  t.match(await send('held'), /^250 /);
  await client.command('MAIL FROM:<eve@example.net>');
  await client.command('RCPT TO:<ben@example.org>');
  await client.command('RCPT TO:<nobody@example.org>', /^550 /);
  await client.command('DATA', /^354/);
  t.match(await client.command('Subject: two\r\n\r\n.', /^250 /), /^250 /);
  client.close();

  const writeNew = (chain: string): string => {
    const file = path.join(folder, 'new.yaml');
    writeFileSync(file, `dataDir: elsewhere\n${yaml(chain)}\nlisteners:${listeners}\n`);
    return file;
  };
  const filter = (options: string): string => `  - filter: { plugin: ./by-subject.mjs, ${options} }`;
  const replayed = (chain: string): Promise<ReplayReport> =>
    runJson(config, context => replay(context, { candidate: writeNew(chain), since: '1h', limit: 50 }));
  /** Everything on disk but the databases' own files, and what the databases say. */
  const world = async (): Promise<unknown> => ({
    files: readdirSync(path.join(folder, 'data'), { recursive: true, encoding: 'utf8' })
      .filter(name => !/\.db/.test(name))
      .sort()
      .map(
        name =>
          `${name} ${statSync(path.join(folder, 'data', name)).isFile() ? statSync(path.join(folder, 'data', name)).size : ''}`,
      ),
    status: await runJson(config, context => quarantineList(context, { limit: 50 })),
    queue: await runJson(config, context => queueList(context, { limit: 50 })),
  });
  const before = await world();

  const stricter = await replayed(filter('word: casino'));
  t.match(stricter, { messages: 5, same: 2 });
  t.match(
    stricter.flips.map(({ subject, was, now, byConfiguration }) => [
      subject,
      was.decision,
      now.decision,
      now.plugin,
      now.why,
      byConfiguration,
    ]),
    [
      ['a casino', 'deliver', 'reject', 'filter', 'has casino', true],
      ['refused', 'reject', 'deliver', '', '', true],
      ['held', 'quarantine', 'deliver', '', '', true],
    ],
  );
  const helo = await replayed(filter('from: client.example.net'));
  t.same(
    helo.flips.map(({ now }) => now.why),
    Array.from({ length: 4 }, () => 'HELO is client.example.net'),
  );
  const partly = await replayed(
    `  - counts: { plugin: ./by-history.mjs, word: plain }\n${filter('fails: casino, word: refused')}`,
  );
  t.match(partly, { notAsked: ['counts'], flips: [{ subject: 'held' }], same: 3 });
  t.match(partly.failed, [{ plugin: 'filter', why: 'engine is down' }], 'nothing is known of what a plugin failed on');

  await users.add('nobody@example.org', { password: 'secret' });
  const drifted = await replayed(current);
  t.match(drifted, { messages: 5, same: 4, failed: [], byHistory: 0, lost: 0 });
  t.match(drifted.flips, [{ subject: 'two', byConfiguration: false }], 'the mailbox is new, not the configuration');

  const text = await postern('replay', '--config', writeNew(filter('word: casino')));
  t.match(
    text.stdout,
    /^5 recorded messages replayed: 1 would end as they did, 4 otherwise\.\n1 of those would end so with the running configuration too/,
  );
  t.match(text.stdout, /\naccepted +refused +filter +1\n/);
  t.match(text.stdout, /eve@example\.net +ann@example\.org +accepted → refused +filter +has casino/);
  t.same(await world(), before, 'no mail, no queue, no quarantine, no file of a plugin has changed');
});

t.test('no share records nothing; what cannot be recorded costs no mail', async t => {
  const folder = t.testdir();
  const yaml = (share: number): string =>
    `hostname: mx.example.org\ndomains: [{ name: example.org }]\nrecordings: { share: ${share} }\nchain: [relay-policy, recipients]\n`;
  const warnings: string[] = [];
  const log = pino({ level: 'warn', base: null }, { write: (line: string) => void warnings.push(line) });
  const gateway = await startTestGateway({ folder, listeners, yaml: yaml(0), log });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  const client = await SmtpClient.open(gateway.port('smtp'));
  await client.command('EHLO client.example.net');
  const mail = { from: 'eve@example.net', to: ['ann@example.org'], body: 'Subject: hello\r\n\r\nhello\r\n' };
  t.match(await client.send(mail), /^250 /);
  t.equal(existsSync(path.join(folder, 'data/recordings')), false);
  writeFileSync(path.join(folder, 'data/recordings'), 'a file where the folder should be');
  const config = path.join(folder, 'postern.yaml');
  writeFileSync(config, `dataDir: data\n${yaml(100)}\nlisteners:${listeners}\n`);
  await gateway.gateway.reload(() => loadConfig(config, folder));
  t.match(await client.send(mail), /^250 /);
  t.match(warnings, [/Message could not be recorded/]);
  rmSync(path.join(folder, 'data/recordings'));
  t.match(await client.send(mail), /^250 /);
  t.equal(readdirSync(path.join(folder, 'data/recordings')).filter(name => name.endsWith('.eml')).length, 1);
  t.equal(warnings.length, 1, 'and the next one is');
  client.close();
});
