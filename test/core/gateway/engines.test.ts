// Real engines in one chain behind a real listener: what is bad is refused while the client waits, what is good arrives
// with the fields of all of them, and with engines that hang or are gone the client keeps its message.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { eicar, startClamd } from '../../harness/clamd.ts';
import { corpusMessages } from '../../harness/corpus.ts';
import { requireEngines } from '../../harness/engine.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { guardedLogger } from '../../harness/log-guard.ts';
import { startOpenDkims } from '../../harness/opendkim.ts';
import { startRspamd } from '../../harness/rspamd.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { gtube, startSpamd } from '../../harness/spamd.ts';

const header =
  'From: Ann <ann@sender.example>\r\nTo: bob@example.org\r\nSubject: lunch\r\nDate: Sat, 21 Nov 2026 08:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n';
const asSent = (bytes: Buffer): string => bytes.toString('latin1').replace(/\r(?!\n)|\0/g, ' ');

/** All messages in the mailboxes below a folder. */
const delivered = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && ['new', 'cur'].includes(path.basename(entry.parentPath)))
    .map(entry => readFileSync(path.join(entry.parentPath, entry.name), 'latin1'));

t.test('clamd, spamd, rspamd and opendkim in one chain', { timeout: 240_000 }, async t => {
  if (!requireEngines(t, 'engines in a gateway', 'clamd', 'spamd', 'rspamd', 'opendkim')) return;
  const [clamd, spamd, rspamd, dkim] = await Promise.all([
    startClamd(t),
    startSpamd(t),
    startRspamd(t),
    startOpenDkims(t, '127.0.0.1'),
  ]);
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
message: { spoolAbove: 64KiB }
chain:
  - relay-policy
  - recipients
  - clamav: { hosts: ['${clamd.socket}'], hostTimeout: 100s, timeout: 120s }
  - spamassassin: { hosts: ['${spamd.socket}'], hostTimeout: 100s, timeout: 120s }
  - rspamd: { hosts: ['127.0.0.1:${rspamd.port}'], headerPrefix: X-Rspamd, thresholds: { reject: never }, hostTimeout: 100s, timeout: 120s }
  - opendkim: { plugin: milter, hosts: ['${dkim.unix.socket}'], hostTimeout: 100s, timeout: 120s }
`;
  const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }';
  const log = guardedLogger({ expected: [/Engine does not answer/, /Plugin failed/, /signatures/i] });
  const gateway = await startTestGateway({ folder: t.testdir(), yaml, listeners, log });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('bob@example.org', { password: 'secret' });
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO mx.sender.example');
  const send = (body: string): Promise<string> =>
    smtp.send({ from: 'ann@sender.example', to: ['bob@example.org'], body });

  const virus = await send(`${header}\r\n${eicar}\r\n`);
  t.match(virus, /^550 5\.7\.1 /);
  t.notMatch(virus, /eicar|clam/i);
  t.match(await send(`${header}\r\n${gtube}\r\n`), /^550 5\.7\.1 /);
  t.match(await send(`X-Virus-Status: Clean (forged)\r\nX-Spam-Flag: NO\r\n${header}\r\nLunch?\r\n`), /^250 /);
  t.match(await send(`${header}\r\n${`${'y'.repeat(76)}\r\n`.repeat(60_000)}`), /^250 /, 'a spooled message of 4.7 MB');
  const box = delivered(gateway.folder);
  t.equal(box.length, 2);
  const small = box.find(text => text.length < 100_000) ?? '';
  t.match(small, /^X-Virus-Status: Clean\r?\n/m);
  t.match(small, /^X-Spam-Status: No, score=/m);
  t.match(small, /^X-Rspamd-Status: No, score=/m);
  t.match(small, /^DKIM-Signature: v=1;.*(?:\r?\n\t.*)*d=sender\.example/m);
  t.notMatch(small, /forged|X-Spam-Flag/);

  const before = delivered(gateway.folder).length;
  const replies: string[] = [];
  for (const { bytes } of corpusMessages(25)) replies.push(await send(asSent(bytes)));
  t.same(
    replies.filter(reply => !/^(?:250|550) /.test(reply)),
    [],
  );
  const taken = replies.filter(reply => reply.startsWith('250 ')).length;
  t.equal(delivered(gateway.folder).length, before + taken, 'what was accepted is there');

  // From the last of the chain to the first, so that each is reached.
  for (const engine of [dkim.unix, rspamd, spamd, clamd]) {
    await engine.kill();
    t.match(await send(`${header}\r\nLunch?\r\n`), /^451 4\.3\.0 /, 'an engine is gone');
  }
  t.equal(delivered(gateway.folder).length, before + taken);
  const steps = gateway.traces.flatMap(trace => trace.steps ?? []);
  for (const plugin of ['clamav', 'spamassassin', 'rspamd', 'opendkim'])
    t.ok(
      steps.some(step => step.plugin === plugin && step.evidence),
      `${plugin} stands in the trace`,
    );
});
