// Whatever the bytes are: no exception, nothing lost, offsets that fit, and the same result in any cut of the stream.

import t from 'tap';
import { formatAddress, parseMailbox, parsePath } from '../../core/mail/address.ts';
import { displayName, parseAddressList } from '../../core/mail/address-list.ts';
import { parseAuthResults } from '../../core/mail/auth-results.ts';
import { createTransferDecoder, decodeTransfer } from '../../core/mail/body.ts';
import { parseContentType, splitValue } from '../../core/mail/content-type.ts';
import { formatDate, parseDate } from '../../core/mail/date.ts';
import { decodeWords, encodeWord } from '../../core/mail/encoded-words.ts';
import { editHeaders, renderField } from '../../core/mail/header-edit.ts';
import { findHeaderEnd, parseHeaders } from '../../core/mail/headers.ts';
import { HeaderScan } from '../../core/mail/message.ts';
import { type MimePart, parseMime, parseMimeChunks, walkParts } from '../../core/mail/mime.ts';
import { parseReceived } from '../../core/mail/received.ts';
import { checkOffsets } from '../core/mail/check-offsets.ts';
import { fc } from '../harness/fuzz.ts';

const fragments = [
  '\r\n',
  '\n',
  '\r',
  '\r\n\r\n',
  ' ',
  '\t',
  ':',
  ';',
  '"',
  '--',
  '--a',
  '--a--',
  '--ab',
  '--ab--',
  '--a b',
  'Content-Type: multipart/mixed; boundary=a\r\n',
  'Content-Type: multipart/alternative; boundary="ab"\r\n',
  'Content-Type: multipart/digest; boundary="a b"\n',
  'Content-Type: message/rfc822\r\n',
  'Content-Type: text/plain\r\n',
  'Content-Transfer-Encoding: base64\r\n',
  'Content-Type: multipart/mixed\r\n',
  'Subject: x\r\n',
  ' folded\r\n',
  'text',
  '\xff',
  '\0',
];
const piece = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...fragments) },
  fc.string({ unit: 'binary', maxLength: 5 }),
);
const bytes = fc.array(piece, { maxLength: 60 }).map(parts => Buffer.from(parts.join(''), 'latin1'));

const shape = (root: MimePart): string =>
  JSON.stringify(
    [...walkParts(root)].map(part => ({
      ...part,
      parts: part.parts.length,
      message: !!part.message,
      headers: part.headers.raw.toString('latin1'),
    })),
  );

const cut = (whole: Buffer, sizes: readonly number[]): readonly Buffer[] => {
  const chunks: Buffer[] = [];
  let at = 0;
  for (let turn = 0; at < whole.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(whole.subarray(at, at + size));
    at += size;
  }
  return chunks;
};

t.test('MIME trees', async () => {
  const limits = fc.constantFrom(
    {},
    { maxParts: 3 },
    { maxDepth: 2 },
    { maxHeaderBytes: 30 },
    { maxTotalHeaderFields: 2 },
  );
  await fc.assert(
    fc.asyncProperty(
      bytes,
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 5 }),
      limits,
      async (message, sizes, limit) => {
        const root = await parseMime(message, limit);
        if (root.start !== 0 || root.end !== message.length) throw new Error('The tree does not span the message');
        const fault = checkOffsets(message, root);
        if (fault) throw new Error(fault);
        // Headers that were cut off by a limit are kept to different lengths.
        if (Object.keys(limit).some(name => name.includes('Header'))) return;
        const other = await parseMimeChunks(cut(message, sizes), limit);
        if (shape(other) !== shape(root)) throw new Error(`${shape(other)}\nis not\n${shape(root)}`);
      },
    ),
    { numRuns: 3000 },
  );
});

t.test('header sections', async () => {
  fc.assert(
    fc.property(bytes, fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 }), (message, sizes) => {
      const found = findHeaderEnd(message) ?? { end: message.length, bodyStart: message.length };
      const scan = new HeaderScan();
      for (const chunk of cut(message, sizes)) scan.push(chunk);
      const section = scan.section();
      if (section.end !== found.end || section.bodyStart !== found.bodyStart)
        throw new Error('The scan found another end');
      const list = parseHeaders(message.subarray(0, found.end));
      const fields = [...list];
      if (!Buffer.concat(fields.map(field => field.raw)).equals(list.raw)) throw new Error('Bytes were lost');
      for (const field of fields)
        if (/[\r\n]/.test(field.value.replace(/\r(?!\n)/g, ''))) throw new Error('A line end in a value');
      if (!editHeaders(list, []).equals(list.raw)) throw new Error('No edit changed bytes');
    }),
    { numRuns: 2000 },
  );
});

