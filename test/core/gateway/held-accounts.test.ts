// What plugins remember, in a whole gateway: greylisted strangers and accounts that are held, seen and released by commands
// beside the running gateway.
import { createTransport } from 'nodemailer';
import t from 'tap';
import { memoryList, memoryRelease } from '../../../core/cli/plugin-memory-command.ts';
import { commandLine } from '../../harness/command-line.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { guardedLogger } from '../../harness/log-guard.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
queue: { postmaster: ops@example.org }
chain:
  - auth
  - rate-limit: { limits: [{ per: account, messages: 2, window: 1h, action: hold }] }
  - relay-policy
  - recipients
  - greylist
`;
const listeners = `
  - { name: smtp, role: smtp, port: 0, xclient: [127.0.0.0/8] }
  - { name: submission, role: submission, port: 0 }`;

function commandsIn(folder: string) {
  const { context, printed } = commandLine(folder);
  return {
    async list(plugin: string, options: object = {}): Promise<string> {
      await memoryList(plugin)(context, { limit: 100, ...options });
      return printed();
    },
    async release(plugin: string, what: string): Promise<readonly [code: number, output: string]> {
      const code = await memoryRelease(plugin)(context, what, {});
      return [code, printed()];
    },
  };
}

t.test('an account that is held, a stranger who waits; both go on when released', { timeout: 300_000 }, async t => {
  const folder = t.testdir();
  const log = guardedLogger({ expected: [/^Rate limit exceeded$/] });
  const gateway = await startTestGateway({ folder, yaml, listeners, log });
  t.teardown(() => gateway.stop());
  for (const name of ['ann', 'ben', 'ops'])
    await gateway.gateway.users.add(`${name}@example.org`, { password: `${name}-secret` });
  const { list, release } = commandsIn(folder);
  const submission = createTransport({
    host: '127.0.0.1',
    port: gateway.port('submission'),
    tls: { rejectUnauthorized: false },
    auth: { user: 'ann@example.org', pass: 'ann-secret' },
  });
  const submit = () => submission.sendMail({ from: 'ann@example.org', to: 'ben@example.org', text: 'x' });
  const outcomes = () =>
    gateway.traces.filter(({ sender }) => sender === 'ann@example.org').map(({ outcome }) => outcome);

  t.equal(await list('rate-limit'), 'Nothing is remembered.\n');
  for (let n = 0; n < 4; n++) t.match((await submit()).response, /^250 /);
  t.same(outcomes(), ['accepted', 'accepted', 'quarantined', 'quarantined']);
  const alerts = gateway.traces.filter(({ listener }) => listener === 'rate-limit');
  t.match(alerts, [{ outcome: 'accepted', recipients: [{ address: 'ops@example.org', outcome: 'delivered' }] }]);
  t.match(await list('rate-limit'), /^held +account +ann@example\.org .* 3 messages in 1h, limit 2$/m);
  t.same(await release('rate-limit', 'ben@example.org'), [1, '0 released\n']);
  t.same(await release('rate-limit', 'ann@example.org'), [0, '1 released\n']);
  await submit();
  t.equal(outcomes().at(-1), 'accepted');

  const stranger = async (): Promise<string> => {
    const client = await SmtpClient.open(gateway.port('smtp'));
    await client.command('EHLO proxy.example');
    await client.command('XCLIENT ADDR=203.0.113.7 HELO=mx.stranger.example', /^220/);
    await client.command('EHLO mx.stranger.example');
    const reply = await client.send({
      from: 'x@stranger.example',
      to: ['ben@example.org'],
      body: 'Subject: x\r\n\r\nx\r\n',
    });
    client.close();
    return reply;
  };
  t.match(await stranger(), /^451 4\.7\.1 Greylisted/);
  t.match(
    await list('greylist'),
    /^waiting +203\.0\.113\.0\/24 +x@stranger\.example ben@example\.org +203\.0\.113\.7/m,
  );
  t.same(await release('greylist', 'stranger.example'), [0, '1 released\n']);
  t.match(await stranger(), /^250 /);
  t.match(await list('greylist', { entry: 'greylist' }), /^released +203/m);
  await t.rejects(list('greylist', { entry: 'other' }), /no entry 'other'/);
  await t.rejects(list('dnsbl'), /remembers nothing/);
});
