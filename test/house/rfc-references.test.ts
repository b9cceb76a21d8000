import { readFileSync } from 'node:fs';
import t from 'tap';
import { sourcePath } from '../harness/root.ts';
import { checkRfcs, readRfcTable } from './rfc-references.ts';
import { listSources } from './source-files.ts';

t.test('every reference is listed, everything listed as followed is cited', async t => {
  const markdown = readFileSync(sourcePath('core/RFC.md'), 'utf8');
  t.ok(readRfcTable(markdown).length > 50, 'the table was read');
  t.same(checkRfcs(markdown, listSources('core', 'plugins')), []);
});

t.test('the check can fail', async t => {
  const table = (...rows: readonly string[]): string => rows.map(row => `| RFC ${row} | core |\n`).join('');
  const source = (text: string) => [{ file: 'core/a.ts', source: text }];
  t.same(checkRfcs(table('5321 | SMTP | yes'), source('// RFC 5321 §4')), []);
  t.same(checkRfcs(table('5321 | SMTP | yes'), source('// RFC 5321 and RFC 2033')), [
    'RFC 2033 (core/a.ts) is not listed',
  ]);
  t.same(checkRfcs(table('5321 | SMTP | yes'), source('')), ['RFC 5321 is followed but never cited']);
  t.same(checkRfcs(table('5321 | SMTP | no'), source('RFC 5321 §4')), [
    'RFC 5321 is not followed but governs core/a.ts',
  ]);
  t.same(checkRfcs(table('5321 | SMTP | no'), source('RFC 5321')), []);
  t.same(checkRfcs(table('5321 | SMTP | maybe'), source('RFC 5321')), ["RFC 5321 is followed 'maybe'"]);
  t.same(checkRfcs(table('5321 | SMTP | yes', '2033 | LMTP | yes'), source('RFC 5321 RFC 2033')), [
    'RFC 2033 is out of order',
  ]);
  t.same(checkRfcs('| RFC 5321 | SMTP |\n', source('')), ['1 row(s) of the table cannot be read']);
});
