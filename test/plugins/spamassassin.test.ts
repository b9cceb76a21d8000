import type { Socket } from 'node:net';
import path from 'node:path';
import { Duplex } from 'node:stream';
import t from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { connectEndpoint, type Endpoint } from '../../core/lib/endpoint.ts';
import { bufferRope, fileRope } from '../../core/mail/rope.ts';
import { ensureSelfSigned } from '../../core/net/tls.ts';
import { options, spamassassin } from '../../plugins/spamassassin/index.ts';
import { createSpamdClient } from '../../plugins/spamassassin/spamd-client.ts';
import { parseReply, symbolsOf, verdictOf } from '../../plugins/spamassassin/spamd-reply.ts';
import { corpusMessages } from '../harness/corpus.ts';
import { requireEngines } from '../harness/engine.ts';
import { engineFolder } from '../harness/engine-process.ts';
import { startFaultServer } from '../harness/fault-server.ts';
import { fieldsOf } from '../harness/message-fields.ts';
import { type ClientFacts, type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { testHost } from '../harness/plugin-host.ts';
import { gtube, startSpamd } from '../harness/spamd.ts';
import { testMessage } from '../harness/test-message.ts';

const header =
  'From: Ann <ann@sender.example>\nTo: bob@example.org\nSubject: lunch\nDate: Sat, 21 Nov 2026 08:00:00 +0000\nMessage-ID: <1@sender.example>\n';
const ham = `${header}\nShall we have lunch on Monday?\n`;
const spam = `${header}\n${gtube}\n`;

async function open(
  t: { teardown(run: () => unknown): void },
  given: object,
  { client = {}, to = ['bob@example.org'], ...setup }: PluginSetup & { client?: ClientFacts; to?: string[] } = {},
): Promise<DrivenPlugin> {
  const p = await plugin(spamassassin, given, setup);
  t.teardown(() => p.close());
  await p.connect(client);
  await p.mail('ann@sender.example');
  for (const each of to) await p.rcpt(each);
  return p;
}

t.test('scores, header fields and thresholds with a real spamd, over TCP and unix socket', async t => {
  if (!requireEngines(t, 'spamassassin', 'spamd')) return;
  const spamd = await startSpamd(t);
  const tcp = `127.0.0.1:${spamd.port}`;
  for (const where of [tcp, spamd.socket]) {
    const p = await open(t, { hosts: [where] });
    const refused = await p.message(spam);
    t.match(refused, { kind: 'reject', reply: { code: 550, enhanced: '5.7.1' }, evidence: { disposition: 'reject' } });
    t.notMatch(refused.reply?.text ?? '', /\d{3,}|assassin|GTUBE/i, 'no score for the client');
    const forged = 'X-Spam-Flag: YES\nX-Spam-Status: No, score=-100\nx-spam-anything: 1\n';
    const passed = await p.message(`${forged}${ham}`);
    t.equal(passed.kind, 'continue');
    const fields = fieldsOf(passed);
    t.match(fields.get('X-Spam-Status')?.value, /^No, score=-?\d+\.\d required=5\.0 tests=[A-Z]/);
    t.match(fields.get('X-Spam-Score')?.value, /^-?\d+\.\d$/);
    t.equal(fields.get('X-Spam-Flag'), undefined);
    t.equal(fields.get('x-spam-anything'), undefined);
    t.equal(fields.all('X-Spam-Status').length, 1);
    t.match(await p.status(), { [where]: 'works' });
  }
  const junk = await open(t, { hosts: [tcp], thresholds: { reject: 'never' }, subjectTag: '[SPAM]' });
  const filed = await junk.message(spam);
  t.equal(filed.kind, 'continue');
  t.equal(fieldsOf(filed).get('X-Spam-Flag')?.value, 'YES');
  t.equal(fieldsOf(filed).get('X-Spam-Level')?.value, '*'.repeat(50));
  t.match(fieldsOf(filed).get('X-Spam-Status')?.value, /^Yes, score=1\d{3}\.\d required=5\.0 tests=.*GTUBE/);
  t.equal(fieldsOf(filed).get('Subject')?.value, '[SPAM] lunch');
  const held = await open(t, { hosts: [tcp], thresholds: { quarantine: 100, reject: 'never' } });
  t.match(await held.message(spam), { kind: 'quarantine', why: /GTUBE/ });
  const quiet = await open(t, { hosts: [tcp], thresholds: { tag: 'never' }, maxSize: '1KiB' });
  t.equal(fieldsOf(await quiet.message(ham)).get('X-Spam-Status'), undefined);
  const large = await quiet.message(`X-Spam-Flag: YES\n${ham}${'x\n'.repeat(1000)}`);
  t.match(large, { kind: 'continue', evidence: { notChecked: /larger/ } });
  t.equal(fieldsOf(large).get('X-Spam-Flag'), undefined);
  const own = await open(t, { hosts: [tcp] }, { client: { identity: 'bob@example.org' } });
  t.match(await own.message(spam), { kind: 'continue', evidence: { notChecked: 'own mail' } });
  const checked = await open(t, { hosts: [tcp], outgoing: true }, { client: { identity: 'bob@example.org' } });
  t.match(await checked.message(spam), { kind: 'reject' });
});

t.test('users by recipient: each is asked for once, the lowest score decides; learning', async t => {
  if (!requireEngines(t, 'spamassassin users', 'spamd')) return;
  const spamd = await startSpamd(t);
  const to = ['Bob+lists@example.org', 'carol@example.org', 'bob@example.org'];
  const p = await open(t, { hosts: [spamd.socket], user: '%u' }, { to });
  t.match(await p.message(ham), { kind: 'continue', evidence: { byUser: { bob: Number, carol: Number } } });
  await spamd.untilOutput(/for bob:/);
  await spamd.untilOutput(/for carol:/);
  const host = await testHost();
  t.teardown(() => host.close());
  const instance = await spamassassin.setup(options.parse({ hosts: [spamd.socket], user: '%u@%d' }), host);
  const { signal } = new AbortController();
  await instance.learn?.(testMessage(spam), 'spam', 'bob@example.org', signal);
  await spamd.untilOutput(/Tell: .*for bob@example\.org:/);
});

t.test('every command of the protocol, and TLS', async t => {
  if (!requireEngines(t, 'spamassassin protocol', 'spamd')) return;
  const folder = await engineFolder(t, 'spamd-tls');
  const files = await ensureSelfSigned(folder, ['localhost'], systemClock);
  const { signal } = new AbortController();
  const plain = await startSpamd(t);
  const secure = await startSpamd(t, ['--ssl', `--server-cert=${files.cert}`, `--server-key=${files.key}`]);
  const clientFor = (endpoint: Endpoint, caFile?: string) =>
    createSpamdClient(each =>
      connectEndpoint(endpoint, { signal: each, clock: systemClock, connectMs: 5_000, ...(caFile ? { caFile } : {}) }),
    );
  const content = { message: bufferRope(Buffer.from(spam.replaceAll('\n', '\r\n'))), user: 'bob' };
  const client = clientFor({ kind: 'unix', path: plain.socket });
  await client.ping(signal);
  t.match(await client.check(content, signal), { isSpam: true, score: Number, required: 5 });
  t.ok((await client.symbols(content, signal)).symbols.includes('GTUBE'));
  t.match((await client.report(content, signal)).report, /Generic Test for Unsolicited/);
  t.match((await client.headers(content, signal)).headers.toString(), /X-Spam-Flag: YES/);
  t.match((await client.process(content, signal)).message.toString(), /This is a multi-part message|message\/rfc822/);
  const learnt = await client.tell(content, { messageClass: 'spam', set: ['local'] }, signal);
  t.same(learnt.didRemove, []);
  await t.rejects(client.check({ ...content, user: 'a\r\nB: c' }, signal), /Cannot name/);
  const overTls = clientFor({ kind: 'tcp', host: 'localhost', port: secure.port, tls: true }, files.cert);
  t.match(await overTls.check(content, signal), { isSpam: true });
  const untrusted = clientFor({ kind: 'tcp', host: 'localhost', port: secure.port, tls: true });
  await t.rejects(untrusted.check(content, signal), /self.signed/);
});

t.test('corpus mail: whole answers, more points for spam than for ham', async t => {
  if (!requireEngines(t, 'spamassassin corpus', 'spamd')) return;
  const spamd = await startSpamd(t);
  const p = await open(t, { hosts: [spamd.socket], thresholds: { reject: 'never' } });
  const scores: Record<'spam' | 'ham', number[]> = { spam: [], ham: [] };
  for (const { name, bytes } of corpusMessages(15)) {
    const { kind, evidence } = await p.message(bytes);
    t.equal(kind, 'continue', name);
    scores[name.includes('spam') ? 'spam' : 'ham'].push(Number(evidence?.['score']));
  }
  const mean = (list: readonly number[]): number => list.reduce((sum, score) => sum + score, 0) / list.length;
  t.ok(mean(scores.spam) > mean(scores.ham) + 1, `spam ${mean(scores.spam)}, ham ${mean(scores.ham)}`);
});

t.test(
  'a connection that breaks while a spooled message is still read fails that message and nothing else',
  async t => {
    const file = path.join(t.testdir({ spooled: 'x'.repeat(200_000) }), 'spooled');
    const client = createSpamdClient(async () => {
      const socket = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() }) as Socket;
      // Reading of the file has begun by then, and takes turns of its own.
      setImmediate(() => socket.destroy(new Error('reset')));
      return socket;
    });
    await t.rejects(client.check({ message: fileRope(file, 0, 200_000) }, new AbortController().signal), /reset/);
  },
);