t.test('rendered fields are one field, and read back as they were', async () => {
  const word = fc.string({ unit: fc.constantFrom(...'abcXYZ019=?_-\u00fc\u65e5"<>@,;'), minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.array(word, { maxLength: 30 }), fc.string({ unit: 'binary' }), (words, junk) => {
      const value = words.join(' ');
      const bytesOf = renderField('Subject', value, { utf8: true });
      if (parseHeaders(bytesOf).get('subject')?.value !== value) throw new Error('utf8 differs');
      const ascii = renderField('Subject', value);
      const back = parseHeaders(ascii).get('subject')?.value ?? '';
      if (decodeWords(back) !== value) throw new Error(`'${decodeWords(back)}' is not '${value}'`);
      for (const line of ascii.toString('latin1').split('\r\n'))
        if (line.length > 998 || /[^\x20-\x7e\t]/.test(line)) throw new Error(line);
      const odd = parseHeaders(Buffer.concat([renderField('X', junk), Buffer.from('Y: z\r\n')]));
      if (odd.count !== 2 || odd.defects.length > 0) throw new Error('Junk broke out of its field');
      if (decodeWords(encodeWord(value)) !== value) throw new Error('Encoded words differ');
    }),
    { numRuns: 2000 },
  );
});

t.test('addresses', async () => {
  const text = fc.string({ unit: fc.constantFrom(...'ab.@"\\ <>[]:,;()1-_\u00fc\u3002%\r\n\0'), maxLength: 30 });
  fc.assert(
    fc.property(
      fc.oneof(
        text,
        text.map(local => `"${local}"@a.b`),
        text.map(domain => `a@${domain}`),
      ),
      value => {
        const parsed = parseMailbox(value, { smtputf8: true });
        if (parsed.kind === 'address') {
          const again = parseMailbox(parsed.address.text, { smtputf8: true });
          if (
            again.kind !== 'address' ||
            again.address.text !== parsed.address.text ||
            again.address.local !== parsed.address.local
          )
            throw new Error(`'${parsed.address.text}' is not canonical`);
          if (/[\r\n\0]/.test(parsed.address.text)) throw new Error('A control character got through');
          if (formatAddress(parsed.address.local, parsed.address.domain) !== parsed.address.text)
            throw new Error('Formats differ');
        }
        parsePath(`<${value}>`, { smtputf8: true });
        for (const address of parseAddressList(value)) displayName(address);
      },
    ),
    { numRuns: 5000 },
  );
});

t.test('values of all sorts', async () => {
  const any = fc.oneof(
    fc.string({ unit: fc.constantFrom(...'ab1=?*\'"%;:/()\\ \t,.<>@-+_qQbB'), maxLength: 60 }),
    fc.string({ unit: 'binary', maxLength: 60 }),
  );
  fc.assert(
    fc.property(any, value => {
      decodeWords(value);
      splitValue(value);
      parseContentType(`a/b;${value}`);
      parseAuthResults(value);
      parseReceived(value);
      parseDate(value);
    }),
    { numRuns: 5000 },
  );
  fc.assert(
    fc.property(fc.integer({ min: -2e12, max: 4e12 }), fc.integer({ min: -720, max: 840 }), (seconds, zone) => {
      const ms = Math.floor(seconds / 1000) * 1000;
      if (new Date(ms).getUTCFullYear() < 1900) return;
      if (parseDate(formatDate(ms, zone))?.ms !== ms) throw new Error(formatDate(ms, zone));
    }),
  );
});

t.test('decoders in pieces', async () => {
  const body = fc.array(
    fc.oneof(fc.constantFrom('=', '=\r\n', '\r\n', ' ', '\t', '=3D', '=3', 'QUJD', '=='), fc.string({ maxLength: 4 })),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(
      body,
      fc.constantFrom('base64', 'quoted-printable'),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
      (parts, encoding, sizes) => {
        const whole = Buffer.from(parts.join(''));
        const decoder = createTransferDecoder(encoding);
        const pieces = cut(whole, sizes).map(chunk => decoder.push(chunk));
        if (!Buffer.concat([...pieces, decoder.end()]).equals(decodeTransfer(whole, encoding)))
          throw new Error('Pieces differ');
      },
    ),
    { numRuns: 3000 },
  );
});

