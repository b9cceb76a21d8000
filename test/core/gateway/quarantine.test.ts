// The quarantine as an administrator uses it: the built command, a running gateway, a real mailbox at the end.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { until } from '../../harness/gateway-files.ts';
import {
  freePort,
  type GatewayProcess,
  runPostern,
  startGatewayProcess,
  writeConfig,
} from '../../harness/gateway-process.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const yamlOf = (port: number, more = ''): string => `hostname: mx.example.org
dataDir: data
domains: [{ name: example.org }]
listeners: [{ name: smtp, role: smtp, port: ${port}, tls: none }]
chain:
  - relay-policy
  - recipients
  - rfc822: { rules: { missing-date: quarantine } }
log: { level: error, format: json }
${more}`;

interface SetUp {
  readonly folder: string;
  readonly config: string;
  readonly port: number;
  gateway: GatewayProcess;
  postern(...args: readonly string[]): ReturnType<typeof runPostern>;
  json<T>(...args: readonly string[]): Promise<T>;
  /** Sends a message that the chain quarantines, or with a date one that passes. */
  send(subject: string, to: readonly string[], date?: boolean): Promise<string>;
  mailOf(user: string): readonly string[];
}

async function setUp(t: Test, more = ''): Promise<SetUp> {
  const folder = t.testdir();
  const port = await freePort();
  const config = writeConfig(folder, yamlOf(port, more));
  for (const user of ['ann', 'ben']) await runPostern(['--config', config, 'user', 'add', user, '--generate']);
  const parts: SetUp = {
    folder,
    config,
    port,
    gateway: await startGatewayProcess(config, port),
    postern: (...args) => runPostern(['--config', config, ...args]),
    async json<T>(...args: readonly string[]) {
      const { stdout, stderr } = await runPostern(['--config', config, '--json', ...args]);
      if (stdout === '') throw new Error(stderr);
      return JSON.parse(stdout) as T;
    },
    async send(subject, to, date = false) {
      const client = await SmtpClient.open(port);
      await client.command('EHLO client.example.net');
      const body = `From: stranger@example.net\r\nMessage-ID: <${subject.replace(/\W/g, '')}@example.net>\r\n${date ? 'Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n' : ''}Subject: ${subject}\r\n\r\nHello\r\n`;
      const reply = await client.send({ from: 'stranger@example.net', to, body });
      client.close();
      const id = /^250 .* ([0-9A-Z]{17})\r\n$/.exec(reply)?.[1];
      if (!id) throw new Error(`No 250: ${reply}`);
      return id;
    },
    mailOf(user) {
      const maildir = path.join(folder, 'data/mail/example.org', user);
      try {
        return ['new', 'cur'].flatMap(sub =>
          readdirSync(path.join(maildir, sub)).map(name => readFileSync(path.join(maildir, sub, name), 'latin1')),
        );
      } catch {
        return [];
      }
    },
  };
  t.teardown(() => parts.gateway.end('SIGKILL'));
  return parts;
}

t.test('list, show, release once, to some, delete', { timeout: 280_000 }, async t => {
  const at = await setUp(t);
  const id = await at.send('First one', ['ann@example.org', 'ben@example.org']);
  const other = await at.send('Second one', ['ann@example.org']);
  t.match(await at.send('Passes', ['ann@example.org'], true), /^\w+$/);
  t.equal(at.mailOf('ann').length, 1);

  const list = await at.postern('quarantine', 'list');
  t.match(list.stdout, /^ID +RECEIVED +REASON +PLUGIN +SENDER +RECIPIENT +SIZE +RELEASED +SUBJECT\n/);
  t.match(
    list.stdout,
    new RegExp(`${id}  .*  malformed  rfc822  stranger@example\\.net  ann@example\\.org \\+1 .*  First one`),
  );
  const ids = async (...args: string[]) =>
    (await at.json<{ id: string }[]>('quarantine', 'list', ...args)).map(found => found.id);
  t.same(await ids(), [other, id]);
  t.same(await ids('--subject', 'first', '--reason', 'malformed', '--since', '1h'), [id]);
  t.same(await ids('--recipient', 'ben@example.org'), [id]);
  t.same(await ids('--until', '2020-01-01'), []);
  t.match(await at.postern('quarantine', 'list', '--reason', 'weather'), { code: 64, stderr: /no reason 'weather'/ });
  t.match(await at.postern('quarantine', 'list', '--since', 'yesterday'), { code: 64, stderr: /time span such as/ });

  const shown = await at.postern('quarantine', 'show', id);
  t.match(shown.stdout, /malformed, by rfc822: missing-date/);
  t.match(shown.stdout, /to ben@example\.org: not released/);
  t.match(shown.stdout, /message +rfc822 +quarantine/, 'with its whole trace');
  t.match(shown.stdout, /reply 250 2\.0\.0 Accepted as/);
  const source = await at.postern('quarantine', 'show', id, '--source');
  t.match(source.stdout, /^X-Postern|^Received: from client\.example\.net/m);
  t.ok(source.stdout.endsWith('Subject: First one\r\n\r\nHello\r\n'), 'the message as it is, byte for byte');
  t.equal((await at.postern('quarantine', 'show', 'NOSUCHID')).code, 1);

  const stranger = await at.postern('quarantine', 'release', id, '--to', 'eve@example.org');
  t.equal(stranger.code, 1);
  t.match(stranger.stdout, /was not sent to eve@example\.org/);
  const [toBen] = await at.json<{ kind: string; queueId: string }[]>(
    'quarantine',
    'release',
    id,
    '--to',
    'BEN@example.org',
  );
  t.match(toBen, { kind: 'released', recipients: ['ben@example.org'] });
  await until(() => at.mailOf('ben').length === 1, 'ben has it');
  t.ok(at.mailOf('ben')[0]?.endsWith('Subject: First one\r\n\r\nHello\r\n'));
  t.equal(at.mailOf('ann').length, 1, 'and nobody else');
  t.match((await at.postern('quarantine', 'release', id)).stdout, /released to ann@example\.org as \w+\n$/);
  await until(() => at.mailOf('ann').length === 2, 'ann has it');
  const again = await at.postern('quarantine', 'release', id);
  t.match(again, { code: 0, stdout: /was released to .* before, nothing was sent/ });
  const counts = await at.json<{ queue: { pending: number }; quarantine: { messages: number } }>('status');
  t.match(counts, { queue: { pending: 0 }, quarantine: { messages: 2 } });
  t.same([at.mailOf('ann').length, at.mailOf('ben').length], [2, 1], 'a second release sends nothing');
  t.same(await ids('--released'), [id]);
  t.same(await ids('--no-released'), [other]);
  t.match((await at.postern('trace', id)).stdout, new RegExp(`ben@example\\.org: released \\(as ${toBen?.queueId}\\)`));
  t.match((await at.postern('trace', toBen?.queueId ?? '')).stdout, /to ben@example\.org: delivered/);

  t.match(await at.postern('quarantine', 'release'), { code: 64, stderr: /Name the id/ });
  t.match(await at.postern('quarantine', 'release', id, '--learn'), {
    code: 1,
    stdout: /no plugin of the chain can learn/,
  });
  t.match(await at.postern('quarantine', 'delete', 'NOSUCHID'), { code: 1, stdout: /not in the quarantine/ });
  t.same(await at.json('quarantine', 'delete', '--subject', 'second'), { deleted: 1, unknown: [] });
  t.same(await at.json('quarantine', 'delete', '--all'), { deleted: 1, unknown: [] });
  t.same(await ids(), []);
  t.same(readdirSync(path.join(at.folder, 'data/quarantine')), []);
  t.match((await at.postern('quarantine', 'list')).stdout, /Nothing is in the quarantine/);
});

t.test(
  'two releases at once send one message; without a gateway it waits in the queue',
  { timeout: 280_000 },
  async t => {
    const at = await setUp(t);
    const id = await at.send('Race', ['ann@example.org', 'ben@example.org']);
    const later = await at.send('Later', ['ann@example.org']);
    const runs = await Promise.all([1, 2, 3].map(() => at.json<{ kind: string }[]>('quarantine', 'release', id)));
    t.same(
      runs
        .flat()
        .map(({ kind }) => kind)
        .sort(),
      ['already', 'already', 'released'],
    );
    await until(() => at.mailOf('ann').length === 1 && at.mailOf('ben').length === 1, 'both have it');
    await at.gateway.end('SIGTERM');
    t.match(await at.postern('quarantine', 'release', later), {
      code: 0,
      stdout: /is not running; it delivers when it starts/,
    });
    t.equal(
      (await at.postern('quarantine', 'release', id, '--learn')).code,
      69,
      'nothing can be learnt without a gateway',
    );
    t.equal((await at.postern('quarantine', 'learn', 'spam', id)).code, 69);
    at.gateway = await startGatewayProcess(at.config, at.port);
    await until(() => at.mailOf('ann').length === 2, 'ann has it');
    t.same([at.mailOf('ann').length, at.mailOf('ben').length], [2, 1]);
  },
);

t.test('I1: kill -9 after 250 loses nothing that was quarantined', { timeout: 280_000 }, async t => {
  const at = await setUp(t);
  const acknowledged: string[] = [];
  let round = 0;
  let kills = 0;
  while (kills < 4) {
    const wanted = acknowledged.length + 25;
    const senders = Array.from({ length: 4 }, async (_, sender) => {
      for (let n = 0; acknowledged.length < wanted; n++) {
        try {
          acknowledged.push(await at.send(`crash ${round} ${sender} ${n}`, ['ann@example.org']));
        } catch {
          return;
        }
      }
    });
    await until(() => acknowledged.length >= wanted, 'enough');
    await at.gateway.end('SIGKILL');
    kills++;
    round++;
    await Promise.all(senders);
    at.gateway = await startGatewayProcess(at.config, at.port);
  }
  const found = await at.json<{ id: string; size: number }[]>('quarantine', 'list', '--limit', '1000');
  const have = new Set(found.map(({ id }) => id));
  t.same(
    acknowledged.filter(id => !have.has(id)),
    [],
    `${acknowledged.length} messages, ${kills} kills`,
  );
  for (const { id, size } of found)
    t.equal(readFileSync(path.join(at.folder, 'data/quarantine', `${id}.eml`)).length, size, id);
  t.equal((await at.postern('quarantine', 'release', '--all')).code, 0);
  await until(() => at.mailOf('ann').length === found.length, 'all are delivered');
});
