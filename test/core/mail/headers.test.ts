import t from 'tap';
import { editHeaders, renderField } from '../../../core/mail/header-edit.ts';
import { findHeaderEnd, parseHeaders } from '../../../core/mail/headers.ts';

const section = (text: string): Buffer => Buffer.from(text, 'latin1');

t.test('the section ends at the first empty line, whatever the line ends', async t => {
  t.same(findHeaderEnd(section('a: b\r\n\r\nbody')), { end: 6, bodyStart: 8 });
  t.same(findHeaderEnd(section('a: b\n\nbody')), { end: 5, bodyStart: 6 });
  t.same(findHeaderEnd(section('a: b\n\r\nbody')), { end: 5, bodyStart: 7 });
  t.same(findHeaderEnd(section('\r\nbody')), { end: 0, bodyStart: 2 });
  t.equal(findHeaderEnd(section('a: b\r\n')), undefined);
  t.equal(findHeaderEnd(section('a: b\r\n \r\nc: d\r\n')), undefined, 'a line of white space is no empty line');
  t.equal(findHeaderEnd(section('a: b\r\r\n\r')), undefined);
});

t.test('fields are read without loss', async t => {
  const text =
    'From: a@example.org\r\nSUBJECT : folded\r\n\tover lines \r\nX-8bit: caf\xc3\xa9 \xff\r\nthis is no field\r\nx-empty:\r\nsubject: again\r\nlast: no end';
  const list = parseHeaders(section(text));
  t.equal(Buffer.concat([...list].map(field => field.raw)).toString('latin1'), text);
  t.equal(list.count, 7);
  t.equal(list.size, text.length);
  t.same(
    [...list].map(field => field.name),
    ['From', 'SUBJECT', 'X-8bit', '', 'x-empty', 'subject', 'last'],
  );
  t.equal(list.get('Subject')?.value, 'folded\tover lines');
  t.same(
    list.all('subject').map(field => field.value),
    ['folded\tover lines', 'again'],
  );
  t.equal(list.get('x-8bit')?.value, 'café \uFFFD');
  t.equal(list.get('x-empty')?.value, '');
  t.equal(list.get('')?.value, 'this is no field');
  t.equal(list.has('to'), false);
  t.same(list.all('to'), []);
  t.same(list.defects, ['malformed-field']);
});

t.test('odd names are no fields, and a broken fold at the top is kept', async t => {
  for (const line of [
    'From someone@example.org Mon Jan  1 00:00:00 2026\r\n',
    ' continued: x\r\n',
    'caf\xe9: x\r\n',
    ': x\r\n',
    'a b: x\r\n',
  ]) {
    const list = parseHeaders(section(line));
    t.equal(list.count, 1);
    t.equal([...list][0]?.name, '', JSON.stringify(line));
    t.equal([...list][0]?.raw.toString('latin1'), line);
    t.same(list.defects, ['malformed-field']);
  }
});

t.test('what exceeds the limits is reported and not listed', async t => {
  const many = section('a: b\r\n'.repeat(50));
  const few = parseHeaders(many, { maxHeaderFields: 10 });
  t.equal(few.count, 10);
  t.same(few.defects, ['too-many-fields']);
  t.equal(few.size, many.length);
  const large = parseHeaders(many, { maxHeaderBytes: 20 });
  t.equal(large.count, 3);
  t.same(large.defects, ['header-too-large']);
  const beginning = parseHeaders(section('a: b\r\nc: cut he'), {}, 1000);
  t.equal(beginning.count, 1);
  t.equal(beginning.size, 1000);
  t.same(beginning.defects, ['header-too-large']);
});

