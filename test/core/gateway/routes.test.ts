// Routes of a whole gateway: Postfix transport(5) files, limits of a destination, and what an operator does to the queue.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { checkConfig } from '../../../core/gateway.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { until } from '../../harness/gateway-files.ts';
import { runPostern } from '../../harness/gateway-process.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { startPeer } from '../relay/peers.ts';

const silent = pino({ level: 'silent' });
const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none, etrn: [127.0.0.0/8] }';
const body = 'Subject: x\r\n\r\ntext\r\n';

t.test('transport(5): next hops, discard, error, beside routes of the configuration', async t => {
  const [inner, list] = [await startPeer(t), await startPeer(t)];
  const folder = t.testdir();
  writeFileSync(
    path.join(folder, 'transport'),
    `inner.test          smtp:[127.0.0.1]:${inner.port}
news@inner.test     discard:
old.test            error:5.1.6 moved away
`,
  );
  const yaml = `
hostname: mx.example.org
domains: [{ name: inner.test, kind: relay }, { name: old.test, kind: relay }, { name: list.test, kind: relay }]
chain: [relay-policy, recipients]
routes: [{ domain: list.test, hosts: ['127.0.0.1:${list.port}'] }]
routeMaps: [transport]
`;
  const gateway = await startTestGateway({ folder, yaml, listeners, log: silent });
  t.teardown(() => gateway.stop());
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO c.test');
  const send = (to: string) => smtp.send({ from: 'a@b.test', to: [to], body });
  t.match(await send('bob@inner.test'), /^250/);
  t.match(await send('news@inner.test'), /^250/);
  t.match(await send('x@list.test'), /^250/);
  t.match(await send('x@old.test'), /^550 5\.1\.6 moved away/);
  t.equal(inner.bodies.length, 1);
  t.equal(list.bodies.length, 1);

  writeFileSync(path.join(folder, 'transport'), 'inner.test uucp:x\nhere.test local:\n');
  const { problems } = await checkConfig(loadConfig(path.join(folder, 'postern.yaml'), folder), {
    clock: systemClock,
    log: silent,
  });
  t.match(
    problems.map(({ message }) => message),
    [/transport:1: Unknown transport "uucp"/, /'here\.test' is local/],
  );
});

t.test('rate and connections of a destination; reroute, hold and ETRN', async t => {
  const dead = { port: 9 };
  const good = await startPeer(t, { extensions: [] });
  const folder = t.testdir();
  const yaml = `
hostname: mx.example.org
domains: [{ name: slow.test, kind: relay }, { name: dead.test, kind: relay }]
chain: [relay-policy, recipients]
routes:
  - { domain: slow.test, hosts: ['127.0.0.1:${good.port}'], ratePerMinute: 300, connections: 1 }
  - { domain: dead.test, hosts: ['127.0.0.1:${dead.port}'] }
`;
  const gateway = await startTestGateway({ folder, yaml, listeners, log: silent });
  t.teardown(() => gateway.stop());
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO c.test');
  const begun = performance.now();
  for (let n = 0; n < 6; n++) t.match(await smtp.send({ from: 'a@b.test', to: ['x@slow.test'], body }), /^250/);
  const ends = gateway.traces.map(trace => trace.recipients[0]?.outcome);
  t.same(ends, Array(6).fill('queued'), 'not while the client waits');
  await until(() => good.bodies.length === 6, 'all to arrive');
  t.ok(performance.now() - begun >= 5 * 200 - 20, 'no faster than 300 a minute');
  t.equal(good.connections, 1);

  t.match(await smtp.send({ from: 'a@b.test', to: ['x@dead.test'], body }), /^250/);
  const postern = (...words: string[]) =>
    runPostern(['--config', path.join(folder, 'postern.yaml'), '--json', ...words]);
  const name = `smtp:[127.0.0.1]:${dead.port}`;
  t.match(JSON.parse((await postern('queue', 'destinations')).stdout), [{ name, recipients: 1 }]);
  t.match(JSON.parse((await postern('queue', 'hold-destination', name)).stdout), { held: true });
  t.match(JSON.parse((await postern('queue', 'destinations')).stdout), [{ name, held: true }]);
  t.equal((await postern('queue', 'release-destination', name)).code, 0);
  t.equal((await postern('queue', 'reroute', '--domain', 'dead.test', '--via', '[[')).code, 64);
  t.same(
    JSON.parse(
      (await postern('queue', 'reroute', '--domain', 'dead.test', '--via', `[127.0.0.1]:${good.port}`)).stdout,
    ),
    { recipients: 1 },
  );
  await smtp.command('ETRN dead.test', /^25/);
  await until(() => good.bodies.length === 7, 'the rerouted one to arrive');
});
