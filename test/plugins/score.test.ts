import t from 'tap';
import type { ChainEntry } from '../../core/pipeline/loaded-entry.ts';
import { definePlugin, type Plugin, type SpamScore, z } from '../../core/plugin/index.ts';
import { attachments } from '../../plugins/attachments/index.ts';
import { dnsblTotal } from '../../plugins/dnsbl/results.ts';
import { greylist } from '../../plugins/greylist/index.ts';
import { helo } from '../../plugins/helo/index.ts';
import { dkim, dmarc, spf } from '../../plugins/mail-auth/results.ts';
import { rateLimit } from '../../plugins/rate-limit/index.ts';
import { reverseDns } from '../../plugins/reverse-dns/index.ts';
import { score } from '../../plugins/score/index.ts';
import { spamScores } from '../../plugins/spamassassin/results.ts';
import { uribl } from '../../plugins/uribl/index.ts';
import { heldClock } from '../harness/held-clock.ts';
import { type PluginSetup, plugin } from '../harness/plugin.ts';

const spam: SpamScore = { engine: 'rspamd', score: 4.4, required: 5, symbols: [], disposition: 'clean' };

/** Found so much, as the real plugins tell it. */
const evidence = definePlugin({
  name: 'evidence',
  doc: 'Sets results.',
  options: z.strictObject({}),
  writes: [dnsblTotal, spamScores, spf, dkim, dmarc],
  setup: () => ({
    message(at) {
      if (at.message.headers.get('X-Quiet')) return { kind: 'continue' };
      at.set(dnsblTotal, {
        hits: [{ list: 'bl.test', codes: ['127.0.0.2'], weight: 4, subject: '192.0.2.1' }],
        allowed: [],
        unavailable: ['dead.test'],
        score: 4,
      });
      at.set(spamScores, [spam]);
      at.set(spf, { result: 'fail', identity: 'mailfrom', domain: 'b.test', why: 'x' });
      at.set(dkim, []);
      at.set(dmarc, { result: 'temperror', domain: 'b.test', disposition: 'none' });
      return { kind: 'continue' };
    },
  }),
});
const before: readonly ChainEntry[] = [
  { name: 'evidence', plugin: evidence, options: {}, timeoutMs: 1000, onError: 'defer', mode: 'enforce' },
];

async function scored(
  options: unknown,
  recipients: readonly string[],
  text = 'Subject: x\n\nx\n',
  extra: PluginSetup = {},
) {
  const p = await plugin(score, options, { before, ...extra });
  t.teardown(() => p.close());
  await p.mail('a@b.test');
  const replies = [];
  for (const to of recipients) replies.push(await p.rcpt(to));
  return { p, replies, answer: await p.message(text) };
}
const one = ['bob@example.org'];
// 4 (list) + 4.4 (engine) + 3 (SPF) + 0.5 (no signature); what failed for a time adds nothing.
const sum = 11.9;

t.test('the sum, line by line, and what would have let it through', async t => {
  const tagged = await scored({}, one);
  t.match(tagged.answer, {
    kind: 'continue',
    evidence: { total: sum, wouldPass: /^Below 5 without all of: \+4.4 spam/ },
  });
  t.same(tagged.answer.evidence?.['sum'], [
    '+4.4 spam.points (rspamd)',
    '+4 dnsbl.listed (bl.test lists 192.0.2.1)',
    '+3 spf.fail (b.test)',
    '+0.5 dkim.none',
  ]);
  const refused = await scored({ reject: 11 }, one);
  t.match(refused.answer, { kind: 'reject', reply: { code: 550, enhanced: '5.7.1' }, why: /Sum 11.9 reaches reject/ });
  t.notMatch(refused.answer.reply?.text, /\d/, 'the client hears no score');
  const close = await scored({ tag: 'never', reject: 11 }, one);
  t.match(close.answer.evidence, {
    wouldPass: /^Below 11 without any one of: \+4.4 .*; \+4 .*; \+3 spf.fail \(b.test\)$/,
  });
  t.match((await scored({ quarantine: sum }, one)).answer, { kind: 'quarantine' }, 'the limit itself is reached');
  const milder = await scored({ points: { 'spf.fail': -10, 'dnsbl.listed': 0 } }, one);
  t.match(milder.answer.evidence, { total: -5.1 });
  t.match((await scored({}, one, 'X-Quiet: 1\n\nx\n')).answer.evidence, { total: 0, sum: [] });
  await t.rejects(plugin(score, { points: { 'spf.maybe': 1 } }), { name: 'ChainError' });
});

