import t from 'tap';
import { claimedAuthResults, formatAuthResults, parseAuthResults } from '../../../core/mail/auth-results.ts';
import { formatDate, parseDate } from '../../../core/mail/date.ts';
import { renderField } from '../../../core/mail/header-edit.ts';
import { parseHeaders } from '../../../core/mail/headers.ts';
import { parseMessageIds } from '../../../core/mail/message-id.ts';
import { countHops, parseReceived, protocolName, receivedField } from '../../../core/mail/received.ts';
import { decodeUtf8Address, decodeXtext, encodeUtf8Address, encodeXtext } from '../../../core/mail/xtext.ts';

const at = Date.UTC(2026, 10, 21, 6, 48, 1);

t.test('dates', async t => {
  t.equal(formatDate(at), 'Sat, 21 Nov 2026 06:48:01 +0000');
  t.equal(formatDate(at, 330), 'Sat, 21 Nov 2026 12:18:01 +0530');
  t.equal(formatDate(at, -210), 'Sat, 21 Nov 2026 03:18:01 -0330');
  for (const [text, iso, offset] of [
    ['Sat, 21 Nov 2026 06:48:01 +0000', '2026-11-21T06:48:01Z', 0],
    ['21 Nov 2026 06:48 +0100', '2026-11-21T05:48:00Z', 60],
    ['Sat, 21 Nov 2026 06:48:01 -0330 (NST)', '2026-11-21T10:18:01Z', -210],
    ['Sat,21 Nov 26 06:48:01 EST', '2026-11-21T11:48:01Z', -300],
    ['Fri, 1 Jan 99 00:00:00 PDT', '1999-01-01T07:00:00Z', -420],
    ['1 Jan 102 00:00:00 GMT', '2002-01-01T00:00:00Z', 0],
    ['1 Jan 2000 00:00:00 A', '2000-01-01T00:00:00Z', 0],
    ['29 Feb 2024 23:59:60 +0000', '2024-03-01T00:00:00Z', 0],
    ['Thursday, 1 January 2026 10:00:00', '2026-01-01T10:00:00Z', 0],
    ['Sat (comment), 21 (of) Nov 2026 06 : 48 : 01 UT', '2026-11-21T06:48:01Z', 0],
    ['21-Nov-2026 06:48:01 +0000', '2026-11-21T06:48:01Z', 0],
  ] as const)
    t.same(parseDate(text), { ms: Date.parse(iso), offsetMinutes: offset }, text);
  for (const text of [
    '',
    'yesterday',
    '31 Feb 2026 00:00:00 +0000',
    '0 Jan 2026 00:00:00 +0000',
    '1 Foo 2026 00:00 +0000',
    '1 Jan 2026 24:00:00 +0000',
    '1 Jan 2026 10:60:00 +0000',
  ])
    t.equal(parseDate(text), undefined, text);
});

t.test('the Received field', async t => {
  const protocol = { lmtp: false, extended: true, tls: true, authenticated: false, smtputf8: false };
  const facts = {
    helo: 'client.example.org',
    remote: { address: '192.0.2.1', name: 'real.example.org' },
    hostname: 'mx.example.net',
    protocol,
    tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384' },
    id: '0ABC',
    recipient: 'b@example.net',
    at,
  };
  t.equal(
    receivedField(facts).toString(),
    'Received: from client.example.org (real.example.org [192.0.2.1])\r\n' +
      '\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n' +
      '\tby mx.example.net with ESMTPS id 0ABC\r\n' +
      '\tfor <b@example.net>;\r\n' +
      '\tSat, 21 Nov 2026 06:48:01 +0000\r\n',
  );
  const plain = {
    ...facts,
    helo: 'x y\r\nBcc: z',
    remote: { address: '2001:db8::1', name: 'evil)name' },
    tls: undefined,
    recipient: undefined,
  };
  const { tls: _, recipient: __, ...rest } = plain;
  t.equal(
    receivedField({ ...rest, helo: 'x y\r\nBcc: z' }).toString(),
    'Received: from unknown ([IPv6:2001:db8::1])\r\n\tby mx.example.net with ESMTPS id 0ABC;\r\n\tSat, 21 Nov 2026 06:48:01 +0000\r\n',
  );
  const names = [
    [{}, 'ESMTPS'],
    [{ tls: false }, 'ESMTP'],
    [{ authenticated: true }, 'ESMTPSA'],
    [{ tls: false, authenticated: true }, 'ESMTPA'],
    [{ extended: false, tls: false }, 'SMTP'],
    [{ lmtp: true, tls: false }, 'LMTP'],
    [{ lmtp: true }, 'LMTPS'],
    [{ smtputf8: true, authenticated: true }, 'UTF8SMTPSA'],
    [{ smtputf8: true, lmtp: true, tls: false }, 'UTF8LMTP'],
  ] as const;
  for (const [change, name] of names) t.equal(protocolName({ ...protocol, ...change }), name);
  const back = parseReceived(parseHeaders(receivedField(facts)).get('received')?.value ?? '');
  t.equal(back.tcpInfo, 'real.example.org [192.0.2.1]');
  t.equal(back.date?.ms, at);
  t.same(Object.fromEntries(back.clauses), {
    from: 'client.example.org',
    by: 'mx.example.net',
    with: 'ESMTPS',
    id: '0ABC',
    for: '<b@example.net>',
  });
  const odd = parseReceived('(qmail 123 invoked by uid 0); 21 Nov 2026 06:48:01 -0000');
  t.equal(odd.clauses.size, 0);
  t.equal(odd.date?.ms, at);
  t.equal(countHops(parseHeaders(Buffer.from('Received: a\r\nX: b\r\nRECEIVED: c\r\n'))), 2);
});