t.test('rendering folds at white space and restores exactly when unfolded', async t => {
  t.equal(renderField('X-A', 'short').toString(), 'X-A: short\r\n');
  t.equal(renderField('X-A', '').toString(), 'X-A: \r\n');
  const value = Array.from({ length: 60 }, (_, at) => `word${at}${at % 7 === 0 ? ' ' : ''}`).join(' ');
  const folded = renderField('Subject', value).toString();
  for (const line of folded.split('\r\n')) t.ok(line.length <= 78, line);
  t.equal(parseHeaders(Buffer.from(folded)).get('subject')?.value, value);
  const long = renderField('X-Long', 'x'.repeat(3000)).toString();
  for (const line of long.split('\r\n')) t.ok(line.length <= 998);
  t.equal(long.replace(/^X-Long: |\s/g, ''), 'x'.repeat(3000));
  const given = renderField('DKIM-Signature', 'v=1; a=rsa-sha256;\r\n\td=example.org; b=abc\r\n\t def').toString();
  t.equal(given, 'DKIM-Signature: v=1; a=rsa-sha256;\r\n\td=example.org; b=abc\r\n\t def\r\n');
});

t.test('a value cannot begin another field, and text beyond ASCII is encoded', async t => {
  t.equal(renderField('X-A', 'one\r\nBcc: two\rthree\nfour\x00\x07').toString(), 'X-A: one Bcc: two three four\r\n');
  t.equal(renderField('X-A', 'one\r\n\r\n two').toString(), 'X-A: one\r\n two\r\n');
  t.equal(renderField('X-A', 'one\n \n\n two\n').toString().includes('\r\n \r\n'), false);
  t.equal(
    renderField('Subject', 'Grüße aus Köln').toString(),
    'Subject: =?utf-8?b?R3LDvMOfZQ==?= aus =?utf-8?b?S8O2bG4=?=\r\n',
  );
  t.equal(renderField('Subject', 'Grüße', { utf8: true }).toString(), 'Subject: Grüße\r\n');
  for (const name of ['', 'a b', 'a:b', 'a\r\nb', 'ä', 'x'.repeat(77)])
    t.throws(() => renderField(name, 'x'), TypeError);
});

t.test('edits leave every other byte as it was', async t => {
  const list = parseHeaders(
    section('Received: a\r\nX-Spam: no\r\nSubject:  odd \t spacing\r\nx-spam:\r\n maybe\r\nno field\r\n'),
  );
  const edit = (...edits: Parameters<typeof editHeaders>[1]): string => editHeaders(list, edits).toString('latin1');
  t.equal(edit(), list.raw.toString('latin1'));
  t.equal(
    edit({ kind: 'remove-header', name: 'X-Spam' }, { kind: 'add-header', name: 'X-Spam', value: 'yes' }),
    'X-Spam: yes\r\nReceived: a\r\nSubject:  odd \t spacing\r\nno field\r\n',
  );
  t.equal(
    edit(
      { kind: 'remove-header', name: 'x-spam', index: 1 },
      { kind: 'replace-header', name: 'x-spam', value: 'ham', index: 0 },
    ),
    'Received: a\r\nx-spam: ham\r\nSubject:  odd \t spacing\r\nno field\r\n',
  );
  t.equal(
    edit(
      { kind: 'replace-header', name: 'X-Spam', value: 'one' },
      { kind: 'replace-header', name: 'X-New', value: 'n' },
    ),
    'Received: a\r\nX-Spam: one\r\nSubject:  odd \t spacing\r\nno field\r\nX-New: n\r\n',
  );
  t.equal(
    edit(
      { kind: 'add-header', name: 'A', value: '1' },
      { kind: 'add-header', name: 'B', value: '2' },
      { kind: 'add-header', name: 'C', value: '3', at: 'bottom' },
      { kind: 'remove-header', name: 'Subject', index: 5 },
    ),
    `B: 2\r\nA: 1\r\n${list.raw.toString('latin1')}C: 3\r\n`,
  );
  const unended = parseHeaders(section('a: b'));
  t.equal(
    editHeaders(unended, [{ kind: 'add-header', name: 'C', value: 'd', at: 'bottom' }]).toString(),
    'a: b\r\nC: d\r\n',
  );
  const limited = parseHeaders(section('a: 1\r\nb: 2\r\nc: 3\r\n'), { maxHeaderFields: 1 });
  t.equal(
    editHeaders(limited, [{ kind: 'add-header', name: 'D', value: '4', at: 'bottom' }]).toString(),
    'a: 1\r\nD: 4\r\nb: 2\r\nc: 3\r\n',
  );
});
