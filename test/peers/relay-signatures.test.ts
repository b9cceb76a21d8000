// Signatures made before Postern verify behind it (invariant I5): 500 real messages, inwards and outwards, through a chain
// that checks, marks and signs, to a real Postfix.
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import t from 'tap';
import { corpusMessages } from '../harness/corpus.ts';
import { dkimSigned, dkimVerify } from '../harness/dkim-verdicts.ts';
import { startDnsServer } from '../harness/dns-server.ts';
import { requireEngines } from '../harness/engine.ts';
import { startTestGateway } from '../harness/gateway.ts';
import { makePostfix } from '../harness/postfix.ts';
import { SmtpClient } from '../harness/smtp-client.ts';

const count = 500;
const kinds = ['relaxed/relaxed', 'simple/simple', 'relaxed/simple'] as const;

t.test(`${count} signed messages in both directions`, { timeout: 600_000 }, async t => {
  if (!requireEngines(t, 'signatures through to Postfix', 'postfix')) return;
  const folder = t.testdir();
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  writeFileSync(path.join(folder, 'own.pem'), pem);
  const record = `v=DKIM1; k=rsa; p=${publicKey.export({ type: 'spki', format: 'der' }).toString('base64')}`;
  const dns = await startDnsServer({
    's1._domainkey.signer.test': { TXT: [[record.slice(0, 250), record.slice(250)]] },
  });
  const postfix = await makePostfix(t, {
    domains: ['inner.test', 'out.test'],
    settings: ['message_size_limit = 0', 'local_header_rewrite_clients ='],
  });
  await postfix.start();
  t.teardown(() => dns.close());

  // What does not verify before is no use behind: a few of them have no From field, or a defect that signers trip over.
  const signed: Buffer[] = [];
  for (const { bytes } of corpusMessages(count + 60)) {
    if (signed.length === count) break;
    const marked = Buffer.concat([Buffer.from(`X-Mark: ${signed.length}\r\n`), bytes]);
    const canonicalization = kinds[signed.length % kinds.length] ?? 'relaxed/relaxed';
    const one = await dkimSigned(marked, {
      domain: 'signer.test',
      selector: 's1',
      privateKey: pem,
      canonicalization,
    }).catch(() => undefined);
    if (
      one &&
      !/\r(?!\n)|(?<!\r)\n|\0/.test(one.toString('latin1')) &&
      (await dkimVerify(one, dns.address))[0] === 'pass signer.test'
    )
      signed.push(one);
  }
  t.equal(signed.length, count, 'verify before');

  for (const [direction, networks, to] of [
    ['inwards', '[]', 'bob@inner.test'],
    ['outwards', '[127.0.0.0/8]', 'bob@out.test'],
  ] as const) {
    const yaml = `
hostname: mx.example.org
domains: [{ name: inner.test, kind: relay }]
dns: { servers: ['${dns.address}'] }
relayNetworks: ${networks}
message: { spoolAbove: 32KiB }
chain:
  - relay-policy
  - mail-auth: { spf: { fail: mark }, dmarc: { policy: report } }
  - recipients
  - rfc822: { mode: observe }
  - headers: { rules: [{ add: { X-Filtered: 'yes' } }] }
  - dkim-sign: { keys: [{ domain: example.org, selector: own, key: ../own.pem }] }
routes: [{ domain: '*', hosts: ['127.0.0.1:${postfix.port}'], tls: none }]
`;
    const gateway = await startTestGateway({
      folder: path.join(folder, direction),
      yaml,
      listeners: '\n  - { name: smtp, role: smtp, port: 0, tls: none }',
      log: pino({ level: 'silent' }),
    });
    const waiting = [...signed.entries()];
    let refused = 0;
    const before = list(postfix.maildir).length;
    const one = async (): Promise<void> => {
      const smtp = await SmtpClient.open(gateway.port('smtp'));
      await smtp.command('EHLO client.example.net');
      for (let next = waiting.pop(); next; next = waiting.pop()) {
        const reply = await smtp.send({ from: 'a@sender.test', to: [to], body: next[1] });
        if (!reply.startsWith('250')) {
          refused += 1;
          t.comment(`${direction} ${next[0]}: ${reply.trim()}`);
        }
      }
      smtp.close();
    };
    await Promise.all(Array.from({ length: 4 }, one));
    t.equal(refused, 0, `${direction}: all taken`);
    for (const until = Date.now() + 240_000; list(postfix.maildir).length < before + count && Date.now() < until; )
      await delay(100);
    const arrived = list(postfix.maildir).slice();
    t.equal(arrived.length, before + count, `${direction}: all arrived`);
    await gateway.stop();
  }
  const broken: string[] = [];
  let filtered = 0;
  for (const name of list(postfix.maildir)) {
    const text = readFileSync(path.join(postfix.maildir, 'new', name), 'latin1').replace(/\n/g, '\r\n');
    if (/^X-Filtered: yes\r$/m.test(text)) filtered += 1;
    const verdicts = await dkimVerify(Buffer.from(text, 'latin1'), dns.address);
    if (!verdicts.includes('pass signer.test')) broken.push(`${/^X-Mark: .*$/m.exec(text)?.[0]} ${verdicts.join()}`);
  }
  t.same(broken, [], 'every signature verifies behind');
  t.equal(filtered, 2 * count, 'and all went through the chain, which added its field');
});

function list(maildir: string): readonly string[] {
  try {
    return readdirSync(path.join(maildir, 'new'));
  } catch {
    return [];
  }
}
