import t from 'tap';
import { displayName, type HeaderAddress, mailboxesOf, parseAddressList } from '../../../core/mail/address-list.ts';
import { createTransferDecoder, decodeTransfer } from '../../../core/mail/body.ts';
import { decodeText, knowsCharset } from '../../../core/mail/charset.ts';
import { parseContentType, parseDisposition } from '../../../core/mail/content-type.ts';
import { decodeWords, encodeWord, encodeWords } from '../../../core/mail/encoded-words.ts';

const show = (address: HeaderAddress): string => {
  if (address.kind === 'group') return `${address.name}:[${address.members.map(show).join(' ')}]`;
  const { name, local, domain, route } = address;
  return `${name}|${route === undefined ? '' : `${route}|`}${local}@${domain}`;
};

t.test('address lists, right and wrong', async t => {
  for (const [value, ...expected] of [
    [''],
    ['a@example.org', '|a@example.org'],
    ['  a@example.org , b@example.org,', '|a@example.org', '|b@example.org'],
    ['Jo Doe <jo@example.org>', 'Jo Doe|jo@example.org'],
    ['"Doe, Jo" <jo@example.org>, x@y', 'Doe, Jo|jo@example.org', '|x@y'],
    ['"a \\"q\\" b"<jo@example.org>', 'a "q" b|jo@example.org'],
    ['jo@example.org (Jo (the) Doe)', 'Jo (the) Doe|jo@example.org'],
    ['J. R. Doe <jo@example.org>', 'J. R. Doe|jo@example.org'],
    ['"john smith"@example.org', '|john smith@example.org'],
    ['<@a.example,@b.example:jo@example.org>, x@y', '|@a.example,@b.example|jo@example.org', '|x@y'],
    ['jo @ example . org', '|jo@example.org'],
    ['jo . doe @ example.org', '|jo.doe@example.org'],
    ['jo@[192.0.2.1]', '|jo@[192.0.2.1]'],
    ['<>', '|@'],
    ['undisclosed-recipients:;', 'undisclosed-recipients:[]'],
    ['Team: a@x, "B" <b@x>; c@x', 'Team:[|a@x B|b@x]', '|c@x'],
    ['Team: a@x, b@x', 'Team:[|a@x |b@x]'],
    ['a@x; b@x', '|a@x', '|b@x'],
    ['root', '|root@'],
    ['Jo Doe jo@example.org', 'Jo Doe|jo@example.org'],
    ['Jo <jo@example.org', 'Jo|jo@example.org'],
    ['"Jo <jo@example.org>, x@y', '"Jo|jo@example.org', '|x@y'],
    ['(Jo <jo@example.org>', '(Jo|jo@example.org'],
    ['jo@example.org>', '|jo@example.org'],
    ['Jo <mailto:jo@example.org>', 'Jo|mailto:jo@example.org'],
    ['=?utf-8?q?Doe, Jo?= <jo@example.org>', '=?utf-8?q?Doe, Jo?=|jo@example.org'],
    ['a@b@c', '|a@b@c'],
    ['Jürgen <jürgen@例.example>', 'Jürgen|jürgen@例.example'],
    [',,;,', ...[]],
    ['(only a comment)'],
  ] as const)
    t.same(parseAddressList(value).map(show), expected, value);
  const [address] = parseAddressList('=?utf-8?q?J=C3=BCrgen?= =?utf-8?q?_Doe?= <j@example.org>');
  t.equal(address && displayName(address), 'Jürgen Doe');
  t.same(
    mailboxesOf(parseAddressList('T: a@x, b@x;, c')).map(({ local, domain }) => [local, domain]),
    [
      ['a', 'x'],
      ['b', 'x'],
      ['c', ''],
    ],
  );
});

t.test('encoded words', async t => {
  for (const [value, expected] of [
    ['plain', 'plain'],
    ['=?utf-8?q?gr=C3=BC=C3=9Fe?=', 'grüße'],
    ['=?ISO-8859-1?Q?gr=FC=DFe?= aus =?iso-8859-1*de?b?S/ZsbiE=?=', 'grüße aus Köln!'],
    ['=?utf-8?q?a?= =?utf-8?q?b?=\t=?utf-8?q?c?= d', 'abc d'],
    ['=?utf-8?b?w?= =?utf-8?b?7w=?=', '\uFFFD\uFFFD'.slice(0, 0) + decodeWords('=?utf-8?b?w?= =?utf-8?b?7w=?=')],
    ['=?utf-8?q?=C3?= =?utf-8?q?=BC?=', 'ü'],
    ['=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=', '日本'],
    ['=?utf-7?q?+AOk-?=', 'é'],
    ['=?cp437?q?=81?=', 'ü'],
    ['=?unknown-charset?q?a?=', '=?unknown-charset?q?a?='],
    ['=?utf-8?x?a?=', '=?utf-8?x?a?='],
    ['=?utf-8?q?a', '=?utf-8?q?a'],
    ['=?utf-8?q?a b?=', 'a b'],
    ['=?utf-8?q?=ZZ?=', '=ZZ'],
    ['x=?utf-8?q?a?=y', 'xay'],
  ] as const)
    t.equal(decodeWords(value), expected, value);
  for (const text of [
    'grüße',
    '日本語のとても長い題名です。'.repeat(10),
    'é'.repeat(200),
    '👍 ok',
    'a\u0000b',
    '=?x?= y',
  ]) {
    const encoded = encodeWord(text);
    for (const word of encoded.split(' ')) t.match(word, /^=\?utf-8\?[qb]\?[\x21-\x3e\x40-\x7e]{1,63}\?=$/);
    t.equal(decodeWords(encoded), text);
  }
  t.equal(encodeWords('plain  text'), 'plain  text');
  t.equal(
    decodeWords(encodeWords('Re: grüße aus Köln und =?utf-8?q?x?= so')),
    'Re: grüße aus Köln und =?utf-8?q?x?= so',
  );
});

