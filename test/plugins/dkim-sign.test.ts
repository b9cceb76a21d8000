import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { dkimSign } from '../../plugins/dkim-sign/index.ts';
import { mailAuth } from '../../plugins/mail-auth/index.ts';
import { corpusMessages } from '../harness/corpus.ts';
import type { Zone } from '../harness/dns-server.ts';
import { makeKey } from '../harness/forge-signature.ts';
import { startTestGateway } from '../harness/gateway.ts';
import { type DrivenPlugin, plugin } from '../harness/plugin.ts';
import { Pop3Client } from '../harness/pop3-client.ts';
import { SmtpClient } from '../harness/smtp-client.ts';

const keys = { rsa: makeKey('rsa'), ed: makeKey('ed25519'), weak: makeKey('rsa', 512) };
const strings = (text: string) => [text.match(/.{1,255}/g) ?? []];
const zone: Zone = {
  'rsa._domainkey.sign.test': { TXT: strings(`v=DKIM1; k=rsa; p=${keys.rsa.published}`) },
  'ed._domainkey.sign.test': { TXT: [`v=DKIM1; k=ed25519; p=${keys.ed.published}`] },
  'ed._domainkey.other.test': { TXT: [`v=DKIM1; k=ed25519; p=${makeKey('ed25519').published}`] },
};

