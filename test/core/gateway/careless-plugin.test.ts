// A plugin that fails outside its hooks, where no chain catches it, and leaves a timer behind (invariant I3).
import { once } from 'node:events';
import t from 'tap';
import { deliveredFiles, until } from '../../harness/gateway-files.ts';
import { addUsers, freePort, startGatewayProcess, writeSmtpConfig } from '../../harness/gateway-process.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const careless = `
export const plugin = {
  name: 'careless', doc: 'x', options: { safeParse: data => ({ success: true, data }) },
  setup() {
    setInterval(() => {}, 1000);
    return {
      mail(at) {
        const word = at.envelope.sender?.local;
        if (word === 'rejects') Promise.reject(new Error('rejected for nobody'));
        if (word === 'throws') setImmediate(() => { throw new Error('thrown at nobody'); });
        return { kind: 'continue' };
      },
    };
  },
};`;

t.test('what a plugin fails at outside its hooks', { timeout: 280_000 }, async t => {
  const folder = t.testdir({ 'careless.mjs': careless });
  const port = await freePort();
  const config = writeSmtpConfig(
    folder,
    port,
    'chain: [relay-policy, recipients, { careless: { plugin: ./careless.mjs } }]\nlog: { format: json }',
  );
  await addUsers(config, 'ann@example.org');
  const open = async (): Promise<SmtpClient> => {
    const client = await SmtpClient.open(port);
    t.teardown(() => client.close());
    await client.command('EHLO client.example');
    return client;
  };
  const mail = (from: string) => ({
    from: `${from}@example.net`,
    to: ['ann@example.org'],
    body: `Subject: ${from}\r\n\r\nx\r\n`,
  });
  const first = await startGatewayProcess(config, port);
  t.teardown(() => first.end('SIGKILL'));

  await t.test('a rejection is told, and the gateway goes on', async t => {
    const client = await open();
    t.match(await client.send(mail('rejects')), /^250 /);
    await until(() => first.output().includes('rejected for nobody'), 'the log');
    t.match(first.output(), /"event":"unhandled-rejection"[^\n]*rejected for nobody[^\n]*careless\.mjs/);
    t.match(await client.send(mail('good')), /^250 /);
    t.equal(first.child.exitCode, null);
  });

  await t.test('an exception ends the gateway as a stop does, for the supervisor to start it anew', async t => {
    const busy = await open();
    await busy.command('MAIL FROM:<busy@example.net>');
    await busy.command('RCPT TO:<ann@example.org>');
    await busy.command('DATA', /^354/);
    const ended = once(first.child, 'close');
    const other = await open();
    t.match(await other.command('MAIL FROM:<throws@example.net>'), /^250 /);
    await until(() => first.output().includes('thrown at nobody'), 'the log');
    other.close();
    t.match(await busy.command('Subject: busy\r\n\r\nx\r\n.'), /^250 /, 'a transaction under way is finished');
    t.same(await ended, [70, null]);
    t.match(first.output(), /"event":"uncaught-exception"[^\n]*thrown at nobody[^\n]*careless\.mjs/);
  });

  const second = await startGatewayProcess(config, port);
  t.teardown(() => second.end('SIGKILL'));
  t.equal(await second.end('SIGTERM'), 0, 'a timer that is left does not keep it');
  const subjects = deliveredFiles(folder).map(text => /^Subject: (.*)\r$/m.exec(text)?.[1]);
  t.same(subjects.sort(), ['busy', 'good', 'rejects']);
});
