// The IMAP grammar alone: fuzzed for "never throws anything but its own error", "chunks do not matter" and "what the
// encoder writes the lexer reads".
import assert from 'node:assert/strict';
import t from 'tap';
import {
  encodeAstring,
  encodeDateTime,
  encodeNumberSet,
  encodeSection,
  encodeString,
} from '../../../core/imap/wire/encoder.ts';
import { Framer } from '../../../core/imap/wire/framer.ts';
import { Lexer } from '../../../core/imap/wire/lexer.ts';
import { type Section, type Segment, star } from '../../../core/imap/wire/types.ts';
import { WireError } from '../../../core/imap/wire/wire-error.ts';
import { decodeModifiedUtf7, encodeModifiedUtf7 } from '../../../core/mail/modified-utf7.ts';
import { fc } from '../../harness/fuzz.ts';

const runs = { numRuns: 500 };
const lex = (text: string): Lexer => new Lexer([{ kind: 'text', bytes: Buffer.from(text, 'latin1') }]);

/** Frames a whole stream as a session would, literals kept in memory. */
function frame(chunks: readonly Buffer[], maxLine = 1000): readonly (readonly Segment[])[] {
  const framer = new Framer();
  const commands: Segment[][] = [];
  let current: Segment[] = [];
  let literal: { left: number; bytes: Buffer[]; binary: boolean } | undefined;
  for (const chunk of chunks) {
    framer.push(chunk);
    for (;;) {
      if (literal) {
        while (literal.left > 0) {
          const some = framer.some(literal.left);
          if (!some) break;
          literal.left -= some.length;
          literal.bytes.push(Buffer.from(some));
        }
        if (literal.left > 0) break;
        current.push({ kind: 'literal', bytes: Buffer.concat(literal.bytes), binary: literal.binary });
        literal = undefined;
      }
      const line = framer.line(maxLine);
      if (!line) break;
      const bytes = Buffer.from(line.kind === 'line' ? line.bytes : line.head);
      current.push({ kind: 'text', bytes });
      if (line.kind === 'line' && line.literal && line.literal.size < 10_000)
        literal = { left: line.literal.size, bytes: [], binary: line.literal.binary };
      else {
        commands.push(current);
        current = [];
      }
    }
  }
  return commands;
}

/** Reassembles a byte string that may hold a literal into segments. */
function segmentsOf(text: string): readonly Segment[] {
  return frame([Buffer.from(`${text}\r\n`, 'latin1')], 100_000)[0] ?? [];
}

const latin1 = fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes).toString('latin1'));

t.test('framing', async t => {
  const commands = frame([
    Buffer.from('a LOGIN {3+}\r\nbob {2}\r\npw\r\nb NOOP\nc X "{3}"\r\nd APPEND x ~{1}\r\n\0\r\n'),
  ]);
  t.same(
    commands.map(command =>
      command.map(segment => (segment.kind === 'spooled' ? '' : segment.bytes.toString('latin1'))),
    ),
    [['a LOGIN ', 'bob', ' ', 'pw', ''], ['b NOOP'], ['c X "{3}"'], ['d APPEND x ', '\0', '']],
  );
  const long = frame([Buffer.from(`t1 ${'x'.repeat(2000)}`), Buffer.from('yy\r\nt2 NOOP\r\n')]);
  t.equal(long.length, 2);
  t.match(long[0]?.[0]?.kind === 'text' ? long[0][0].bytes.toString() : '', /^t1 x+$/);
  const framer = new Framer();
  for (let i = 0; i < 100; i += 1) {
    framer.push(Buffer.alloc(100, 'x'));
    framer.line(1000);
  }
  t.ok(framer.pending <= 1000, 'an endless line is not kept');
});

t.test('chunks do not matter', async t => {
  const piece = fc.oneof(
    fc.constantFrom(
      'a1 LOGIN ',
      '{3}\r\n',
      '{5+}\r\n',
      '~{2}\r\n',
      '\r\n',
      '\n',
      ' ',
      '(',
      '"',
      '\\',
      '{',
      '}',
      'x'.repeat(300),
    ),
    fc.string({ maxLength: 8 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), fc.array(fc.nat(60), { maxLength: 40 }), (pieces, cuts) => {
      const stream = Buffer.from(pieces.join(''), 'latin1');
      const chunks: Buffer[] = [];
      let at = 0;
      for (const cut of cuts) {
        chunks.push(stream.subarray(at, at + cut));
        at += cut;
      }
      chunks.push(stream.subarray(at));
      assert.deepEqual(frame(chunks), frame([stream]));
      assert.deepEqual(frame([...stream].map(byte => Buffer.from([byte]))), frame([stream]));
    }),
    { numRuns: 300 },
  );
  t.pass('fuzzed');
});

