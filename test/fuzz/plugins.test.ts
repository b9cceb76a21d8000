// What parsers of plugins meet: map files with anything in them, codes, messages of any bytes.

import t from 'tap';
import { classify, parseCodeRule } from '../../core/plugin/return-codes.ts';
import { MapFileError, parseAliases, parseIncluded, parseVirtual } from '../../plugins/aliases/parse-map.ts';
import { plugins } from '../../plugins/index.ts';
import { scanBytes } from '../../plugins/rfc822/facts.ts';
import { fc } from '../harness/fuzz.ts';
import { plugin } from '../harness/plugin.ts';
import { testMessage } from '../harness/test-message.ts';

const mapText = fc
  .array(
    fc.constantFrom(
      'a',
      'b@x.test',
      '@x.test',
      ':',
      ',',
      '"',
      '\\',
      '|',
      '/',
      '#',
      ' ',
      '\t',
      '\n',
      '\r\n',
      ':include:',
      '<',
      '>',
      '(',
      'ü',
      '\0',
    ),
    { maxLength: 60 },
  )
  .map(parts => parts.join(''));

t.test('map files: an entry or a fault with its line, never anything else', async t => {
  fc.assert(
    fc.property(mapText, text => {
      for (const parse of [parseAliases, parseVirtual])
        try {
          for (const entry of parse(text, 'f')) if (entry.targets.length === 0) return false;
        } catch (error) {
          if (!(error instanceof MapFileError) || !/^f:\d+: /.test(error.message)) throw error;
        }
      parseIncluded(text);
      return true;
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});

t.test('return codes', async t => {
  const octet = fc.nat(255);
  const address = fc.tuple(octet, octet, octet, octet).map(parts => parts.join('.'));
  fc.assert(
    fc.property(
      address,
      code => parseCodeRule(code)(code) && parseCodeRule('0.0.0.0/0')(code) && parseCodeRule(`${code}/32`)(code),
    ),
  );
  fc.assert(
    fc.property(fc.array(address, { minLength: 1 }), codes => {
      const said = classify(codes);
      return (
        said.kind === 'refused' || said.codes.every(code => code.startsWith('127.') && !code.startsWith('127.255.255.'))
      );
    }),
  );
  t.pass();
});

t.test('the longest line and lone line ends, as the plain way would find them', async t => {
  const piece = fc.oneof(
    fc.constantFrom('\r\n', '\n', '\r', '\0', 'x'),
    fc.nat(2100).map(n => 'y'.repeat(n)),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), pieces => {
      const text = pieces.join('');
      const facts = scanBytes(testMessage(Buffer.from(text)), true);
      if (facts instanceof Promise) return false;
      const longest = Math.max(
        ...text.split('\n').map((line, at, all) => line.length - (at < all.length - 1 && line.endsWith('\r') ? 1 : 0)),
      );
      const sameLength = longest <= 998 ? facts.longestLine <= 998 : facts.longestLine >= 999;
      return (
        sameLength &&
        facts.nul === text.includes('\0') &&
        facts.bareLf === /(?<!\r)\n/.test(text) &&
        facts.bareCr === /\r(?!\n)/.test(text)
      );
    }),
    { numRuns: 2_000, examples: [[['y'.repeat(999), '\n']], [['y'.repeat(998), '\r\n']], [['y'.repeat(999), '\r\n']]] },
  );
  t.pass();
});

t.test('messages of any bytes through every plugin that looks at them', async t => {
  const line = fc.oneof(
    fc.constantFrom(
      'From: a@b.test',
      'From: <<>>,;:',
      'Content-Type: multipart/mixed; boundary="b"',
      'Content-Type: message/rfc822',
      '--b',
      '--b--',
      '',
      'Date: x',
      'Content-Transfer-Encoding: x',
      ' folded',
    ),
    fc.string({ unit: 'binary', maxLength: 40 }),
  );
  const message = fc.array(line, { maxLength: 25 }).map(lines => Buffer.from(lines.join('\r\n')));
  for (const name of ['limits', 'rfc822']) {
    const tested = plugins[name];
    if (!tested) throw new Error(name);
    const p = await plugin(
      tested,
      name === 'rfc822' ? { rules: { 'bare-line-end': 'mark', 'bad-address': 'mark' } } : {},
    );
    await p.connect({ identity: 'a@b.test' });
    await p.mail('a@b.test');
    await p.rcpt('c@example.org');
    await fc.assert(
      fc.asyncProperty(message, async bytes => (await p.message(bytes)).kind !== 'error'),
      { numRuns: 500 },
    );
    await p.close();
  }
  t.pass();
});
