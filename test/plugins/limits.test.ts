import t from 'tap';
import { limits } from '../../plugins/limits/index.ts';
import { plugin } from '../harness/plugin.ts';

t.test('size, recipients, header, hops', async t => {
  const p = await plugin(limits, {
    messageSize: '2kB',
    recipients: 100,
    headerSize: '1kB',
    headerFields: 50,
    hops: 10,
  });
  t.teardown(() => p.close());
  t.match(await p.mail('a@b.test', { declaredSize: 2001 }), {
    kind: 'reject',
    reply: { code: 552, enhanced: '5.3.4' },
  });
  t.match(await p.mail('a@b.test', { declaredSize: 2000 }), { kind: 'continue' });
  for (let i = 0; i < 100; i++) await p.rcpt(`u${i}@example.org`);
  t.match(await p.rcpt('last@example.org'), { kind: 'defer', reply: { code: 452, enhanced: '4.5.3' } });
  t.match(await p.message(`Subject: x\n\n${'x'.repeat(1000)}\n`), { kind: 'continue' });
  t.match(await p.message(`Subject: x\n\n${'x'.repeat(2000)}\n`), {
    kind: 'reject',
    reply: { code: 552, enhanced: '5.3.4' },
  });
  t.match(await p.message(`X: ${'x'.repeat(1000)}\n\nx\n`), {
    kind: 'reject',
    reply: { code: 552 },
    why: /1004|1005|1006/,
  });
  t.match(await p.message(`${'X: x\n'.repeat(51)}\nx\n`), { kind: 'reject', reply: { code: 552 }, why: /51 fields/ });
  t.match(await p.message(`${'Received: x\n'.repeat(10)}\nx\n`), { kind: 'continue' });
  t.match(await p.message(`${'Received: x\n'.repeat(11)}\nx\n`), {
    kind: 'reject',
    reply: { code: 554, enhanced: '5.4.6' },
  });
  await t.rejects(plugin(limits, { hops: 5 }), { name: 'ChainError' });
});

const nest = (depth: number): string =>
  depth === 0
    ? 'Content-Type: text/plain\n\nx\n'
    : `Content-Type: multipart/mixed; boundary=b${depth}\n\n--b${depth}\n${nest(depth - 1)}\n--b${depth}--\n`;

t.test('MIME parts and depth', async t => {
  const p = await plugin(limits, { mimeParts: 20, mimeDepth: 5 });
  t.teardown(() => p.close());
  await p.mail('a@b.test');
  await p.rcpt('c@example.org');
  const complex = { kind: 'reject', reply: { code: 554, enhanced: '5.6.0' } };
  t.match(await p.message(nest(4)), { kind: 'continue' });
  t.match(await p.message(nest(5)), { ...complex, why: /6 deep/ });
  t.match(await p.message(nest(500)), complex);
  const parts = (n: number): string => `Content-Type: multipart/mixed; boundary=b\n\n${'--b\n\nx\n'.repeat(n)}--b--\n`;
  t.match(await p.message(parts(19)), { kind: 'continue' });
  t.match(await p.message(parts(20)), { ...complex, why: /21 MIME parts/ });
  t.match(await p.message(parts(50_000)), complex);
  const inner = (depth: number): string =>
    depth === 0 ? 'Subject: x\n\nx\n' : `Content-Type: message/rfc822\n\n${inner(depth - 1)}`;
  t.match(await p.message(inner(50)), complex, 'messages in messages count too');
});
