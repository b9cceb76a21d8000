// Signatures, seals, From fields and DNS records that nobody meant to write: always a verdict, never an error, for an error
// would be a deferral that the sender cannot cure.
import fc from 'fast-check';
import t from 'tap';
import { mailAuth } from '../../plugins/mail-auth/index.ts';
import { plugin } from '../harness/plugin.ts';

const runs = { numRuns: 500, seed: 20261121 };
const word = fc.constantFrom(
  'v=1', 'v=', 'a=rsa-sha256', 'a=ed25519-sha256', 'a=rsa-sha1', 'a=', 'c=relaxed/relaxed', 'c=simple', 'c=/', 'd=example.test', 'd=', 'd=..', 's=s', 's=\xff', 'h=from', 'h=:', 'h=from:from:to', 'bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=', 'bh=', 'b=AAAA', 'b=%%%', 'i=1', 'i=2', 'i=99999999999999999999', 'i=@', 'i="', 'cv=none', 'cv=pass', 'cv=', 'l=0', 'l=99999999999999999999', 'l=-1', 't=1', 'x=0', 't=99999999999999', 'q=x', 'z=a:b|c', '__proto__=x', 'constructor=y', '=', ';', '\x00', '\r\n ', '"', '(', '\\',
); // biome-ignore format: a list
const tags = fc.array(word, { maxLength: 14 }).map(words => words.join('; '));
const name = fc.constantFrom(
  'DKIM-Signature',
  'ARC-Seal',
  'ARC-Message-Signature',
  'ARC-Authentication-Results',
  'Authentication-Results',
  'dkim-signature ',
);
const field = fc.tuple(name, tags).map(([key, value]) => `${key}: ${value}\r\n`);
const author = fc.constantFrom(
  'a@example.test', '', '<>', 'a@', '@b', '"x@y.test" <a@example.test', '=?utf-8?q?a?= <a@example.test>', 'x:a@b.test;', '<@r.test:a@example.test>', 'a@[1.2.3.4]', 'a@\xfc.test', 'a@b@c.test', `${'a'.repeat(2000)}@b.test`, ',,,', '(((', '\x00@\x00',
); // biome-ignore format: a list
const message = fc
  .tuple(
    fc.array(field, { maxLength: 8 }),
    fc.array(author, { maxLength: 3 }),
    fc.constantFrom('\r\n', '\r\nbody\r\n', '', '\r\n\n\r'),
  )
  .map(([fields, authors, rest]) =>
    Buffer.from(`${fields.join('')}${authors.map(text => `From: ${text}\r\n`).join('')}${rest}`, 'latin1'),
  );

t.test('any message gets a verdict', { timeout: 120_000 }, async t => {
  const dns = {
    's._domainkey.example.test': { TXT: ['v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='] },
    '_dmarc.example.test': { TXT: ['v=DMARC1; p=none'] },
  };
  const p = await plugin(mailAuth, {}, { dns });
  t.teardown(() => p.close());
  await fc.assert(
    fc.asyncProperty(message, async bytes => {
      await p.mail('a@example.test');
      await p.rcpt('bob@here.test');
      const { kind, why } = await p.message(bytes);
      if (!['continue', 'reject', 'quarantine'].includes(kind)) throw new Error(`${kind}: ${why}`);
    }),
    runs,
  );
  t.pass();
});

t.test('any SPF or DMARC record gets a result', { timeout: 120_000 }, async t => {
  const p = await plugin(mailAuth, {}, { dns: {} });
  t.teardown(() => p.close());
  const term = fc.constantFrom(
    'v=spf1', 'a', 'mx', 'ptr', 'ip4:', 'ip6:', 'ip4:1.2.3.4/33', 'ip6:::/0', 'a:%{', 'a:%{s}.%{l1r-}.test', 'exists:%{i}._%{v}.%{d}', 'exists:%{d99999999999}.t.test', 'redirect=', 'redirect=x.test', 'exp=', 'exp=%{p}.test', 'include:', 'include:x.test', 'all', '-all', '/', '//', '=', '%', 'v=DMARC1;', 'p=reject;', 'p=;', 'sp=none;', 'pct=1e9;', 'adkim=s;', 't=y;', 'psd=y;', '\x00', '\xff',
  ); // biome-ignore format: a list
  let serial = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(term, { maxLength: 10 }), async terms => {
      const domain = `d${serial++}.test`;
      p.host.dnsServer?.setZone({
        [domain]: { TXT: [`v=spf1 ${terms.join(' ')}`] },
        [`_dmarc.${domain}`]: { TXT: [`v=DMARC1; ${terms.join(' ')}`] },
        'x.test': { TXT: ['v=spf1 ?all'] },
      });
      const mail = await p.mail(`a@${domain}`);
      await p.rcpt('bob@here.test');
      const { kind, why } = await p.message(`From: a@${domain}\n\nx\n`);
      if (mail.kind !== 'continue' || !['continue', 'reject', 'quarantine'].includes(kind))
        throw new Error(`${mail.kind} ${kind}: ${why}`);
    }),
    runs,
  );
  t.pass();
});