t.test('Authentication-Results', async t => {
  const results = [
    { method: 'spf', result: 'pass', properties: [['smtp.mailfrom', 'a@example.org']] },
    {
      method: 'dkim',
      result: 'fail',
      reason: 'bad "signature"',
      comment: 'body (hash)',
      properties: [
        ['header.d', 'example.org'],
        ['header.b', 'ab=c'],
      ],
    },
  ] as const;
  const value = formatAuthResults('mx.example.net', results);
  t.equal(
    value,
    'mx.example.net;\r\n\tspf=pass smtp.mailfrom=a@example.org;\r\n\tdkim=fail (body \\(hash\\)) reason="bad \\"signature\\"" header.d=example.org header.b="ab=c"',
  );
  const field = parseHeaders(renderField('Authentication-Results', value)).get('authentication-results');
  const back = parseAuthResults(field?.value ?? '');
  t.match(back, {
    authservId: 'mx.example.net',
    results: [
      { method: 'spf', result: 'pass' },
      { method: 'dkim', reason: 'bad "signature"' },
    ],
  });
  t.same(back?.results[1]?.properties, results[1].properties);
  t.equal(formatAuthResults('mx', []), 'mx;\r\n\tnone');
  t.match(parseAuthResults('(c) example.org 1; (x) spf=fail'), {
    authservId: 'example.org',
    results: [{ method: 'spf', result: 'fail' }],
  });
  t.equal(parseAuthResults(''), undefined);
  t.equal(parseAuthResults('; spf=pass'), undefined);
  const forged = parseHeaders(
    Buffer.from(
      [
        'mx.example.net; spf=pass',
        'other.example; spf=pass',
        ' MX.Example.NET. 1; dkim=pass',
        '"mx.example.net"; dkim=pass',
        '(mx.example.net) (nested (c)) mx.example.net (x) ; none',
        'mx.example.net.evil; none',
        'mx.example.net',
      ]
        .map(line => `Authentication-Results: ${line}\r\n`)
        .join(''),
    ),
  );
  t.same(claimedAuthResults(forged, 'mx.example.net'), [0, 2, 3, 4, 6]);
});

t.test('xtext and message identifiers', async t => {
  t.equal(decodeXtext('a+3Db+2B'), 'a=b+');
  t.equal(decodeXtext('+C3+BC'), 'ü');
  for (const bad of ['a b', 'a=b', '+3d', '+3', 'ü']) t.equal(decodeXtext(bad), undefined, bad);
  t.equal(encodeXtext('a=b+ ü'), 'a+3Db+2B+20+C3+BC');
  t.equal(decodeUtf8Address(encodeUtf8Address('用户\\x@例.org')), '用户\\x@例.org');
  t.equal(decodeUtf8Address('\\x{110000}'), undefined);
  t.equal(decodeUtf8Address('\\y'), undefined);
  t.same(parseMessageIds('<a@b> (x) <c@d><e f@g>\t<h@i>'), ['<a@b>', '<c@d>', '<h@i>']);
});