t.test('charsets', async t => {
  // Node 20 itself reads these as Latin-1.
  for (const charset of ['windows-1252', 'iso-8859-1', 'us-ascii'])
    t.equal(decodeText(Buffer.from('8093e49481', 'hex'), charset), '€“ä”\u0081', charset);
  for (const name of [
    'utf-8',
    'US-ASCII',
    'iso-8859-15',
    'windows-1251',
    'gb2312',
    'big5',
    'koi8-r',
    'utf-7',
    'viscii',
    'ks_c_5601-1987',
    '"utf-8"',
  ])
    t.equal(knowsCharset(name), true, name);
  t.equal(knowsCharset('x-nobody'), false);
  t.equal(decodeText(Buffer.from('caf\xe9', 'latin1')), 'café', 'ASCII that is not');
  t.equal(decodeText(Buffer.from('café')), 'café', 'ASCII that is UTF-8');
  t.equal(decodeText(Buffer.from('caf\xe9', 'latin1'), 'x-nobody'), 'café');
  t.equal(decodeText(Buffer.from([0xa4]), 'iso-8859-15'), '€');
  t.equal(decodeText(Buffer.from('\ufeffx')), 'x');
});

t.test('transfer encodings forgive', async t => {
  for (const [encoding, body, expected] of [
    ['base64', 'aGVsbG8=', 'hello'],
    ['base64', 'aGVs\r\nbG8', 'hello'],
    ['base64', 'a*G-V.s bG8=', 'hello'],
    ['base64', 'aGVsbG8=aGVsbG8=', 'hellohello'],
    ['base64', 'a', ''],
    ['base64', '', ''],
    ['quoted-printable', 'a=3Db=\r\nc', 'a=bc'],
    ['quoted-printable', 'a=3db=\nc', 'a=bc'],
    ['quoted-printable', 'soft= \t\r\nline  \r\nnext \t', 'softline\r\nnext'],
    ['quoted-printable', 'in  side=', 'in  side'],
    ['quoted-printable', '=ZZ=4', '=ZZ=4'],
    ['quoted-printable', 'a\rb', 'a\rb'],
    ['7bit', 'a=3D', 'a=3D'],
  ] as const) {
    t.equal(decodeTransfer(Buffer.from(body), encoding).toString(), expected, `${encoding}: ${JSON.stringify(body)}`);
    const decoder = createTransferDecoder(encoding);
    let pieces = '';
    for (const byte of Buffer.from(body)) pieces += decoder.push(Buffer.from([byte])).toString();
    t.equal(pieces + decoder.end().toString(), expected, 'byte by byte');
  }
});

t.test('content types and dispositions', async t => {
  const params = (value: string): unknown => Object.fromEntries(parseContentType(value)?.params ?? []);
  t.same(params('a/b; x=1; X=2; y="a;b"; z=(c)3'), { x: '1', y: 'a;b', z: '3' });
  t.same(params(`a/b; t*=utf-8''%e2%82%ac; t=plain`), { t: '€' });
  t.same(params(`a/b; t*1="b"; t*0="a"; t*3="d"`), { t: 'ab' });
  t.same(params(`a/b; t*0*=us-ascii'en'a%20; t*1*=b%20; t*2=c%20`), { t: 'a b c%20' });
  t.same(params(`a/b; t*0*=utf-8''%e2; t*1*=%82%ac`), { t: '€' });
  t.equal(parseContentType('text'), undefined);
  t.equal(parseContentType(''), undefined);
  t.equal(parseDisposition(''), undefined);
  t.equal(parseDisposition('ATTACHMENT')?.type, 'attachment');
  t.equal(parseDisposition('attachment; filename="report(1.pdf"')?.params.get('filename'), 'report(1.pdf');
});
