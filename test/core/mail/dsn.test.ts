import t from 'tap';
import { type Address, parseMailbox } from '../../../core/mail/address.ts';
import { decodeBodyText } from '../../../core/mail/body.ts';
import { buildDsn, type DsnRequest } from '../../../core/mail/dsn.ts';
import { parseHeaders } from '../../../core/mail/headers.ts';
import { makeMessage } from '../../../core/mail/message.ts';
import { type MimePart, parseMime } from '../../../core/mail/mime.ts';
import { bufferRope, ropeBytes } from '../../../core/mail/rope.ts';

const address = (text: string): Address => {
  const parsed = parseMailbox(text, { smtputf8: true });
  if (parsed.kind === 'error') throw new Error(parsed.reason);
  return parsed.address;
};
const originalText = 'From: a@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: hi\r\n\r\nsecret body\r\n';
const base: DsnRequest = {
  hostname: 'mx.example.net',
  to: address('a@example.org'),
  original: makeMessage(bufferRope(Buffer.from(originalText))),
  at: Date.UTC(2026, 10, 21, 6, 48, 1),
  unique: 'ID',
  recipients: [{ address: address('b@example.net'), action: 'failed', status: '5.1.1' }],
};

const read = async (
  request: DsnRequest,
): Promise<{ text: string; root: MimePart; parts: string[]; eightBit: boolean; utf8: boolean }> => {
  const { rope, eightBit, smtputf8 } = buildDsn(request);
  const bytes = await ropeBytes(rope);
  const root = await parseMime(bytes);
  const parts = await Promise.all(root.parts.map(part => decodeBodyText(rope, part)));
  for (const line of bytes.toString('utf8').split('\r\n')) t.ok(Buffer.byteLength(line) <= 998);
  return { text: bytes.toString('utf8'), root, parts, eightBit, utf8: smtputf8 };
};

t.test('a failure report', async t => {
  const { root, parts, text, eightBit } = await read({
    ...base,
    envid: 'QQ314159',
    arrivedAt: base.at - 1000,
    queueId: '0ABC',
    recipients: [
      {
        address: address('b@example.net'),
        orcpt: { type: 'rfc822', address: 'Bob@example.net' },
        action: 'failed',
        status: '5.1.1',
        diagnostic: `550-5.1.1 No such user\r\n550 5.1.1 ${'really '.repeat(300)}`,
        remoteMta: 'mail.example.net',
        lastAttempt: base.at,
      },
      { address: address('c@example.net'), action: 'delayed', status: '4.4.1', retryUntil: base.at + 3_600_000 },
    ],
  });
  t.same(root.defects, []);
  t.equal(root.headers.get('from')?.value, 'Mail Delivery System <MAILER-DAEMON@mx.example.net>');
  t.equal(root.headers.get('to')?.value, '<a@example.org>');
  t.equal(root.headers.get('date')?.value, 'Sat, 21 Nov 2026 06:48:01 +0000');
  t.equal(root.headers.get('auto-submitted')?.value, 'auto-replied');
  t.equal(root.headers.get('in-reply-to')?.value, '<1@example.org>');
  t.equal(root.headers.get('subject')?.value, 'Undelivered mail returned to sender');
  t.equal(root.contentType.params.get('report-type'), 'delivery-status');
  t.same(
    root.parts.map(part => `${part.contentType.type}/${part.contentType.subtype}`),
    ['text/plain', 'message/delivery-status', 'text/rfc822-headers'],
  );
  t.match(parts[0], /<b@example\.net>[\s\S]*mail\.example\.net said: 550-5\.1\.1 No such user[\s\S]*quote 0ABC/);
  const [message, first, second, none] = (parts[1] ?? '')
    .split('\r\n\r\n')
    .map(block => parseHeaders(Buffer.from(block)));
  t.equal(none, undefined);
  t.equal(message?.get('original-envelope-id')?.value, 'QQ314159');
  t.equal(message?.get('reporting-mta')?.value, 'dns; mx.example.net');
  t.equal(first?.get('original-recipient')?.value, 'rfc822; Bob@example.net');
  t.equal(first?.get('final-recipient')?.value, 'rfc822; b@example.net');
  t.equal(first?.get('action')?.value, 'failed');
  t.equal(first?.get('status')?.value, '5.1.1');
  t.match(first?.get('diagnostic-code')?.value, /^smtp; 550-5\.1\.1 No such user 550 5\.1\.1 really/);
  t.equal(first?.has('will-retry-until'), false);
  t.equal(second?.get('will-retry-until')?.value, 'Sat, 21 Nov 2026 07:48:01 +0000');
  t.equal(parts[2], originalText.slice(0, originalText.indexOf('\r\n\r\n') + 2));
  t.notMatch(text, /secret/);
  t.equal(eightBit, false);
});

t.test('the whole message comes back only for a failure that wanted it and below the limit', async t => {
  const types = async (request: Partial<DsnRequest>): Promise<string | undefined> =>
    (await read({ ...base, ...request })).root.parts[2]?.contentType.subtype;
  t.equal(await types({ ret: 'FULL' }), 'rfc822');
  t.equal(await types({ ret: 'HDRS' }), 'rfc822-headers');
  t.equal(await types({}), 'rfc822-headers');
  t.equal(await types({ ret: 'FULL', maxReturnBytes: 10 }), 'rfc822-headers');
  for (const action of ['delayed', 'delivered', 'relayed', 'expanded'] as const)
    t.equal(
      await types({ ret: 'FULL', recipients: [{ address: address('b@example.net'), action, status: '2.0.0' }] }),
      'rfc822-headers',
    );
  const full = await read({ ...base, ret: 'FULL' });
  t.equal(full.parts[2], originalText);
  t.equal(full.root.parts[2]?.message?.headers.get('subject')?.value, 'hi');
});

t.test('text beyond ASCII', async t => {
  const wide = makeMessage(bufferRope(Buffer.from('Subject: hi\r\n\r\ngrüße\r\n')));
  const report = await read({ ...base, original: wide, ret: 'FULL' });
  t.equal(report.eightBit, true);
  t.equal(report.root.parts[2]?.encoding, '8bit');
  const recipients = [{ address: address('bücher@example.net'), action: 'failed', status: '5.1.1' }] as const;
  const ascii = await read({ ...base, recipients });
  t.equal(ascii.utf8, false);
  t.match(ascii.parts[1], /Final-Recipient: utf-8; b\\x\{FC\}cher@example\.net\r\n/);
  const utf8 = await read({ ...base, recipients, to: address('jürgen@example.org') });
  t.equal(utf8.utf8, true);
  t.match(utf8.parts[1], /Final-Recipient: utf-8; bücher@example\.net\r\n/);
  t.same(
    utf8.root.parts.map(part => part.contentType.subtype),
    ['plain', 'global-delivery-status', 'global-headers'],
  );
  t.equal(utf8.root.headers.get('to')?.value, '<jürgen@example.org>');
});

t.test('a report about nobody is a bug', async t => {
  t.throws(() => buildDsn({ ...base, recipients: [] }), RangeError);
});