// Each of these takes minutes where the work is quadratic, and well under a second where it is not: the time limit of
// the test is the judge.
t.test('hostile mail costs no more than its size', async t => {
  const multipart = (boundary: string): string => `Content-Type: multipart/mixed; boundary="${boundary}"\r\n\r\n`;
  const nest = Array.from({ length: 50_000 }, (_, at) => `${multipart(`b${at}`)}--b${at}\r\n`).join('');
  const boundaries = Array.from({ length: 100 }, (_, at) => 'x'.repeat(at + 1));
  const prefixes = boundaries.map(boundary => `${multipart(boundary)}--${boundary}\r\n`).join('');
  const hostile: Readonly<Record<string, string>> = {
    'nested multiparts': nest,
    'tiny parts': `${multipart('b')}${'--b\r\n'.repeat(1_000_000)}`,
    'nested messages': 'Content-Type: message/rfc822\r\n\r\n'.repeat(100_000),
    'lines that begin like every boundary': `${prefixes}${`--${'x'.repeat(99)}y\r\n`.repeat(100_000)}`,
    'dashes only': `${multipart('-'.repeat(70))}${'-'.repeat(10_000_000)}`,
    'dashed lines': `${multipart('-'.repeat(70))}${`${'-'.repeat(60)}\r\n`.repeat(100_000)}`,
    'padding without end': `${multipart('b')}${`--b${' '.repeat(1000)}x\r\n`.repeat(10_000)}`,
    'a header without end': 'X: y\r\n'.repeat(2_000_000),
    'a field without end': `X: ${' y\r\n'.repeat(2_000_000)}`,
    'one line': 'x'.repeat(20_000_000),
    'empty lines': `a: b\r\n${'\r\n'.repeat(5_000_000)}`,
    'headers in every part': `${multipart('b')}${`--b\r\n${'a:\r\n'.repeat(100)}\r\n`.repeat(20_000)}`,
  };
  for (const [name, text] of Object.entries(hostile)) {
    const message = Buffer.from(text, 'latin1');
    const root = await parseMime(message);
    const chunks = await parseMimeChunks(cut(message, [65_536]));
    t.equal(chunks.end, message.length, name);
    t.equal([...walkParts(chunks)].length, [...walkParts(root)].length);
  }
});

t.test('hostile values cost no more than their size', async t => {
  const size = 60_000;
  const values = [
    '('.repeat(size),
    '"'.repeat(size),
    '\\'.repeat(size),
    '"\\'.repeat(size),
    '<'.repeat(size),
    '<@'.repeat(size),
    '@,'.repeat(size),
    ','.repeat(size),
    ':'.repeat(size),
    ';'.repeat(size),
    'a '.repeat(size),
    'a . '.repeat(size),
    '=?'.repeat(size),
    '=?a?q?'.repeat(size),
    '=?utf-8?q?a?= '.repeat(20_000),
    '['.repeat(size),
    '(a)'.repeat(size),
    'a=b;'.repeat(size),
    "a*0*=''%".repeat(size),
    ' '.repeat(size),
    '\r\n '.repeat(size),
    '(\\'.repeat(size),
    'x(y'.repeat(size),
    '<<@a,'.repeat(size),
    '"a" '.repeat(size),
    '1 Jan '.repeat(size),
    'from ('.repeat(size),
  ];
  for (const value of values) {
    const list = parseHeaders(Buffer.from(`X: ${value}\r\n`), { maxHeaderBytes: 10_000_000 });
    const read = list.get('x')?.value ?? '';
    for (const text of [value, read]) {
      parseAddressList(text);
      decodeWords(text);
      splitValue(text);
      parseContentType(`a/b; ${text}`);
      parseAuthResults(text);
      parseReceived(text);
      parseDate(text);
      parseMailbox(text, { smtputf8: true });
      parsePath(`<${text}>`);
      renderField('X', text);
    }
  }
  t.pass('done');
});