t.test('who waits for a slow spamd leaves no listener behind', async t => {
  const file = path.join(t.testdir({ spooled: 'x'.repeat(500_000) }), 'spooled');
  const counts: number[] = [];
  const client = createSpamdClient(async () => {
    const socket: Duplex = new Duplex({
      highWaterMark: 1,
      read: () => undefined,
      write(_chunk, _encoding, done) {
        counts.push(socket.listenerCount('close') + socket.listenerCount('error'));
        setImmediate(done);
        if (counts.length === 8) setImmediate(() => socket.destroy(new Error('enough')));
      },
    });
    return socket as Socket;
  });
  await t.rejects(client.check({ message: fileRope(file, 0, 500_000) }, new AbortController().signal), /enough/);
  t.equal(counts.at(-1), counts[2]);
});

t.test('stopped, frozen, garbage', async t => {
  const server = await startFaultServer(t, { kind: 'silent' });
  const hosts = [`127.0.0.1:${server.port}`];
  const hurried = await open(t, { hosts, hostTimeout: '200ms' });
  const p = await open(t, { hosts, retryAfter: '0s' });
  const failed = async (name: string, why: RegExp, asked = p): Promise<void> => {
    t.match(await asked.message(ham), { kind: 'error', why, outcome: { kind: 'refused', reply: { code: 451 } } }, name);
  };
  await failed('silence', /Deadline/, hurried);
  const answers = [
    '',
    '\0\0\0',
    'HTTP/1.1 400 Bad Request\r\n\r\n',
    'SPAMD/1.1 0 EX_OK\r\n',
    'SPAMD/1.1 0 EX_OK\r\nContent-length: 100\r\nSpam: False ; 0 / 5\r\n\r\nGT',
    'SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\n\r\n',
    'SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; nan / 5\r\n\r\n',
    'SPAMD/1.0 76 Bad header line\r\n\r\n',
    'SPAMD/1.1 75 EX_TEMPFAIL\r\n\r\n',
  ];
  for (const bytes of answers) {
    server.set({ kind: 'say', bytes });
    await failed(JSON.stringify(bytes), /answer|cut short|ECONNRESET|EPIPE/i);
  }
  server.set({ kind: 'reset', afterBytes: 10 });
  await failed('reset', /ECONNRESET|EPIPE/);
  server.set({ kind: 'flood', bytes: 'SPAMD/1.1 0 EX_OK\r\n'.repeat(1000) });
  await failed('flood', /no end/);
  t.match(await (await open(t, { hosts: ['/nonexistent'] }, { onError: 'continue' })).message(ham), {
    kind: 'error',
    outcome: { kind: 'deliver' },
  });
  const low = verdictOf(
    parseReply(Buffer.from('SPAMD/1.1 0 EX_OK\r\nContent-length: 6\r\nSpam: False ; -0.0 / 5.0\r\n\r\nA,\r\nB\n')),
  );
  t.same(low, { isSpam: false, score: -0, required: 5 });
  t.same(symbolsOf({ code: 0, text: '', fields: new Map(), body: Buffer.from('A,B,\r\n\tC_D\r\n') }), [
    'A',
    'B',
    'C_D',
  ]);
  if (!requireEngines(t, 'spamassassin faults', 'spamd')) return;
  const spamd = await startSpamd(t);
  const both = [spamd.socket, `127.0.0.1:${spamd.port}`];
  spamd.freeze();
  t.match(
    await (await open(t, { hosts: both, hostTimeout: '300ms' })).message(ham),
    { kind: 'error', why: /Deadline/ },
    'frozen',
  );
  spamd.thaw();
  await spamd.kill();
  t.match(await (await open(t, { hosts: both })).message(ham), { kind: 'error', why: /ECONNREFUSED/ }, 'stopped');
});
