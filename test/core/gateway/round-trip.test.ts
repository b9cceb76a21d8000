// Invariant I5: bytes of a delivered message are the bytes received plus the recorded trace fields. Real mail goes in over
// SMTP and comes back over IMAP and POP3.
import { ImapFlow } from 'imapflow';
import t from 'tap';
import { corpusMessages } from '../../harness/corpus.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { Pop3Client } from '../../harness/pop3-client.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
message: { spoolAbove: 64KiB }
chain: [auth, relay-policy, recipients]
stores: { traceRetention: 1d }
`;
const listeners = `
  - { name: smtp, role: smtp, port: 0, tls: none, lineEnds: refuse }
  - { name: imap, role: imap, port: 0, tls: none, allowPlaintextAuth: true }
  - { name: pop3, role: pop3, port: 0, tls: none, allowPlaintextAuth: true }`;

/** Mail that readers and writers stumble over, besides the corpus. */
const oddities: readonly string[] = [
  'Subject: no body at all\r\n\r\n',
  '\r\nno header at all\r\n',
  'Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.dot\r\n',
  `Subject: long line\r\n\r\n${'x'.repeat(20_000)}\r\n`,
  'Subject: nested\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="a"\r\n\r\n--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext\r\n--a--\r\nepilogue\r\n',
  'Subject: unclosed\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nno end\r\n',
  'Subject: =?utf-8?q?=C3=A4?=\r\n\r\n\xe4\xf6\xfc 8-bit\r\n',
  `Subject: large\r\n\r\n${'0123456789abcdef'.repeat(64)}\r\n`.repeat(1) + `${'y'.repeat(76)}\r\n`.repeat(20_000),
  'Subject: tabs and blanks \t \r\n\t continued\t\r\n\r\n \t \r\n',
];

/** SMTP ends every message with CRLF; bare CR and NUL are refused by default (their own transcripts show that). */
function asSent(bytes: Buffer): Buffer {
  const text = bytes.toString('latin1').replace(/\r(?!\n)|\0/g, ' ');
  return Buffer.from(text.endsWith('\r\n') ? text : `${text}\r\n`, 'latin1');
}

/** Trace fields that delivery puts in front (RFC 5321 §4.4). */
const added = /^Return-Path: <[^\r\n]*>\r\nReceived: from [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*/;

t.test(
  '1,000 real messages and oddities: in over SMTP, out over IMAP and POP3, byte for byte',
  { timeout: 280_000 },
  async t => {
    const messages = [
      ...corpusMessages(1000).map(({ bytes }) => asSent(bytes)),
      ...oddities.map(text => Buffer.from(text, 'latin1')),
    ];
    const gateway = await startTestGateway({ folder: t.testdir(), yaml, listeners });
    t.teardown(() => gateway.stop());
    await gateway.gateway.users.add('ann@example.org', { password: 'secret' });

    const smtp = await SmtpClient.open(gateway.port('smtp'));
    await smtp.command('EHLO client.example.net');
    for (const [index, bytes] of messages.entries()) {
      const reply = await smtp.send({ from: `sender${index}@example.net`, to: ['ann@example.org'], body: bytes });
      if (!reply.startsWith('250 ')) t.fail(`message ${index} was answered ${reply}`);
    }
    smtp.close();

    // UIDs follow the order of arrival only roughly, so the envelope sender of each message tells which one it is.
    const compare = (raw: Buffer): string | undefined => {
      const text = raw.toString('latin1');
      const index = Number(/^Return-Path: <sender(\d+)@/.exec(text)?.[1]);
      const front = added.exec(text)?.[0];
      if (front === undefined) return `trace fields of message ${index} are not as expected: ${text.slice(0, 300)}`;
      return messages[index]?.equals(raw.subarray(front.length)) ? undefined : `message ${index} differs`;
    };

    const imap = new ImapFlow({
      host: '127.0.0.1',
      port: gateway.port('imap'),
      secure: false,
      doSTARTTLS: false,
      auth: { user: 'ann@example.org', pass: 'secret' },
      logger: false,
    });
    await imap.connect();
    await imap.mailboxOpen('INBOX');
    const faults: string[] = [];
    let overImap = 0;
    for await (const message of imap.fetch('1:*', { source: true, size: true })) {
      overImap++;
      if (!message.source) {
        faults.push(`no source for ${message.uid}`);
        continue;
      }
      if (message.size !== message.source.length)
        faults.push(`RFC822.SIZE of ${message.uid} is ${message.size}, source has ${message.source.length}`);
      const fault = compare(message.source);
      if (fault) faults.push(`IMAP: ${fault}`);
    }
    await imap.logout();
    t.equal(overImap, messages.length, 'all over IMAP');

    const pop3 = await Pop3Client.open(gateway.port('pop3'));
    await pop3.login('ann@example.org', 'secret');
    const sizes = await pop3.list();
    t.equal(sizes.length, messages.length, 'all over POP3');
    for (const [number, size] of sizes) {
      const raw = await pop3.retrieve(number);
      if (raw.length !== size) faults.push(`LIST says ${size} for ${number}, RETR gives ${raw.length}`);
      const fault = compare(raw);
      if (fault) faults.push(`POP3: ${fault}`);
    }
    await pop3.quit();
    t.same(faults, []);
    t.equal(gateway.traces.length, messages.length, 'a trace for each');
  },
);
