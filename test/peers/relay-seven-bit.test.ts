// A real Postfix without 8BITMIME behind a whole gateway: what clients send arrives in ASCII, and decoded byte for byte.
// It refuses 8-bit bytes that the message does not declare (strict_8bitmime), so what is not converted does not get in.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { decodeBody } from '../../core/mail/body.ts';
import { parseMime, partAt } from '../../core/mail/mime.ts';
import { bufferRope } from '../../core/mail/rope.ts';
import { requireEngines } from '../harness/engine.ts';
import { startTestGateway } from '../harness/gateway.ts';
import { guardedLogger } from '../harness/log-guard.ts';
import { makePostfix } from '../harness/postfix.ts';
import { random } from '../harness/random.ts';
import { SmtpClient } from '../harness/smtp-client.ts';

const r = random(1652);
const text = Buffer.from(`Gr\u00fc\u00dfe = ende \r\n.\r\n--b\u00e9\r\n${'\u00e4'.repeat(400)}\r\nFrom here\r\n`);
/** Any bytes that a line of SMTP may hold. */
const binary = (count: number): Buffer =>
  Buffer.from(
    Array.from({ length: count }, (_, at) => (at % 900 === 898 ? 13 : at % 900 === 899 ? 10 : 128 + r.int(128))),
  );

const message = (mark: string, attachment: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from(`From: a@example.org\r\nX-Mark: ${mark}\r\nMIME-Version: 1.0\r\n`),
    Buffer.from('Content-Type: multipart/mixed; boundary="=_b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--=_b\r\n'),
    Buffer.from('Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'),
    text,
    Buffer.from('\r\n--=_b\r\nContent-Type: application/x-thing\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'),
    attachment,
    Buffer.from('\r\n--=_b--\r\n'),
  ]);

/** Messages of a Maildir by mark. Postfix delivers after its 250, so this waits for the number. */
async function arrivals(maildir: string, count: number): Promise<ReadonlyMap<string, Buffer>> {
  const folder = path.join(maildir, 'new');
  const names = (): readonly string[] => {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  };
  for (const until = Date.now() + 240_000; names().length < count && Date.now() < until; )
    await new Promise(resolve => setTimeout(resolve, 50));
  return new Map(
    names().map(name => {
      const bytes = readFileSync(path.join(folder, name));
      return [/^X-Mark: (.*)$/m.exec(bytes.toString('latin1'))?.[1] ?? '?', bytes];
    }),
  );
}

t.test('8-bit mail through the gateway to a Postfix without 8BITMIME', async t => {
  if (!requireEngines(t, '8-bit mail to Postfix', 'postfix')) return;
  const postfix = await makePostfix(t, {
    domains: ['inner.test', 'strict.test'],
    settings: ['smtpd_discard_ehlo_keywords = 8bitmime', 'strict_8bitmime = yes', 'message_size_limit = 0'],
  });
  await postfix.start();
  const gateway = await startTestGateway({
    folder: t.testdir(),
    yaml: `
hostname: mx.example.org
domains: [{ name: inner.test, kind: relay }, { name: strict.test, kind: relay }]
chain: [relay-policy, recipients]
routes:
  - { domain: inner.test, hosts: ['127.0.0.1:${postfix.port}'], tls: none }
  - { domain: strict.test, hosts: ['127.0.0.1:${postfix.port}'], tls: none, downgrade: bounce }
`,
    listeners: '\n  - { name: smtp, role: smtp, port: 0, tls: none }',
    log: guardedLogger(),
  });
  t.teardown(() => gateway.stop());
  const client = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => client.close());
  await client.command('EHLO client.example.net');
  const send = async (to: string, parameter: string, body: Buffer): Promise<string> => {
    await client.command(`MAIL FROM:<a@example.org>${parameter}`);
    await client.command(`RCPT TO:<${to}>`);
    await client.command('DATA', /^354/);
    client.write(`${body.toString('latin1').replace(/^\./gm, '..')}.\r\n`);
    return client.reply();
  };
  const cases = [
    ['declared', ' BODY=8BITMIME', binary(1_000)],
    ['undeclared', '', binary(1_000)],
    ['denied', ' BODY=7BIT', binary(1_000)],
    // Above the size that stays in memory.
    ['large', ' BODY=8BITMIME', binary(3_000_000)],
  ] as const;
  for (const [mark, parameter, attachment] of cases)
    t.match(await send('x@inner.test', parameter, message(mark, attachment)), /^250 /, mark);
  const found = await arrivals(postfix.maildir, cases.length);
  for (const [mark, , attachment] of cases) {
    const bytes = found.get(mark) ?? Buffer.alloc(0);
    t.notOk(
      bytes.some(byte => byte > 0x7f),
      `${mark}: ASCII`,
    );
    // Postfix keeps messages with LF.
    const form = bufferRope(Buffer.from(bytes.toString('latin1').replace(/\r?\n/g, '\r\n'), 'latin1'));
    const root = await parseMime(form);
    t.equal(root.encoding, '7bit', mark);
    for (const [number, expected] of [
      [1, text],
      [2, attachment],
    ] as const) {
      const part = partAt(root, [number]);
      t.ok(part && (await decodeBody(form, part)).equals(expected), `${mark}: part ${number}, byte for byte`);
    }
  }
  const bounced = await send('x@strict.test', ' BODY=8BITMIME', message('strict', binary(10)));
  t.match(bounced, /^554 5\.6\.3 Destination cannot take 8-bit content/, 'the client hears it');
  const steps = JSON.stringify(gateway.traces);
  t.match(steps, /converted to 7-bit/, 'the trace says what was done');
});
