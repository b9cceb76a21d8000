import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import path from 'node:path';
import { type Duplex, pipeline } from 'node:stream';
import { createServer } from 'node:tls';
import t from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { fileRope } from '../../core/mail/rope.ts';
import { ensureSelfSigned } from '../../core/net/tls.ts';
import { milterEdits, parseAnswer } from '../../plugins/rspamd/answer.ts';
import { createHttpClient } from '../../plugins/rspamd/http-client.ts';
import { rspamd } from '../../plugins/rspamd/index.ts';
import { options } from '../../plugins/rspamd/options.ts';
import { corpusMessages } from '../harness/corpus.ts';
import { requireEngines } from '../harness/engine.ts';
import { engineFolder } from '../harness/engine-process.ts';
import { startFaultServer } from '../harness/fault-server.ts';
import { fieldsOf } from '../harness/message-fields.ts';
import { type ClientFacts, type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { testHost } from '../harness/plugin-host.ts';
import { startRspamd } from '../harness/rspamd.ts';
import { gtube } from '../harness/spamd.ts';
import { testMessage } from '../harness/test-message.ts';

const header =
  'Received: from mx.sender.example ([192.0.2.1]) by gateway.test with ESMTP id 1; Sat, 21 Nov 2026 08:00:00 +0000\nFrom: Ann <ann@sender.example>\nTo: bob@example.org\nSubject: lunch\n';
const ham = `${header}\nShall we have lunch on Monday?\n`;
const spam = `${header}\n${gtube}\n`;

async function open(
  t: { teardown(run: () => unknown): void },
  given: object,
  { client = {}, ...setup }: PluginSetup & { client?: ClientFacts } = {},
): Promise<DrivenPlugin> {
  const p = await plugin(rspamd, given, setup);
  t.teardown(() => p.close());
  await p.connect(client);
  await p.mail('ann@sender.example', { smtputf8: true });
  await p.rcpt('bob@example.org');
  await p.rcpt('jürgen@example.org');
  return p;
}

t.test('a real rspamd: scores, fields, its action, corpus mail, learning; then frozen and stopped', async t => {
  if (!requireEngines(t, 'rspamd', 'rspamd')) return;
  const engine = await startRspamd(t);
  const tcp = `127.0.0.1:${engine.port}`;
  for (const where of [tcp, engine.socket]) {
    const p = await open(t, { hosts: [where] });
    const refused = await p.message(spam);
    t.match(refused, { kind: 'reject', reply: { code: 550, enhanced: '5.7.1' }, evidence: { action: 'reject' } });
    const passed = await p.message(`X-Spam-Report: trust me\nX-Spamd-Bar: forged\n${ham}`);
    t.match(passed, { kind: 'continue', evidence: { score: Number, symbols: { MISSING_DATE: 1 } } });
    if (passed.kind !== 'continue') t.comment(passed);
    const fields = fieldsOf(passed);
    t.match(fields.get('X-Spam-Status')?.value, /^No, score=\d\.\d required=6\.0 tests=[A-Z_,\s]*MISSING_MID/);
    t.equal(fields.get('X-Spam-Report'), undefined);
    t.match(fields.get('X-Spamd-Bar')?.value, /^\++$/, 'a field by the milter_headers module');
    t.equal(fields.all('X-Spamd-Bar').length, 1);
    t.equal(fields.get('Authentication-Results'), undefined, 'one that is not allowed');
    t.match(await p.status(), { [where]: 'works' });
  }
  const junk = await open(t, { hosts: [tcp], thresholds: { junk: 1, reject: 'never' } });
  t.equal(fieldsOf(await junk.message(ham)).get('X-Spam-Flag')?.value, 'YES');
  const theirs = await open(t, { hosts: [tcp], decide: 'rspamd', thresholds: { reject: 'never' } });
  t.match(await theirs.message(spam), { kind: 'reject' });
  t.match(await theirs.message(ham), { kind: 'continue', evidence: { disposition: 'clean' } });
  const own = await open(t, { hosts: [tcp] }, { client: { identity: 'bob@example.org' } });
  t.match(await own.message(spam), { kind: 'continue', evidence: { notChecked: 'own mail' } });
  const p = await open(t, {
    hosts: [engine.socket],
    thresholds: { reject: 'never' },
    hostTimeout: '10s',
    retryAfter: '0s',
  });
  for (const { name, bytes } of corpusMessages(15)) t.match(await p.message(bytes), { kind: 'continue' }, name);
  t.equal((await Promise.all([1, 2, 3].map(() => p.message(ham)))).filter(v => v.kind === 'continue').length, 3);

  const host = await testHost();
  t.teardown(() => host.close());
  const given = options.parse({ hosts: [tcp], controller: `127.0.0.1:${engine.controllerPort}` });
  const instance = await rspamd.setup(given, host);
  const { signal } = new AbortController();
  await instance.learn?.(testMessage(spam), 'spam', 'bob@example.org', signal);
  await instance.close?.();

  const frozen = await open(t, { hosts: [engine.socket, tcp], hostTimeout: '300ms' });
  engine.freeze();
  t.match(await frozen.message(ham), {
    kind: 'error',
    why: /Deadline/,
    outcome: { kind: 'refused', reply: { code: 451 } },
  });
  t.match(await p.message(ham), { kind: 'error' }, 'frozen on a kept connection');
  engine.thaw();
  t.match(await p.message(ham), { kind: 'continue' });
  await engine.kill();
  const stopped = await open(t, { hosts: [engine.socket, tcp] });
  t.match(await stopped.message(ham), { kind: 'error', why: /ECONNREFUSED/ }, 'stopped');
});

t.test('a real rspamd behind a TLS terminator', async t => {
  if (!requireEngines(t, 'rspamd over TLS', 'rspamd')) return;
  const engine = await startRspamd(t);
  const files = await ensureSelfSigned(await engineFolder(t, 'rspamd-tls'), ['localhost'], systemClock);
  const secured = { cert: readFileSync(files.cert), key: readFileSync(files.key) };
  const terminator = createServer(secured, outside => {
    const inside = connect(engine.port, '127.0.0.1');
    pipeline(outside, inside, outside, () => undefined);
  });
  terminator.on('tlsClientError', () => undefined);
  await new Promise<void>(resolve => terminator.listen(0, '127.0.0.1', resolve));
  t.teardown(() => terminator.close());
  const hosts = [`tls://localhost:${(terminator.address() as AddressInfo).port}`];
  const trusting = await open(t, { hosts, caFile: files.cert });
  t.match(await trusting.message(spam), { kind: 'reject', evidence: { action: 'reject' } });
  t.match(await trusting.message(ham), { kind: 'continue', evidence: { score: Number } });
  const untrusting = await open(t, { hosts });
  t.match(
    await untrusting.message(spam),
    { kind: 'error', why: /self.signed/ },
    'a certificate that nobody vouches for',
  );
});

t.test('garbage is no answer', async t => {
  const server = await startFaultServer(t, { kind: 'silent' });
  const hosts = [`127.0.0.1:${server.port}`];
  const hurried = await open(t, { hosts, hostTimeout: '200ms' });
  const p = await open(t, { hosts, retryAfter: '0s' });
  const failed = async (name: string, why: RegExp, asked = p): Promise<void> => {
    t.match(await asked.message(ham), { kind: 'error', why, outcome: { kind: 'refused', reply: { code: 451 } } }, name);
  };
  await failed('silence', /Deadline/, hurried);
  const http = (body: string, status = '200 OK'): string =>
    `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
  const answers = [
    '',
    '\0\0\0\r\n\r\n',
    'SPAMD/1.1 0 EX_OK\r\n\r\n',
    http(''),
    http('<html>'),
    http('[]'),
    http('{"score":"1","required_score":15,"action":"no action"}'),
    http('{"required_score":15,"action":"no action"}'),
    http('{"error":"x"}', '500 Error'),
    'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"score":0,',
  ];
  for (const bytes of answers) {
    server.set({ kind: 'say', bytes });
    await failed(JSON.stringify(bytes), /answer|parse|hang up|aborted|ECONNRESET|EPIPE/i);
  }
  server.set({ kind: 'reset', afterBytes: 10 });
  await failed('reset', /ECONNRESET|EPIPE|hang up/);
  server.set({ kind: 'flood', bytes: 'x'.repeat(10_000) });
  await failed('flood', /Parse Error/);
  const soft = http('{"score":1,"required_score":15,"action":"soft reject","messages":{"smtp_message":"secret"}}');
  server.set({ kind: 'say', bytes: soft });
  t.match(await p.message(ham), { kind: 'defer', reply: { code: 451, text: 'Please try again later' } });
  const dead = await open(t, { hosts: ['/nonexistent'] }, { onError: 'continue' });
  t.match(await dead.message(ham), { kind: 'error', outcome: { kind: 'deliver' } });
});

t.test('a message that cannot be read fails also where there is no connection yet', async t => {
  let connected = (_: Duplex): void => undefined;
  const client = createHttpClient(
    () =>
      new Promise(resolve => {
        connected = resolve;
      }),
  );
  t.teardown(() => client.close());
  const file = path.join(t.testdir(), 'gone');
  const asked = client.request({ path: '/', headers: {}, body: fileRope(file, 0, 10) }, new AbortController().signal);
  asked.catch(() => undefined);
  for (let times = 0; times < 5; times++) await access(file).catch(() => undefined);
  const server = createTcpServer(socket => socket.resume());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  connected(connect((server.address() as AddressInfo).port, '127.0.0.1'));
  await t.rejects(asked, { code: 'ENOENT' });
});

t.test('fields by rspamd become edits only where they are allowed', async t => {
  const answer = parseAnswer(
    Buffer.from(
      JSON.stringify({
        score: 1,
        required_score: 15,
        action: 'no action',
        milter: {
          add_headers: {
            'X-A': [{ value: 'one\n\ttwo', order: 1 }, 'three\r\nBcc: x'],
            From: 'evil@example.org',
            'DKIM-Signature': { value: 'v=1;\r\n\tb=x', order: 0 },
            'bad name': 'x',
            Received: 'x',
          },
          remove_headers: { 'X-B': 0, 'X-C': 2, Subject: 0, Received: 1 },
        },
      }),
    ),
  );
  t.same(milterEdits(answer, ['X-*', 'DKIM-Signature', 'Received', 'From']), [
    { kind: 'remove-header', name: 'X-B' },
    { kind: 'remove-header', name: 'X-C', index: 1 },
    { kind: 'add-header', name: 'X-A', value: 'one\r\n\ttwo' },
    { kind: 'add-header', name: 'X-A', value: 'three  Bcc: x' },
    { kind: 'add-header', name: 'DKIM-Signature', value: 'v=1;\r\n\tb=x' },
  ]);
});
