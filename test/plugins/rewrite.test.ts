import t from 'tap';
import { openLookup } from '../../core/plugin/lookup-table.ts';
import { changeAddresses } from '../../plugins/rewrite/header-addresses.ts';
import { rewrite } from '../../plugins/rewrite/index.ts';
import { fc } from '../harness/fuzz.ts';
import { type ClientFacts, plugin } from '../harness/plugin.ts';

const folder = t.testdir({
  canonical: `
# comment
jim@old.test        James.Doe@new.test
@dom.test           @other.test
  # continued

bare                full@new.test
me@loop.test        you@loop.test
you@loop.test       me@loop.test
bad@old.test        not an address
`,
  regexp: `
/^(.*)@(a|b)\\.test$/   $1@c.test
!/@c\\.test$/           catch@d.test
`,
  pcre: `
if /@x\\.test$/
/^upper(.)@/i           $\{1}-$$-$(1)@y.test
endif
/^(a+)+b@/              never@y.test
`,
});
const accounts = { local: ['new.test', 'example.org'], users: { 'james.doe@new.test': 'x', 'bob@example.org': 'x' } };
const inside: ClientFacts = { remote: '198.51.100.1' };

async function rewritten(
  options: object,
  {
    from = 'x@y.test',
    to = 'bob@example.org',
    text = 'Subject: x',
    client = inside,
  }: {
    readonly from?: string | null;
    readonly to?: string;
    readonly text?: string | Buffer;
    readonly client?: ClientFacts;
  } = {},
) {
  const p = await plugin(
    rewrite,
    { origin: 'example.org', ...options },
    { accounts, configFolder: folder, relayNetworks: ['198.51.100.0/24'] },
  );
  await p.connect(client);
  await p.mail(from);
  const rcpt = await p.rcpt(to);
  const answer = await p.message(Buffer.isBuffer(text) ? text : `${text}\n\nbody\n`);
  const outcome = answer.outcome as unknown as {
    readonly sender: { readonly text: string } | null;
    readonly recipients: readonly { readonly address: { readonly text: string } }[];
    readonly message: { bytes(): Promise<Buffer> };
  };
  await p.close();
  return {
    rcpt,
    evidence: answer.evidence,
    sender: outcome.sender?.text ?? null,
    to: outcome.recipients.map(({ address }) => address.text).join(' '),
    text: (await outcome.message.bytes())
      .toString()
      .replace(/\r\n\r\nbody\r\n$/, '')
      .replaceAll('\r\n', '\n'),
  };
}
const sender = async (table: unknown, from: string) => (await rewritten({ envelopeSender: [table] }, { from })).sender;

t.test('canonical(5): order of keys, extensions, domains, bare names', async t => {
  for (const [from, to] of [
    ['jim@old.test', 'James.Doe@new.test'],
    ['JIM@OLD.test', 'James.Doe@new.test'],
    ['jim+lists@old.test', 'James.Doe+lists@new.test'],
    ['any@dom.test', 'any@other.test'],
    ['"a b"@dom.test', '"a b"@other.test'],
    ['bare@example.org', 'full@new.test'],
    ['bare+x@example.org', 'full+x@new.test'],
    ['bare@foreign.test', 'bare@foreign.test'],
    ['other@old.test', 'other@old.test'],
  ] as const)
    for (const table of ['canonical', 'hash:canonical', 'texthash:canonical'])
      t.equal(await sender(table, from), to, from);
  t.equal(await sender('inline:{ a@b.test = c@d.test, e@f.test=g }', 'a@b.test'), 'c@d.test');
  t.equal(await sender('inline:{ e@f.test=g }', 'e@f.test'), 'g@example.org', 'a bare result gets the origin');
  t.equal(await sender('static:one@new.test', 'e@f.test'), 'one@new.test');
  t.equal(await sender({ pattern: '@f.test', to: '@new.test' }, 'e@f.test'), 'e@new.test');
  t.equal(await sender({ pattern: '/^(.)@f\\.test$/', to: '$1$1@new.test' }, 'e@f.test'), 'ee@new.test');
  t.equal(
    (await rewritten({ envelopeSender: ['static:one@new.test'] }, { from: null })).sender,
    null,
    'the null sender stays',
  );
});

