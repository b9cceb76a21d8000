// AUTH mechanisms that show no password, through a whole gateway: what is offered, who decides, what is counted, what is
// written down; and mail programs that speak them.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { requireEngines } from '../../harness/engine.ts';
import { startTestGateway, type TestGateway } from '../../harness/gateway.ts';
import { deliveredFiles } from '../../harness/gateway-files.ts';
import { msmtp } from '../../harness/msmtp.ts';
import { scramClient } from '../../harness/scram-client.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const listeners = `
  - { name: open, role: submission, port: 0, tls: none, allowPlaintextAuth: true, limits: { authFailures: 99 } }
  - { name: submissions, role: submission, port: 0, tls: implicit }`;
const yamlWith = (entries: string): string => `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [${entries}, relay-policy, recipients]
`;
/** Knows an account of its own, by password; notes what else it is asked. */
const other = `
const options = { safeParse: data => ({ success: true, data }) };
export const plugin = {
  name: 'other', doc: 'x', options,
  setup: () => ({
    auth: (at, offered) => offered.password === 'other' ? { kind: 'accept', identity: { name: 'zoe', mechanism: 'x' } } : { kind: 'continue' },
  }),
};`;
/** Lets nobody in from outside of office hours, which never begin. */
const gate = other.replace(/auth: .*/, `auth: () => ({ kind: 'continue' }), sasl: () => ({ kind: 'continue' }),`);

async function start(t: Test, entries: string) {
  const lines: string[] = [];
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
  const folder = t.testdir({ 'other.mjs': other, 'gate.mjs': gate });
  const gateway = await startTestGateway({ folder, yaml: yamlWith(entries), listeners, log });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'ann-secret' });
  await gateway.gateway.users.add('ben@example.org', { password: 'ben-secret' });
  return { gateway, lines };
}

async function open(t: Test, gateway: TestGateway): Promise<{ client: SmtpClient; offered: string | undefined }> {
  const client = await SmtpClient.open(gateway.port('open'));
  t.teardown(() => client.close());
  const offered = /^250[ -]AUTH (.*)\r$/m.exec(await client.command('EHLO client.example'))?.[1];
  return { client, offered };
}

const encode = (text: string): string => Buffer.from(text).toString('base64');
const decode = (reply: string): string => Buffer.from(reply.slice(4).trim(), 'base64').toString();

/** As far as the server lets it go; resolves to the last reply. `last`: what is said to the server's proof. */
async function scram(
  client: SmtpClient,
  who: { readonly name: string; readonly password: string; readonly header?: string; readonly last?: string },
): Promise<{ readonly reply: string; readonly proven: boolean; readonly said: readonly string[] }> {
  const machine = scramClient(who);
  const first = await client.command(`AUTH SCRAM-SHA-256 ${encode(machine.first)}`, /^/);
  if (!first.startsWith('334 ')) return { reply: first, proven: false, said: [] };
  const { message, serverFinal } = machine.final(decode(first));
  const said = [message, message.replace(/^.*,p=/, ''), decode(first), encode(message)];
  const answer = await client.command(encode(message), /^/);
  if (!answer.startsWith('334 ')) return { reply: answer, proven: false, said };
  const proven = decode(answer) === serverFinal;
  return { reply: await client.command(who.last ?? '', /^/), proven, said };
}

const ann = { name: 'ann@example.org', password: 'ann-secret' };

t.test('SCRAM-SHA-256: both sides proved, an identity for the rest of the session, nothing secret kept', async t => {
  for (const entry of ['auth', 'auth: { isolate: true }']) {
    await t.test(entry, { timeout: 280_000 }, async t => {
      const { gateway, lines } = await start(t, entry.replace(/^(.*?): (.*)$/, '{ $1: $2 }'));
      const { client, offered } = await open(t, gateway);
      t.equal(offered, 'SCRAM-SHA-256 PLAIN LOGIN');
      // Each on a connection of its own: failures of one wait longer each time.
      const attempt = async (who: Parameters<typeof scram>[1]) => scram((await open(t, gateway)).client, who);
      const wrong = await attempt({ ...ann, password: 'wrong' });
      t.match(wrong.reply, /^535 5\.7\.8 /);
      t.equal((await attempt({ ...ann, name: 'nobody' })).reply, wrong.reply, 'unknown users hear the same');
      t.match((await attempt({ ...ann, header: 'n,a=ben@example.org,' })).reply, /^535 5\.7\.8 /, 'as another');
      const cancelled = await scram(client, { ...ann, last: '*' });
      t.match(cancelled, { reply: /^501 5\.7\.0 /, proven: true });
      await client.command('MAIL FROM:<ann@example.org>', /^530 /);
      t.match(await scram(client, { ...ann, last: encode('x') }), { reply: /^501 5\.5\.2 / });
      await client.command('MAIL FROM:<ann@example.org>', /^530 /);
      const right = await scram(client, ann);
      t.match(right, { reply: /^235 2\.7\.0 /, proven: true });
      t.match(await client.command('EHLO client.example'), /^250-(?![\s\S]*AUTH)/);
      const body = 'From: ann@example.org\r\nTo: ben@example.org\r\nSubject: x\r\n\r\nx\r\n';
      t.match(await client.send({ from: 'ann@example.org', to: ['ben@example.org'], body }), /^250 /);
      const trace = gateway.traces.at(-1);
      const steps = trace?.steps.filter(step => step.hook === 'sasl') ?? [];
      t.same(
        steps.map(({ plugin, verdict }) => [plugin, verdict]),
        Array(3).fill(['auth', 'accept']),
      );
      const written = JSON.stringify(gateway.traces) + lines.join('');
      for (const secret of [...wrong.said, ...cancelled.said, ...right.said, 'ann-secret'])
        t.notOk(written.includes(secret), 'neither in the log nor in the trace');
    });
  }
});

t.test('guesses by SCRAM and by password count together; a locked door does not look at proofs', async t => {
  const { gateway } = await start(t, '{ auth: { failuresPerAddress: 3 } }');
  const attempt = async (who: Parameters<typeof scram>[1]) => scram((await open(t, gateway)).client, who);
  t.match((await attempt({ ...ann, password: '1' })).reply, /^535 /);
  t.match((await attempt({ ...ann, name: 'nobody' })).reply, /^535 /);
  const { client } = await open(t, gateway);
  await client.command(`AUTH PLAIN ${encode('\0ann@example.org\0three')}`, /^535 /);
  t.match((await attempt(ann)).reply, /^454 4\.7\.0 /);
  t.match((await attempt({ ...ann, password: '4' })).reply, /^454 4\.7\.0 /, 'right or wrong: the same');
  await client.command(`AUTH PLAIN ${encode('\0ann@example.org\0ann-secret')}`, /^454 /);
});

t.test('guesses at one account from everywhere end, whoever proves what', async t => {
  const { gateway } = await start(t, '{ auth: { failuresPerAccount: 2 } }');
  const attempt = async (who: Parameters<typeof scram>[1]) => scram((await open(t, gateway)).client, who);
  for (const password of ['1', '2']) t.match((await attempt({ ...ann, password })).reply, /^535 /);
  t.match((await attempt(ann)).reply, /^454 4\.7\.0 /);
  t.match(await attempt({ name: 'ben@example.org', password: 'ben-secret' }), { reply: /^235 /, proven: true });
});

t.test('offered is what every entry that decides can take', { timeout: 280_000 }, async t => {
  const { gateway } = await start(t, 'auth');
  const file = path.join(gateway.folder, 'postern.yaml');
  const offeredBy = async (entries: string) => {
    const fixed = listeners.replace(
      'name: open, role: submission, port: 0',
      `name: open, role: submission, port: ${gateway.port('open')}`,
    );
    writeFileSync(file, `dataDir: data\n${yamlWith(entries)}\nlisteners:${fixed}\n`);
    await gateway.gateway.reload(() => loadConfig(file, gateway.folder));
    return open(t, gateway);
  };
  t.equal((await offeredBy('auth, { other: { plugin: ./other.mjs } }')).offered, 'PLAIN LOGIN', 'passwords only');
  t.equal(
    (await offeredBy('auth, { other: { plugin: ./other.mjs, mode: observe } }')).offered,
    'SCRAM-SHA-256 PLAIN LOGIN',
    'who only looks on does not count',
  );
  t.equal((await offeredBy('{ auth: { mode: observe } }')).offered, 'PLAIN LOGIN');
  t.equal((await offeredBy('{ auth: { passwordsOnly: true } }')).offered, 'PLAIN LOGIN');
  const both = await offeredBy('{ trial: { plugin: auth, mode: observe } }, { gate: { plugin: ./gate.mjs } }, auth');
  t.equal(both.offered, 'SCRAM-SHA-256 PLAIN LOGIN');
  t.match(await scram(both.client, ann), { reply: /^235 /, proven: true }, 'asked twice for one proof');
});

t.test('msmtp logs in by SCRAM-SHA-256 and checks our proof', { timeout: 280_000 }, async t => {
  if (!requireEngines(t, 'SCRAM of a mail program', 'msmtp')) return;
  const { gateway } = await start(t, 'auth');
  const who = { user: 'ann@example.org', from: 'ann@example.org', to: 'ben@example.org' };
  const submit = (secret: string, auth: string) =>
    msmtp(
      { ...who, port: gateway.port('submissions'), auth, secret },
      `From: ann@example.org\nTo: ben@example.org\nSubject: by ${auth}\n\nHello\n`,
    );
  for (const method of ['scram-sha-256', 'plain', 'login']) await submit('ann-secret', method);
  await t.rejects(submit('wrong', 'scram-sha-256'), /535 5\.7\.8/);
  t.equal(deliveredFiles(gateway.folder).length, 3);
  const used = gateway.traces.map(trace => trace.steps.find(step => step.verdict === 'accept')?.hook);
  t.same(used, ['sasl', 'auth', 'auth']);
});
