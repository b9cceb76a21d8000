// What a person judged reaches every plugin of the running chain that can learn; one that fails does not keep the others
// from it. That spamd and rspamd then do learn is shown with their plugins.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { exitCodes } from '../../../core/cli/context.ts';
import { quarantineLearn, quarantineRelease } from '../../../core/cli/quarantine-command.ts';
import { runJson } from '../../harness/cli-context.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { deliveredFiles, until } from '../../harness/gateway-files.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const pupil = `import { appendFileSync } from 'node:fs';
export const plugin = {
  name: 'pupil',
  doc: 'Writes down what it learns.',
  options: { safeParse: data => ({ success: true, data }) },
  setup: ({ fails }, host) => ({
    message: () => ({ kind: 'quarantine', why: 'everything', reason: 'spam' }),
    async learn(message, as, recipient) {
      if (fails) throw new Error('engine is down');
      const bytes = await message.bytes();
      appendFileSync(host.resolvePath('lessons'), JSON.stringify([as, recipient, bytes.includes('learn me')]) + '\\n');
    },
  }),
};
`;

t.test('learn spam and ham, per recipient; release can teach at once', async t => {
  const folder = t.testdir({ 'pupil.mjs': pupil });
  const gateway = await startTestGateway({
    folder,
    listeners: '\n  - { name: smtp, role: smtp, port: 0, tls: none }',
    yaml: `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [relay-policy, recipients, { broken: { plugin: ./pupil.mjs, fails: true } }, { pupil: { plugin: ./pupil.mjs } }]
`,
  });
  t.teardown(() => gateway.stop());
  for (const user of ['ann', 'ben']) await gateway.gateway.users.add(`${user}@example.org`, { password: 'secret' });
  const client = await SmtpClient.open(gateway.port('smtp'));
  await client.command('EHLO client.example.net');
  const to = ['ann@example.org', 'ben@example.org'];
  const reply = await client.send({ from: 'eve@example.net', to, body: 'Subject: x\r\n\r\nlearn me\r\n' });
  client.close();
  const id = /([0-9A-Z]{17})\r\n$/.exec(reply)?.[1] ?? '';
  const config = path.join(folder, 'postern.yaml');
  const lessons = () =>
    readFileSync(path.join(folder, 'lessons'), 'utf8')
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as unknown);

  const told = await runJson<{ lessons: unknown[] }[]>(
    config,
    context => quarantineLearn(context, 'spam', [id], {}),
    exitCodes.negative,
  );
  t.same(told[0]?.lessons, [{ plugin: 'broken', error: 'engine is down' }, { plugin: 'pupil' }]);
  t.same(lessons(), [
    ['spam', 'ann@example.org', true],
    ['spam', 'ben@example.org', true],
  ]);
  const released = await runJson<{ kind: string; lessons: unknown[] }[]>(
    config,
    context => quarantineRelease(context, [id], { learn: true }),
    exitCodes.negative,
  );
  t.match(released, [{ kind: 'released', recipients: to, lessons: [{ error: /down/ }, { plugin: 'pupil' }] }]);
  t.equal(lessons().length, 4);
  await until(
    () => existsSync(path.join(folder, 'data/mail')) && deliveredFiles(folder).length === 2,
    'both recipients have it, past the chain that would hold it again',
  );
  const unknown = await runJson<unknown[]>(
    config,
    context => quarantineLearn(context, 'ham', ['NOSUCHID'], {}),
    exitCodes.negative,
  );
  t.match(unknown, [{ id: 'NOSUCHID', kind: 'unknown' }]);
});
