// `postern trace` as a search, `--follow`, and `postern why`, with the built command on a running gateway.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { until } from '../../harness/gateway-files.ts';
import { freePort, mainFile, runPostern, startGatewayProcess, writeSmtpConfig } from '../../harness/gateway-process.ts';
import { plainNode } from '../../harness/plain-node.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

/** Refuses by subject; one entry of it only observes. */
const bySubject = `export const plugin = {
  name: 'by-subject',
  doc: 'Refuses by subject.',
  options: { safeParse: data => ({ success: true, data }) },
  setup: ({ word }) => ({
    message: at => at.message.headers.get('subject')?.value.includes(word)
      ? { kind: 'reject', reply: { code: 550, enhanced: '5.7.1', text: 'No' }, why: 'Subject has ' + word }
      : { kind: 'continue' },
  }),
};
`;

t.test('search, follow, why', { timeout: 280_000 }, async t => {
  const folder = t.testdir();
  const port = await freePort();
  const config = writeSmtpConfig(
    folder,
    port,
    `chain:
  - relay-policy
  - recipients
  - strict: { plugin: ./by-subject.mjs, word: forbidden }
  - trial: { plugin: ./by-subject.mjs, word: odd, mode: observe }
log: { level: error, format: json }`,
  );
  writeFileSync(path.join(folder, 'by-subject.mjs'), bySubject);
  const postern = (...args: readonly string[]) => runPostern(['--config', config, ...args]);
  await postern('user', 'add', 'ann', '--generate');
  const gateway = await startGatewayProcess(config, port);
  t.teardown(() => gateway.end('SIGKILL'));

  const follower = spawn(
    ...plainNode(mainFile, '--config', config, 'trace', '--follow', '--recipient', '@example.org'),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.teardown(() => follower.kill('SIGKILL'));
  const lines: string[] = [];
  createInterface({ input: follower.stdout }).on('line', line => lines.push(line));
  await until(() => lines.length === 1, 'the follower shows its head');

  const client = await SmtpClient.open(port);
  await client.command('EHLO client.example.net');
  const send = (subject: string, from = 'eve@example.net') =>
    client.send({
      from,
      to: ['ann@example.org'],
      body: `Message-ID: <${subject.replace(/ /g, '.')}@x>\r\nSubject: ${subject}\r\n\r\nhello\r\n`,
    });
  t.match(await send('an odd one'), /^250 /);
  t.match(await send('a forbidden one'), /^550 /);
  t.match(await send('a good one', 'mallory@example.com'), /^250 /);
  await client.command('MAIL FROM:<eve@example.net>');
  await client.command('RCPT TO:<who@elsewhere.example>', /^55[04] /);
  client.close();

  await until(() => lines.length === 4, 'the follower shows the three to example.org');
  t.match(lines[2], /rejected {2}strict {2}eve@example\.net {2}ann@example\.org {2}127\.0\.0\.1 {2}a forbidden one$/);
  follower.kill('SIGINT');
  t.same(await once(follower, 'exit'), [0, null], 'ends well when asked');

  type Found = { record: { id: string; subject?: string } };
  const subjects = async (...args: readonly string[]) =>
    (JSON.parse((await postern('--json', 'trace', ...args)).stdout) as Found[]).map(
      ({ record }) => record.subject ?? '-',
    );
  await until(async () => (await subjects('--since', '1h')).length === 4, 'all are stored');
  t.same(await subjects('--sender', 'eve@example.net'), ['-', 'a forbidden one', 'an odd one'], 'newest first');
  t.same(await subjects('--sender', '@example.com'), ['a good one']);
  t.same(await subjects('--plugin', 'trial', '--verdict', 'reject'), ['an odd one']);
  t.same(await subjects('--outcome', 'rejected', '--recipient', 'ann@example.org'), ['a forbidden one']);
  t.same(await subjects('--message-id', '<a.good.one@x>'), ['a good one']);
  t.same(await subjects('--subject', 'odd', '--client', '127.0.0.1'), ['an odd one']);
  t.same(await subjects('--recipient-outcome', 'delivered', '--limit', '1'), ['a good one']);
  const table = await postern('trace', '--outcome', 'rejected');
  t.match(table.stdout, /^ID +RECEIVED +OUTCOME +DECIDED/);
  t.equal((await postern('trace', '--since', '1h', '--until', '2020-01-01')).code, 1);
  t.equal((await postern('trace', '--limit', '0')).code, 64);

  const [found] = JSON.parse((await postern('--json', 'trace', '--plugin', 'strict')).stdout) as Found[];
  const id = found?.record.id ?? '';
  t.equal((await postern('trace', id, '--since', '1h')).code, 64);
  const why = await postern('why', id);
  t.match(why.stdout, /^A message from eve@example\.net to ann@example\.org came from 127\.0\.0\.1/);
  t.match(
    why.stdout,
    /\nWhy:\n {2}The plugin 'strict' refused it when the whole message was in: Subject has forbidden\.\n/,
  );
  t.match(why.stdout, /\nWhat would have changed it:\n/);
  const [odd] = JSON.parse((await postern('--json', 'trace', '--plugin', 'trial')).stdout) as Found[];
  t.match(
    (await postern('why', odd?.record.id ?? '')).stdout,
    /'trial' only observes\. In mode: enforce it would have refused it/,
  );
  t.equal((await postern('why', 'NOSUCHID')).code, 1);
  t.equal(await gateway.end('SIGTERM'), 0);
});
