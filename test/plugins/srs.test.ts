import t from 'tap';
import type { Recipient } from '../../core/mail/envelope.ts';
import { srs } from '../../plugins/srs/index.ts';
import { startPeer } from '../core/relay/peers.ts';
import { startTestGateway } from '../harness/gateway.ts';
import { deliveredFiles, until } from '../harness/gateway-files.ts';
import { heldClock } from '../harness/held-clock.ts';
import { plugin } from '../harness/plugin.ts';
import { SmtpClient } from '../harness/smtp-client.ts';

const clock = heldClock();
const setup = {
  clock,
  env: { SRS: 'a secret', OLD: 'an old one' },
  accounts: { local: ['example.org', 'fwd.test'], relay: ['inner.test'] },
};
const open = (more: object = {}) => plugin(srs, { domain: 'fwd.test', secrets: [{ env: 'SRS' }], ...more }, setup);

/** Sender that each recipient gets, in the order of the recipients. */
async function senders(p: Awaited<ReturnType<typeof open>>, from: string | null, ...to: readonly string[]) {
  await p.connect();
  await p.mail(from);
  for (const recipient of to) await p.rcpt(recipient);
  const { outcome } = await p.message('Subject: x\n\nx\n');
  const { recipients = [] } = outcome as { readonly recipients?: readonly Recipient[] };
  return recipients.map(({ address, sender }) => `${address.text} ${sender?.text ?? ''}`.trim());
}

const rewritten = /^x@far\.test (SRS0=\S{4}=..=a\.test=bob@fwd\.test)$/;

t.test('whose sender is rewritten, and for whom', async t => {
  const p = await open({ exclude: ['kept.test', '.kept.example'] });
  t.teardown(() => p.close());
  const [far, local, inner] = await senders(p, 'bob@a.test', 'x@far.test', 'y@example.org', 'z@inner.test');
  t.match(far, rewritten);
  t.equal(local, 'y@example.org', 'a local copy keeps the sender');
  t.equal(inner, 'z@inner.test');
  for (const kept of ['bob@example.org', 'bob@inner.test', 'bob@kept.test', 'bob@sub.kept.example', null])
    t.same(await senders(p, kept, 'x@far.test'), ['x@far.test'], String(kept));
  t.match(await senders(p, 'bob@kept.example', 'x@far.test'), [/SRS0/]);
  t.same(await senders(p, `${'x'.repeat(240)}@a.test`, 'x@far.test'), ['x@far.test'], 'too long: as it was');
  const every = await open({ relayDomains: true, separator: '-' });
  t.teardown(() => every.close());
  t.match(await senders(every, 'bob@a.test', 'z@inner.test'), [/SRS0-/]);
});

t.test('what comes back', async t => {
  const old = await open({ secrets: [{ env: 'OLD' }] });
  const made = rewritten.exec((await senders(old, 'bob@a.test', 'x@far.test'))[0] ?? '')?.[1] ?? '';
  await old.close();
  const p = await open({ secrets: [{ env: 'SRS' }, { env: 'OLD' }] });
  t.teardown(() => p.close());
  const rcpt = async (sender: string | null, to: string) => {
    await p.connect();
    await p.mail(sender);
    const { kind, reply } = await p.rcpt(to);
    return `${kind} ${reply?.code ?? ''} ${reply?.enhanced ?? ''}`.trim();
  };
  t.equal(await rcpt(null, made), 'accept');
  t.equal(await rcpt(null, made.toUpperCase()), 'accept');
  t.same(await senders(p, null, made, 'y@example.org'), ['y@example.org', 'bob@a.test'], 'goes on to the sender');
  t.equal(await rcpt('eve@evil.test', made), 'reject 550 5.7.1', 'nobody relays through it');
  t.equal(await rcpt(null, made.replace('bob', 'eve')), 'reject 550 5.1.1');
  t.equal(await rcpt(null, 'SRS0=x@fwd.test'), 'continue', 'no such address: the others decide');
  t.equal(await rcpt(null, made.replace('fwd.test', 'example.org')), 'continue');
  const anyone = await open({ secrets: [{ env: 'OLD' }], acceptFrom: 'anyone' });
  t.same(await senders(anyone, 'carol@b.test', made).then(list => list[0]?.split(' ')[0]), 'bob@a.test');
  await anyone.close();
  clock.move(22 * 86_400_000);
  t.equal(await rcpt(null, made), 'reject 550 5.1.1', 'too old');
});

