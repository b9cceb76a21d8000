// The quarantine as an administrator uses it: the built command, a running gateway, a real mailbox at the end.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { until } from '../../harness/gateway-files.ts';
import { startGatewayProcess } from '../../harness/gateway-process.ts';
import { setUp } from './quarantine-fixture.ts';

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
  // The queue notes what it delivered when the mailbox has it already.
  const counts = await until(async () => {
    const status = await at.json<{ queue: { pending: number }; quarantine: { messages: number } }>('status');
    return status.queue.pending === 0 ? status : undefined;
  }, 'the queue to be empty');
  t.equal(counts.quarantine.messages, 2);
  t.same([at.mailOf('ann').length, at.mailOf('ben').length], [2, 1], 'a second release sends nothing');
  t.same(await ids('--released'), [id]);
  t.same(await ids('--no-released'), [other]);
  t.match((await at.postern('trace', id)).stdout, new RegExp(`ben@example\\.org: released \\(as ${toBen?.queueId}\\)`));
  await until(
    async () => /to ben@example\.org: delivered/.test((await at.postern('trace', toBen?.queueId ?? '')).stdout),
    'the delivery to be in the trace',
  );

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