t.test('fields, and forged ones', async t => {
  const head = async (quiet: string, options = {}) => {
    const { answer } = await scored(options, one, `${quiet}X-Spam-Flag: YES\nX-Postern-Score: -99\nSubject: x\n\nx\n`);
    const outcome = answer.outcome as {
      readonly message?: { readonly headers: Iterable<{ name: string; value: string }> };
    };
    return [...(outcome.message?.headers ?? [])].map(({ name, value }) => `${name}:${value.trim()}`);
  };
  const clean = await head('X-Quiet: 1\n');
  t.ok(clean.includes('X-Postern-Score:0.0'), clean.join());
  t.notOk(
    clean.some(line => /YES|-99/.test(line)),
    'forged fields went',
  );
  t.same((await head('')).filter(line => /Spam|Score/.test(line)).sort(), ['X-Postern-Score:11.9', 'X-Spam-Flag:YES']);
});

t.test('policies of domains and recipients', async t => {
  const policies = [
    { for: ['Lenient.test'], reject: 'never' },
    { for: ['boss@example.org'], reject: 12 },
  ];
  const options = { reject: 10, policies };
  t.match((await scored(options, one)).answer, { kind: 'reject' });
  t.match((await scored(options, ['boss@example.org'])).answer, { kind: 'continue' });
  const mixed = [...one, 'x@lenient.test'];
  t.match((await scored(options, mixed)).answer, { kind: 'continue' }, 'mildest');
  t.match((await scored({ ...options, mixed: 'strictest' }, mixed)).answer, { kind: 'reject' });
  const split = await scored({ ...options, mixed: 'defer' }, [...one, 'carol@example.org', 'x@lenient.test']);
  t.match(split.replies, [
    { kind: 'continue' },
    { kind: 'continue' },
    { kind: 'defer', reply: { code: 452, enhanced: '4.5.3' } },
  ]);
  t.match(split.answer, { kind: 'reject' });
});

t.test('our own mail', async t => {
  const p = await plugin(score, { tag: 0, reject: 1 }, { before, relayNetworks: ['198.51.100.0/24'] });
  t.teardown(() => p.close());
  for (const client of [{ identity: 'bob' }, { remote: '198.51.100.7' }]) {
    await p.connect(client);
    await p.mail('a@b.test');
    await p.rcpt('x@y.test');
    t.match(await p.message('Subject: x\n\nx\n'), { kind: 'continue', evidence: undefined });
  }
});

t.test('what is known of clients and links counts, by the plugins themselves', async t => {
  const entry = (name: string, tested: unknown, options: object): ChainEntry => ({
    name,
    plugin: tested as Plugin<unknown>,
    options,
    timeoutMs: 10_000,
    onError: 'defer',
  });
  const clock = heldClock();
  const p = await plugin(
    score,
    { points: { 'greylist.passed': -0.5, 'helo.mismatch': 0.25 } },
    {
      clock,
      before: [
        entry('reverse-dns', reverseDns, {}),
        entry('helo', helo, {}),
        entry('greylist', greylist, {}),
        entry('rate-limit', rateLimit, { limits: [{ per: 'account', messages: 1, window: '1h', action: 'hold' }] }),
        entry('uribl', uribl, {
          action: 'mark',
          lists: [{ zone: 'dbl.test', ask: ['host'], weight: 2, selfTest: false }],
        }),
      ],
      dns: {
        '7.113.0.203.in-addr.arpa': { PTR: ['x7.dsl.isp.example'] },
        'evil.com.dbl.test': { A: ['127.0.1.2'] },
        'mx.b.test': { A: ['203.0.113.99'] },
      },
    },
  );
  t.teardown(() => p.close());
  const send = async () => {
    await p.connect({ remote: '203.0.113.7' });
    await p.helo('mx.b.test');
    await p.mail('a@b.test');
    await p.rcpt('bob@example.org');
    return p.message('Subject: x\n\nsee http://evil.com/\n');
  };
  t.equal((await send()).kind, 'not asked', 'greylisted');
  clock.move(300_000);
  t.same((await send()).evidence?.['sum'], [
    '+2 uribl.listed (dbl.test lists evil.com)',
    '+1 rdns.generic (x7.dsl.isp.example)',
    '+0.5 rdns.unconfirmed (x7.dsl.isp.example)',
    '+0.25 helo.mismatch (mx.b.test)',
    '-0.5 greylist.passed (came back after 300 s)',
  ]);
});

t.test('attachments count once for each kind', async t => {
  const p = await plugin(
    score,
    {},
    {
      before: [
        {
          name: 'attachments',
          plugin: attachments as Plugin<unknown>,
          options: { rules: [] },
          timeoutMs: 10_000,
          onError: 'defer',
        },
      ],
    },
  );
  t.teardown(() => p.close());
  await p.connect();
  await p.mail('a@b.test');
  await p.rcpt('bob@example.org');
  const part = (name: string): string => `--b\nContent-Type: application/x; name="${name}"\n\nx\n`;
  const { evidence } = await p.message(
    `Content-Type: multipart/mixed; boundary=b\n\n${part('a.pdf.exe')}${part('b.exe')}--b--\n`,
  );
  t.same(evidence?.['sum'], ['+3 attachments.executable (a.pdf.exe)', '+3 attachments.double-extension (a.pdf.exe)']);
});