t.test('regexp_table(5) and pcre_table(5), in linear time', async t => {
  for (const [table, from, to] of [
    ['regexp:regexp', 'X@A.test', 'X@c.test'],
    ['regexp:regexp', 'x@z.test', 'catch@d.test'],
    ['pcre:pcre', 'UPPER1@x.test', 'UPPER1@x.test'],
    ['pcre:pcre', 'upper1@x.test', '1-$-1@y.test'],
    ['pcre:pcre', 'upper1@z.test', 'upper1@z.test'],
  ] as const)
    t.equal(await sender(table, from), to, `${table} ${from}`);
  const evil = openLookup([{ pattern: '/^(a+)+b$/', to: 'x' }], name => name);
  t.equal(evil.find('a'.repeat(1990)), undefined);
  for (const [source, why] of [
    ['regexp:none', /Cannot read/],
    ['odd:x', /unknown type 'odd'/],
    ['inline:x', /expected 'inline:/],
    [{ pattern: '/(?=x)/', to: 'y' }, /linear time/],
    [{ pattern: '/x/q', to: 'y' }, /flag 'q'/],
    [{ pattern: '!/x/', to: '$1' }, /no group/],
  ] as const)
    t.throws(() => openLookup([source], name => `${folder}/${name}`), { message: why });
  for (const [text, why] of [
    ['if /x/\n/y/ z', /'if' without 'endif'/],
    ['endif', /:1: 'endif' without 'if'/],
    ['/x/', /:1: No result/],
    ['# a\n/x z', /:2: The expression has no end/],
    ['x y', /Expected '\/pattern/],
  ] as const) {
    const broken = t.testdir({ f: text });
    t.throws(() => openLookup(['regexp:f'], name => `${broken}/${name}`), { message: why });
  }
});

t.test('tables that go in circles, and results that are no addresses', async t => {
  const loop = await rewritten({ envelopeSender: ['canonical'] }, { from: 'me@loop.test' });
  t.equal(loop.sender, 'you@loop.test');
  t.match(loop.evidence, { problems: [/in circles/] });
  const grow = await rewritten(
    { envelopeSender: [{ pattern: '/^(.*)@f\\.test$/', to: 'x$1@f.test' }] },
    { from: 'a@f.test' },
  );
  t.equal(grow.sender, `${'x'.repeat(10)}a@f.test`, 'ten times at most');
  const bad = await rewritten({ envelopeSender: ['canonical'] }, { from: 'bad@old.test' });
  t.equal(bad.sender, 'bad@old.test');
  t.match(bad.evidence, { problems: [/is no address/] });
});

t.test('four lists that know nothing of one another', async t => {
  const text =
    'From: "A, B" <me@h.test> (me@h.test)\nReply-To: me@h.test\nTo: g: me@h.test,\n other@h.test;\nSubject: me@h.test';
  const every = { from: 'me@h.test', to: 'me@h.test', text };
  for (const [name, wanted] of [
    ['envelopeSender', { sender: 'X@x.test', to: 'me@h.test', text }],
    ['envelopeRecipient', { sender: 'me@h.test', to: 'X@x.test', text }],
    [
      'headerSender',
      {
        sender: 'me@h.test',
        to: 'me@h.test',
        text: text.replace('<me@h.test>', '<X@x.test>').replace('Reply-To: me@h.test', 'Reply-To: X@x.test'),
      },
    ],
    [
      'headerRecipient',
      { sender: 'me@h.test', to: 'me@h.test', text: text.replace('g: me@h.test,\n other', 'g: X@x.test, other') },
    ],
  ] as const)
    t.match(await rewritten({ [name]: ['inline:{ me@h.test=X@x.test }'] }, every), wanted, name);
});

t.test('names of people stay as they were encoded', async t => {
  const text = 'From: =?utf-8?q?J=C3=BCrgen=2C_A?= <me@h.test>';
  t.equal(
    (await rewritten({ headerSender: ['inline:{ me@h.test=X@x.test }'] }, { text })).text,
    text.replace('me@h.test', 'X@x.test'),
  );
});

t.test('a field with bytes that no field may hold is rewritten, not a reason to defer', async t => {
  const text = Buffer.from('From: "J\xfcrgen\0" <me@h.test>\r\n\r\nb\r\n', 'latin1');
  const made = await rewritten({ headerSender: ['inline:{ me@h.test=X@x.test }'] }, { text });
  t.match(made.text, 'From: "J\u00fcrgen " <X@x.test>');
});

t.test('whose mail', async t => {
  const table = ['inline:{ me@h.test=X@x.test }'];
  const outside = { from: 'me@h.test', text: 'From: me@h.test', client: { remote: '192.0.2.9' } };
  const options = { envelopeSender: table, headerSender: table };
  t.match(
    await rewritten(options, outside),
    { sender: 'X@x.test', text: 'From: me@h.test' },
    'headers of strangers stay',
  );
  t.match(await rewritten({ ...options, headers: 'any' }, outside), { text: 'From: X@x.test' });
  t.match(await rewritten({ ...options, envelope: 'inside', headers: 'none' }, outside), { sender: 'me@h.test' });
  t.match(await rewritten(options, { ...outside, client: { identity: 'me' } }), {
    sender: 'X@x.test',
    text: 'From: X@x.test',
  });
});

t.test('masquerading', async t => {
  const mask = (domains: readonly string[], from: string, more: object = {}) =>
    rewritten({ masquerade: { domains, ...more } }, { from, text: `From: ${from}`, to: 'x@pc.example.net' });
  const domains = ['!keep.example.net', 'example.net'];
  t.match(await mask(domains, 'a@pc7.example.net'), {
    sender: 'a@example.net',
    text: 'From: a@example.net',
    to: 'x@pc.example.net',
  });
  t.match(await mask(domains, 'a@b.keep.example.net'), { sender: 'a@b.keep.example.net' });
  t.match(await mask(domains, 'a@example.net'), { sender: 'a@example.net' });
  t.match(await mask(domains, 'a@notexample.net'), { sender: 'a@notexample.net' });
  t.match(await mask(domains, 'Root@pc.example.net', { exceptUsers: ['root'] }), { sender: 'Root@pc.example.net' });
  t.match(await mask(domains, 'a@pc.example.net', { classes: ['envelopeRecipient'] }), {
    sender: 'a@pc.example.net',
    to: 'x@example.net',
  });
});

t.test('recipients that exist under the new address only', async t => {
  const options = {
    envelopeRecipient: [
      'inline:{ old@example.org=bob@example.org, gone@example.org=nobody@example.org, out@example.org=x@far.test, s@far.test=t@far.test }',
    ],
  };
  t.match(await rewritten(options, { to: 'old@example.org' }), { rcpt: { kind: 'accept' }, to: 'bob@example.org' });
  t.match(await rewritten(options, { to: 'gone@example.org' }), { rcpt: { kind: 'reject', reply: { code: 550 } } });
  t.match(await rewritten(options, { to: 'out@example.org' }), { rcpt: { kind: 'accept' }, to: 'x@far.test' });
  t.match(
    await rewritten(options, { to: 's@far.test' }),
    { rcpt: { kind: 'continue' } },
    'who may relay is not for us to say',
  );
  t.match(await rewritten(options, { to: 'bob@example.org' }), { rcpt: { kind: 'continue' }, to: 'bob@example.org' });
});

t.test('header values of any sort: nothing changes but addresses', async t => {
  const piece = fc.constantFrom(
    'a@b.test',
    '"',
    '\\',
    '(',
    ')',
    '<',
    '>',
    ',',
    ' ',
    '=?utf-8?q?a=40b?=',
    '"a b"@b.test',
    'x',
    '@',
    'é',
    '[1]',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), pieces => {
      const value = pieces.join('');
      return changeAddresses(value, address => address) === value;
    }),
    { numRuns: 3_000 },
  );
  const began = performance.now();
  changeAddresses('a'.repeat(200_000), address => address);
  t.ok(performance.now() - began < 20_000, 'a long word costs its length');
});