t.test('what cannot work is said at load', async t => {
  for (const [options, why] of [
    [{ domain: 'far.test', secrets: [{ env: 'SRS' }] }, /not among the domains/],
    [{ domain: '-', secrets: [{ env: 'SRS' }] }, /no domain/],
    [{ domain: 'fwd.test', secrets: [{ env: 'NONE' }] }, /'NONE' is not set/],
    [{ domain: 'fwd.test', secrets: [{ file: 'none' }] }, /Cannot read the secret/],
    [{ domain: 'fwd.test', secrets: [] }, /Too small/],
    [{ domain: 'fwd.test', secrets: ['plain'] }, /Expected object/],
  ] as const)
    await t.rejects(plugin(srs, options, setup), { name: 'ChainError', message: why });
});

t.test('through a whole gateway: a local copy, a forwarded one, a queue, and the bounce', async t => {
  let up = true;
  const peer = await startPeer(t, { on: verb => (verb === 'MAIL' && !up ? '421 4.3.2 not now' : undefined) });
  const folder = t.testdir({
    aliases: 'bob: bob, bob@far.test, bob@farther.test\n',
    secret: 'the secret\n',
  });
  const gateway = await startTestGateway({
    folder,
    listeners: '\n  - { name: smtp, role: smtp, port: 0, tls: none }',
    yaml: `
hostname: mx.example.org
domains: [{ name: example.org }]
chain:
  - relay-policy
  - aliases: { aliases: [aliases] }
  - srs: { domain: example.org, secrets: [{ file: secret }] }
  - recipients
routes: [{ domain: '*', hosts: ['127.0.0.1:${peer.port}'] }]
queue: { firstRetry: 1s }
`,
  });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('bob@example.org', { password: 'secret' });
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO client.test');
  const said = (verb: string) => peer.commands.filter(line => line.startsWith(verb));
  t.match(await smtp.send({ from: 'ann@a.test', to: ['bob@example.org'], body: 'Subject: x\r\n\r\nx\r\n' }), /^250/);
  await until(() => peer.bodies.length === 1, 'the forwarded copies');
  const sent = /^MAIL FROM:<(SRS0=.*=a\.test=ann@example\.org)>/.exec(said('MAIL').at(-1) ?? '')?.[1] ?? '';
  t.not(sent, '');
  t.match(said('RCPT'), [/bob@far\.test/, /bob@farther\.test/], 'both in one transaction');
  t.match(deliveredFiles(folder)[0], /^Return-Path: <ann@a\.test>\r?\n/);

  up = false;
  t.match(await smtp.send({ from: 'ann@a.test', to: ['bob@example.org'], body: 'Subject: y\r\n\r\ny\r\n' }), /^250/);
  up = true;
  await until(() => peer.bodies.length === 2, 'the queue');
  t.match(said('MAIL').at(-1), `MAIL FROM:<${sent}>`, 'the queue remembers the sender of each recipient');

  t.match(await smtp.send({ from: '', to: [sent], body: 'Subject: bounce\r\n\r\nx\r\n' }), /^250/);
  await until(() => peer.bodies.length === 3, 'the bounce');
  t.match(said('MAIL').at(-1), 'MAIL FROM:<>');
  t.match(said('RCPT').at(-1), 'RCPT TO:<ann@a.test>');
  await t.rejects(smtp.send({ from: 'eve@e.test', to: [sent], body: 'x\r\n' }), /550 5\.7\.1/);
});