t.test('only its own error', async t => {
  const productions: readonly ((lexer: Lexer) => unknown)[] = [
    l => l.tag(),
    l => l.atom(),
    l => l.astring(),
    l => l.string(),
    l => l.nstring(),
    l => l.number(),
    l => l.modseq(),
    l => l.sequenceSet(),
    l => l.date(),
    l => l.dateTime(),
    l => l.section(),
    l => l.partial(),
    l => l.list(() => l.flag()),
    l => l.listMailbox(),
    l => l.base64(),
    l => l.message(),
    l => l.sp(),
    l => l.end(),
    l => l.attributeName(),
    function nest(l): unknown {
      return l.peek() === '(' ? l.list(() => nest(l)) : l.astring();
    },
  ];
  const text = fc.oneof(
    latin1,
    fc
      .array(
        fc.constantFrom(
          '(',
          ')',
          '"',
          '\\',
          'a',
          '1',
          ',',
          ':',
          '*',
          '[',
          ']',
          '.',
          ' ',
          'HEADER.FIELDS',
          'NIL',
          '<',
          '>',
          '1-Jan-2020',
        ),
        { maxLength: 40 },
      )
      .map(parts => parts.join('')),
    fc.nat(3000).map(depth => '('.repeat(depth)),
  );
  fc.assert(
    fc.property(text, fc.array(fc.nat(productions.length - 1), { maxLength: 6 }), (input, order) => {
      const lexer = lex(input);
      try {
        for (const index of order) productions[index]?.(lexer);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
      }
    }),
    runs,
  );
  t.pass('fuzzed');
});

t.test('what is encoded is read back', async t => {
  const clean = latin1.map(text => text.replace(/\0/g, ''));
  fc.assert(
    fc.property(clean, text => {
      assert.equal(new Lexer(segmentsOf(encodeString(text))).string().toString('latin1'), text);
      if (text !== '') assert.equal(new Lexer(segmentsOf(encodeAstring(text))).astring().toString('latin1'), text);
    }),
    runs,
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 253_402_300_799 }), seconds => {
      assert.equal(lex(encodeDateTime(seconds * 1000)).dateTime(), seconds * 1000);
    }),
    runs,
  );
  const section: fc.Arbitrary<Section> = fc
    .record(
      {
        part: fc.array(fc.integer({ min: 1, max: 99 }), { maxLength: 5 }),
        of: fc.constantFrom('all', 'header', 'text', 'header.fields', 'header.fields.not'),
        fields: fc.constant(['Subject', 'X-"odd"']),
      },
      { noNullPrototype: true },
    )
    .map(made => ({ ...made, fields: made.of.startsWith('header.') ? made.fields : [] }));
  fc.assert(
    fc.property(section, value => {
      assert.deepEqual(new Lexer(segmentsOf(encodeSection(value))).section(), value);
    }),
    runs,
  );
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 60 })), numbers => {
      const ascending = [...numbers].sort((a, b) => a - b);
      if (ascending.length === 0) return;
      const back = lex(encodeNumberSet(ascending))
        .sequenceSet()
        .flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
      assert.deepEqual(back, ascending);
    }),
    runs,
  );
  t.pass('fuzzed');
});

t.test('productions', async t => {
  t.strictSame(lex('1,3:*,*').sequenceSet(), [
    { first: 1, last: 1 },
    { first: 3, last: star },
    { first: star, last: star },
  ]);
  for (const bad of ['0', '1:', ':2', '1,,2', '1:2:3', '99999999999', ',1'])
    t.throws(() => lex(bad).sequenceSet(), WireError, bad);
  t.equal(lex('"17-Jul-1996 02:44:25 -0700"').dateTime(), Date.UTC(1996, 6, 17, 9, 44, 25));
  t.equal(lex('" 1-Jan-2020 00:00:00 +0000"').dateTime(), Date.UTC(2020, 0, 1));
  for (const bad of [
    '"31-Feb-2020 00:00:00 +0000"',
    '"1-Jan-2020 00:00:00 +0000"',
    '"01-Foo-2020 00:00:00 +0000"',
    '"01-Jan-2020 25:00:00 +0000"',
  ])
    t.throws(() => lex(bad).dateTime(), WireError, bad);
  t.equal(lex('"1-Feb-1994"').date(), Date.UTC(1994, 1, 1));
  t.strictSame(lex('[1.2.MIME]').section(), { part: [1, 2], of: 'mime', fields: [] });
  t.throws(() => lex('[MIME]').section(), WireError);
  t.throws(() => lex('[1.HEADER.FIELDS ()]').section(), WireError);
  t.strictSame(lex('<0.100>').partial(), { offset: 0, count: 100 });
  t.throws(() => lex('<0.0>').partial(), WireError);
  t.throws(() => lex('4294967296').number(), WireError);
  t.equal(lex('"a\\"b\\\\"').string().toString(), 'a"b\\');
  t.throws(() => lex('"a\\b"').string(), WireError);
  t.equal(lex('Entw\xc3\xbcrfe').astring().toString('utf8'), 'Entwürfe');
  t.throws(() => lex(`${'('.repeat(60)}`).list(() => undefined), WireError);
});

t.test('modified UTF-7', async t => {
  t.equal(encodeModifiedUtf7('~peter/mail/台北/日本語'), '~peter/mail/&U,BTFw-/&ZeVnLIqe-');
  t.equal(encodeModifiedUtf7('A&B'), 'A&-B');
  t.equal(decodeModifiedUtf7('Entw&APw-rfe'), 'Entwürfe');
  for (const bad of ['&', '&Jjo', '&AGE-', 'ü', '&Jjo!', '&2AA-', 'a\tb', '&APw-&APw-'])
    t.equal(decodeModifiedUtf7(bad), undefined, bad);
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), name => {
      assert.equal(decodeModifiedUtf7(encodeModifiedUtf7(name)), /\p{Cs}/u.test(name) ? undefined : name);
    }),
    runs,
  );
  fc.assert(
    fc.property(latin1, text => {
      const name = decodeModifiedUtf7(text);
      if (name !== undefined) assert.equal(encodeModifiedUtf7(name), text);
    }),
    runs,
  );
});