function writeKeys(folder: string): void {
  for (const [name, { privateKey }] of Object.entries(keys))
    writeFileSync(path.join(folder, `${name}.pem`), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(path.join(folder, 'broken.pem'), 'no key');
}
const both = [
  { domain: 'sign.test', selector: 'rsa', key: 'rsa.pem' },
  { domain: 'sign.test', selector: 'ed', key: 'ed.pem' },
];
const text = 'From: Ann <ann@sign.test>\nTo: bob@example.test\nSubject: hello\n\nHi.\n';

/** What a verifier elsewhere says. */
async function verdicts(verifier: DrivenPlugin, bytes: Buffer): Promise<unknown> {
  await verifier.connect();
  await verifier.mail('x@nowhere.test');
  await verifier.rcpt('bob@example.test');
  return (await verifier.message(bytes)).evidence?.['dkim'];
}

t.test('200 real messages verify after delivery, with each key', { timeout: 600_000 }, async t => {
  const folder = t.testdir();
  writeKeys(folder);
  const gateway = await startTestGateway({
    folder,
    yaml: `
hostname: mx.example.org
domains: [{ name: example.org }]
relayNetworks: [127.0.0.0/8]
message: { spoolAbove: 16KiB }
chain: [relay-policy, recipients, { rfc822: { rules: { nul: mark, duplicate-from: mark } } }, { dkim-sign: { keys: ${JSON.stringify(both)} } }]
`,
    listeners: `
  - { name: smtp, role: smtp, port: 0, tls: none }
  - { name: pop3, role: pop3, port: 0, tls: none, allowPlaintextAuth: true }`,
  });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  await smtp.command('EHLO client.example.net');
  for (const { name, bytes } of corpusMessages(200)) {
    const mail = bytes.toString('latin1').replace(/\r(?!\n)|\0/g, ' ');
    const end = mail.indexOf('\r\n\r\n');
    // Whoever wrote it, one of ours sends it.
    const head = mail.slice(0, end).replace(/^From:.*\r\n(?:[ \t].*\r\n)*/gim, '');
    const body = Buffer.from(`From: Ann <ann@sign.test>\r\n${head}${mail.slice(end)}\r\n`, 'latin1');
    const reply = await smtp.send({ from: 'ann@sign.test', to: ['ann@example.org'], body });
    if (!reply.startsWith('250 ')) t.fail(`${name} was answered ${reply}`);
  }
  smtp.close();
  const verifier = await plugin(mailAuth, {}, { dns: zone });
  t.teardown(() => verifier.close());
  const pop3 = await Pop3Client.open(gateway.port('pop3'));
  await pop3.login('ann@example.org', 'secret');
  const sizes = await pop3.list();
  t.equal(sizes.length, 200);
  const faults: unknown[] = [];
  for (const [number] of sizes) {
    const raw = await pop3.retrieve(number);
    const found = await verdicts(verifier, raw);
    if (JSON.stringify(found) !== '["pass sign.test","pass sign.test"]')
      faults.push(found, raw.toString('latin1').slice(0, 2000));
    const lines = raw.toString('latin1').split('\r\n', 40);
    if (lines.some(line => line.startsWith('DKIM-Signature') && line.length > 78)) faults.push('long line');
  }
  await pop3.quit();
  t.same(faults, []);
});

t.test('whose mail is signed, by which key', async t => {
  const folder = t.testdir();
  writeKeys(folder);
  const setup = { dns: zone, configFolder: folder, relayNetworks: ['10.0.0.0/8'] };
  const other = { domain: 'other.test', selector: 'ed', key: 'ed.pem' };
  const p = await plugin(dkimSign, { keys: [...both, other], expire: '7d' }, setup);
  t.teardown(() => p.close());
  const signedBy = async (client: object, message: string): Promise<unknown> => {
    await p.connect(client);
    await p.mail('ann@sign.test');
    await p.rcpt('bob@example.test');
    return (await p.message(message)).evidence?.['signed'] ?? [];
  };
  const ours = { identity: 'ann' };
  const from = (value: string): string => text.replace('Ann <ann@sign.test>', value);
  t.same(await signedBy(ours, text), ['sign.test rsa', 'sign.test ed']);
  t.same(await signedBy({ role: 'submission' }, text), ['sign.test rsa', 'sign.test ed']);
  t.same(await signedBy({ remote: '10.1.1.1' }, text), ['sign.test rsa', 'sign.test ed']);
  t.same(await signedBy({}, text), [], 'not for strangers');
  t.same(await signedBy(ours, from('ann@a.b.SIGN.test')), ['sign.test rsa', 'sign.test ed'], 'subdomains');
  t.same(await signedBy(ours, from('ann@other.test')), ['other.test ed']);
  t.same(await signedBy(ours, from('ann@notsign.test')), []);
  t.same(await signedBy(ours, from('ann@sign.test, bea@sign.test')), ['sign.test rsa', 'sign.test ed']);
  t.same(await signedBy(ours, from('ann@sign.test, bea@other.test')), [], 'several domains');
  t.same(await signedBy(ours, `From: eve@sign.test\n${text}`), [], 'several From fields');
  t.same(await signedBy(ours, 'Subject: no author\n\nHi.\n'), []);
  t.match(await p.status(), {
    'rsa._domainkey.sign.test': 'published',
    'ed._domainkey.sign.test': 'published',
    'ed._domainkey.other.test': 'another key is in the DNS',
  });
  p.host.dnsServer?.setFault('servfail');
  const q = await plugin(dkimSign, { keys: [{ ...other, domain: 'third.test' }], subdomains: false }, setup);
  t.teardown(() => q.close());
  t.match(await q.status(), { 'ed._domainkey.third.test': 'not in the DNS' });
  await q.connect(ours);
  await q.mail('ann@third.test');
  await q.rcpt('bob@example.test');
  t.notOk((await q.message(from('ann@sub.third.test'))).evidence, 'no subdomains if not wanted');
  const idle = await plugin(dkimSign, {}, setup);
  t.same(await idle.status(), {});
  await idle.close();
});

t.test('what a signature holds against, and keys that cannot be used', async t => {
  const folder = t.testdir();
  writeKeys(folder);
  const setup = { dns: zone, configFolder: folder };
  const p = await plugin(dkimSign, { keys: both.slice(0, 1), headers: ['x-note'] }, setup);
  t.teardown(() => p.close());
  const verifier = await plugin(mailAuth, {}, { dns: zone });
  t.teardown(() => verifier.close());
  await p.connect({ identity: 'ann' });
  await p.mail('ann@sign.test');
  await p.rcpt('bob@example.test');
  const sign = async (message: string): Promise<string> => {
    const { outcome } = await p.message(message);
    return outcome.kind === 'deliver' ? (await outcome.message.bytes()).toString('latin1') : '';
  };
  const check = (message: string) => verdicts(verifier, Buffer.from(message, 'latin1'));
  const signed = await sign(text.replace('Subject', 'X-Note: n\nSubject'));
  t.same(await check(signed), ['pass sign.test']);
  t.same(await check(`Received: x\r\nX-Other: y\r\n${signed}`), ['pass sign.test']);
  for (const [name, changed] of Object.entries({
    'another From': `From: eve@evil.test\r\n${signed}`,
    'another Subject': `Subject: buy\r\n${signed}`,
    'a Reply-To that was not there': `Reply-To: eve@evil.test\r\n${signed}`,
    'a signed field': signed.replace('X-Note: n', 'X-Note: m'),
    'the body': signed.replace('Hi.', 'Ho.'),
    'more body': `${signed}more\r\n`,
  }))
    t.match(await check(changed), [/^fail/], name);
  for (const odd of [
    'From: ann@sign.test\n',
    'From: ann@sign.test\n\n',
    'From: ann@sign.test\n\n\n\n \t\n\n',
    `From: ann@sign.test\n\n${'\n'.repeat(5000)}x  \t \ny \n\n\n`,
    'From: "\xe4" <ann@sign.test>\nSubject:\n  folded\n\t twice  \n\n\xe4\xf6\xfc\n',
    'From : ann@sign.test\nSUBJECT : x\n\nno line end',
  ])
    t.same(await check(await sign(odd)), ['pass sign.test'], JSON.stringify(odd.slice(0, 40)));
  for (const [key, pattern] of [
    ['absent.pem', /Cannot read the key/],
    ['broken.pem', /holds no private key/],
    ['weak.pem', /DKIM cannot use/],
  ] as const)
    await t.rejects(plugin(dkimSign, { keys: [{ domain: 'sign.test', selector: 's', key }] }, setup), pattern);
});
