import t, { type Test } from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns } from '../../core/net/dns.ts';
import type { WithMessage } from '../../core/plugin/contract.ts';
import { hostsOf } from '../../plugins/uribl/hosts.ts';
import { uribl } from '../../plugins/uribl/index.ts';
import type { Zone } from '../harness/dns-server.ts';
import { requireEngines } from '../harness/engine.ts';
import { type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { startRbldnsd } from '../harness/rbldnsd.ts';
import { testMessage } from '../harness/test-message.ts';

const limits = { maxText: 100_000, bareNames: true, fields: ['from', 'reply-to'] };
const found = async (text: string, more: object = {}): Promise<readonly string[]> => {
  const at = { message: testMessage(text), signal: new AbortController().signal } as unknown as WithMessage;
  return (await hostsOf(at, { ...limits, ...more })).hosts.map(({ host }) => host);
};
const plain = (text: string): string => `Subject: x\nContent-Type: text/plain; charset=utf-8\n\n${text}\n`;
const html = (text: string): string => `Subject: x\nContent-Type: text/html; charset=utf-8\n\n${text}\n`;

t.test('links in text, as written and as hidden', async t => {
  for (const [text, hosts] of [
    ['see http://evil.com/x and https://www.bad.co.uk:8443/y?z.', ['evil.com', 'www.bad.co.uk']],
    ['see evil.com/x, www.bad.net; (also third.org)', ['evil.com', 'www.bad.net', 'third.org']],
    ['write to bob@good.com or read file.xyzzy and v1.2.3', []],
    ['hxxp://evil.com/ hxxps://evil.net', ['evil.com', 'evil.net']],
    ['http://evil[.]com evil(.)net evil [dot] org evil (dot) info', ['evil.com', 'evil.net', 'evil.org', 'evil.info']],
    ['http[:]//evil.com and http[://]evil.net', ['evil.com', 'evil.net']],
    ['http:\\\\evil.com\\x', ['evil.com']],
    ['http://good.com@evil.com/', ['evil.com']],
    ['http://e\u200bvi\u00adl.com evil\u2060.net', ['evil.com', 'evil.net']],
    ['http://evil。com http://ｅｖｉｌ．ｎｅｔ/', ['evil.com', 'evil.net']],
    ['http://bücher.example.com/ пример.рф', ['xn--bcher-kva.example.com', 'xn--e1afmkfd.xn--p1ai']],
    ['http://3221225985/ http://0xC0.0.2.2/x http://0300.0.2.3', ['192.0.2.1', '192.0.2.2', '192.0.2.3']],
    ['http://[2001:db8::1]/x', ['2001:db8::1']],
    ['http://%65vil.com/', ['evil.com']],
    ['https://www.google.com/url?q=https%3A%2F%2Fevil.com%2Fx', ['www.google.com', 'evil.com']],
    ['https://r.example.com/?u=https%253A%252F%252Fevil.com', ['r.example.com', 'evil.com']],
    ['ftp://evil.com/x HTTP://EVIL.NET', ['evil.com', 'evil.net']],
    ['http://evil.com.', ['evil.com']],
    ['http://localhost/ http://nodots http:///', []],
  ] as const)
    t.same([...(await found(plain(text)))].sort(), [...hosts].sort(), text);
  t.same(await found(plain('evil.com http://bad.net'), { bareNames: false }), ['bad.net']);
});

t.test('links in HTML, as browsers read them', async t => {
  for (const [text, hosts] of [
    ['<a href="http://evil.com/">good</a>', ['evil.com']],
    ['<A HREF=http://evil.com/x>x</A>', ['evil.com']],
    ["<img src='//evil.com/x.png' alt=x>", ['evil.com']],
    ['<a href="ht&#116;p&colon;&sol;&sol;evil&period;com">x</a>', ['evil.com']],
    ['<a href="http://evil&#46com/">x</a><a href="http://evil&#x2e;net">x</a>', ['evil.com', 'evil.net']],
    ['<a href="ht\ntp://ev\til.com/">x</a>', ['evil.com']],
    ['<a href="http:\\\\evil.com">x</a><a href="https:/evil.net">y</a>', ['evil.com', 'evil.net']],
    ['<base href="http://evil.com/a/"><a href="b">x</a>', ['evil.com']],
    ['<meta http-equiv="refresh" content="0; URL=http://evil.com/">', ['evil.com']],
    ['<img srcset="http://evil.com/1 1x, https://evil.net/2 2x">', ['evil.com', 'evil.net']],
    ['<div style="background:url(http://evil.com/x)">', ['evil.com']],
    ['<style>a{background:url("//evil.com/x")}</style>', ['evil.com']],
    [
      '<form action=https://evil.com/post><button formaction="https://evil.net"></button></form>',
      ['evil.com', 'evil.net'],
    ],
    ['<a title="a > b" href="http://evil.com">x</a>', ['evil.com']],
    ['<script>location="http://evil.com/"</script>', ['evil.com']],
    ['<!-- http://evil.com --><a onclick="go(\'https://evil.net/\')">x</a>', ['evil.com', 'evil.net']],
    ['http://ev<b></b>il.com and ev<i>il</i>.net', ['evil.com', 'evil.net']],
    ['<p>evil.com</p><p>evil.net</p>', ['evil.com', 'evil.net']],
    ['<a href="mailto:bob@good.com">x</a><a href="javascript:void(0)">y</a><a href="#top">z</a><a href="data:,x">', []],
    ['<a href="http://evil.com', ['evil.com']],
  ] as const)
    t.same([...(await found(html(text)))].sort(), [...hosts].sort(), text);
});

t.test('every part of the message that is read: encodings, nesting, attachments, fields', async t => {
  const b64 = (text: string): string => Buffer.from(text).toString('base64');
  const message = `From: "x" <a@from.com>, b@other.net
Reply-To: c@reply.org
Subject: =?utf-8?B?${b64('look at http://subject.com')}?=
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: text/html
Content-Transfer-Encoding: quoted-printable

<a href=3D"http://q=
p.com/">x</a>
--o
Content-Type: text/plain; charset=utf-16le
Content-Transfer-Encoding: base64

${Buffer.from('http://wide.com/', 'utf16le').toString('base64')}
--o
Content-Type: message/rfc822

Subject: inner

http://inner.com/
--o
Content-Type: application/octet-stream; name="invoice.html"
Content-Transfer-Encoding: base64

${b64('<a href="http://attached.com/">')}
--o
Content-Type: image/png
Content-Transfer-Encoding: base64

${b64('http://picture.com/')}
--o--
`;
  t.same(await found(message), [
    'subject.com',
    'from.com',
    'other.net',
    'reply.org',
    'qp.com',
    'wide.com',
    'inner.com',
    'attached.com',
  ]);
});

t.test('nothing that is written takes long', async t => {
  for (const text of [
    'a.'.repeat(200_000),
    `http://${'a'.repeat(500_000)}`,
    '<a href="'.repeat(50_000),
    '<'.repeat(300_000),
    `<a ${'x="'.repeat(100_000)}`,
    '(('.repeat(200_000),
    'h t t p : / / '.repeat(50_000),
    `http://a.com/?u=${'%25'.repeat(100_000)}http`,
    `${'http://a.com/'.repeat(40_000)}`,
    'style=url('.repeat(50_000),
    `<p ${'style="url(url(url("'.repeat(20_000)}`,
    '&'.repeat(400_000),
    '\u00ad'.repeat(300_000),
  ]) {
    const before = process.cpuUsage();
    await found(html(text), { maxText: 1_048_576 });
    await found(plain(text), { maxText: 1_048_576 });
    const { user, system } = process.cpuUsage(before);
    t.ok((user + system) / 1000 < 4000, `${text.slice(0, 20)}: ${Math.round((user + system) / 1000)} ms of CPU`);
  }
});

const zone: Zone = {
  'test.dbl.test': { A: ['127.0.1.2'] },
  'www.evil.com.dbl.test': { A: ['127.0.1.4'], TXT: ['phishing'] },
  'grey.net.dbl.test': { A: ['127.0.1.102'] },
  'evil.com.multi.test': { A: ['127.0.0.8'] },
  '1.2.0.192.multi.test': { A: ['127.0.0.16'] },
};
const lists = [
  { zone: 'dbl.test', ask: ['host'], codes: { '127.0.1.2-127.0.1.99': 1 }, selfTest: false },
  { zone: 'multi.test', ask: ['domain', 'address'], weight: 0.5, selfTest: false },
];

async function open(t: Test, options: object = {}, setup: PluginSetup = {}): Promise<DrivenPlugin> {
  const p = await plugin(uribl, { lists, ...options }, { dns: zone, ...setup });
  t.teardown(() => p.close());
  await p.connect();
  await p.mail('a@b.example');
  await p.rcpt('bob@example.org');
  return p;
}

t.test('verdicts: score, threshold, actions, what is asked and what is not', async t => {
  const p = await open(t);
  const v = await p.message(plain('http://www.evil.com/ http://www.evil.com/again evil.com'));
  t.match(v, {
    kind: 'reject',
    reply: { code: 554, enhanced: '5.7.1', text: 'Message links to a site on a block list' },
    why: /Links to www.evil.com on dbl.test \(127.0.1.4\), evil.com on multi.test/,
    evidence: { score: 1.5 },
  });
  t.notMatch(v.reply?.text, /evil|dbl/, 'nothing of it to the client');
  t.same(
    p.host.dnsServer?.asked.filter(each => each.startsWith('A ')).sort(),
    ['A evil.com.dbl.test', 'A evil.com.multi.test', 'A www.evil.com.dbl.test'],
    'each list is asked for what it lists',
  );
  t.match(await p.message(plain('http://grey.net/')), { kind: 'continue' }, 'a code that does not count');
  t.match(await p.message(plain('http://192.0.2.1/')), { kind: 'continue', evidence: { score: 0.5 } });
  t.notOk(p.host.dnsServer?.asked.includes('A 1.2.0.192.dbl.test'), 'DBL is never asked for addresses');
  t.match(await p.message(plain('no links')), { kind: 'continue' });
  for (const action of ['mark', 'quarantine'] as const) {
    const m = await open(t, { action });
    const { outcome } = await m.message(`X-URIBL: forged\n${plain('http://www.evil.com/')}`);
    t.equal(outcome.kind, action === 'mark' ? 'deliver' : 'quarantine');
    if ('message' in outcome)
      t.same(
        outcome.message.headers.all('x-uribl').map(({ value }) => value.replace(/\s+/g, ' ')),
        ['www.evil.com on dbl.test (127.0.1.4), evil.com on multi.test (127.0.0.8)'],
      );
  }
});

t.test('own domains, exempt ones, own users; too many names', async t => {
  const p = await open(
    t,
    { exempt: ['evil.com'], maxNames: 4 },
    { accounts: { local: ['example.org'] }, relayNetworks: ['192.0.2.77'] },
  );
  t.match(await p.message(plain('http://www.evil.com/ http://example.org http://gateway.test')), { kind: 'continue' });
  t.same(p.host.dnsServer?.asked, []);
  const many = Array.from({ length: 20 }, (_, n) => `http://d${n}.com/`).join('\n');
  t.match(await p.message(plain(many)), { evidence: { notLookedUp: 16 } });
  t.same(
    p.host.dnsServer?.asked.filter(each => each.endsWith('.multi.test')).sort(),
    ['d0', 'd1', 'd18', 'd19'].map(each => `A ${each}.com.multi.test`),
  );
  const o = await open(t, {}, { relayNetworks: ['192.0.2.77'] });
  await o.connect({ remote: '192.0.2.77' });
  await o.mail('a@b.example');
  t.match(await o.message(plain('http://www.evil.com/')), { kind: 'continue' });
  await o.connect({ identity: 'bob@example.org' });
  await o.mail('a@b.example');
  t.match(await o.message(plain('http://www.evil.com/')), { kind: 'continue' });
  const all = await open(t, { outgoing: true });
  await all.connect({ identity: 'bob@example.org' });
  await all.mail('a@b.example');
  t.match(await all.message(plain('http://www.evil.com/')), { kind: 'reject' });
});

t.test('fails open: dead servers, refusals', async t => {
  const p = await open(t, { listTimeout: '300ms' });
  for (const fault of ['servfail', 'refused', 'timeout', 'garbage'] as const) {
    p.host.dnsServer?.setFault(fault);
    t.match(
      await p.message(plain('http://www.evil.com/')),
      { kind: 'continue', evidence: { unavailable: [/dbl.test/, /multi.test/] } },
      fault,
    );
  }
});

t.test('on a real rbldnsd: two lists with their test entries, bits, a wildcard, self-test', async t => {
  if (!requireEngines(t, 'uribl', 'rbldnsd')) return;
  const server = await startRbldnsd(t, {
    'dbl.test': {
      type: 'dnset',
      lines: `:127.0.1.2:https://dbl.test/q/$
test
.evil.com :127.0.1.4:phishing
grey.net :127.0.1.102:abused`,
    },
    'multi.test': {
      type: 'dnset',
      lines: `:127.0.0.2:https://multi.test/$
2.0.0.127
evil.com :127.0.0.72:two lists
1.2.0.192 :127.0.0.8:address`,
    },
    'all.test': { type: 'dnset', lines: ':127.0.0.2:everything\ntest\ninvalid' },
    'shut.test': { type: 'dnset', lines: ':127.255.255.254:open resolver\n.com\ntest' },
  });
  const dns = createDns({ clock: systemClock, servers: [server.address], attemptMs: 10_000, totalMs: 20_000 });
  t.teardown(() => dns.close());
  const real = [
    { zone: 'dbl.test', ask: ['host'], codes: { '127.0.1.2-127.0.1.99': 1 } },
    { zone: 'multi.test', ask: ['domain', 'address'], codes: { '&8': 0.25, '&64': 0.5 } },
    { zone: 'all.test' },
    { zone: 'shut.test' },
  ];
  const p = await open(t, { lists: real, threshold: 0.25, listTimeout: '20s' }, { dns });
  const settled = async (): Promise<unknown> => {
    for (;;) {
      const status = await p.status();
      if (!/not yet tested/.test(JSON.stringify(status))) return status;
      await new Promise(setImmediate);
    }
  };
  t.match(await settled(), {
    'dbl.test': 'works',
    'multi.test': 'works',
    'all.test': /lists 'invalid'/,
    'shut.test': /refuses our resolver \(127\.255\.255\.254\)/,
  });
  t.match(await p.message(html('<a href="http://login&period;evil.c&#111;m/">x</a>')), {
    kind: 'reject',
    evidence: {
      score: 1.5,
      listed: [
        { list: 'dbl.test', subject: 'login.evil.com', codes: ['127.0.1.4'], text: /phishing/ },
        { list: 'multi.test', subject: 'evil.com', codes: ['127.0.0.72'], weight: 0.5 },
      ],
      unavailable: [/all.test/, /shut.test/],
    },
  });
  t.match(await p.message(plain('hxxp://0xC0.0.2.1/')), { kind: 'reject', evidence: { score: 0.25 } });
  t.match(await p.message(plain('http://grey.net/ http://good.net/')), { kind: 'continue' });
  const untested = real.map(each => ({ ...each, selfTest: false }));
  const hurried = await open(t, { lists: untested, listTimeout: '300ms' }, { dns });
  server.freeze();
  t.match(await hurried.message(plain('http://new.net/')), {
    kind: 'continue',
    evidence: { unavailable: [/dbl/, /multi/] },
  });
  server.thaw();
  await server.kill();
  t.match(await hurried.message(plain('http://stopped.net/')), {
    kind: 'continue',
    evidence: { unavailable: [/dbl/, /multi/] },
  });
});
