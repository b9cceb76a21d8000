// Broken messages from a seed: what spammers, bad software and attackers send, and what nobody does. Each one is built from
// pieces that are wrong in themselves and then damaged as bytes.
import { deflateRawSync, gzipSync } from 'node:zlib';
import { type Random, random } from './random.ts';

const bytesOf = (r: Random, count: number): string =>
  Array.from({ length: count }, () => String.fromCharCode(r.int(256))).join('');

const addresses = [
  'a@b.test',
  '<<a@b.test>>',
  '"unclosed <a@b.test>',
  'group: a@b.test, c@d.test',
  'group:;',
  '(((((((comment a@b.test',
  `${'('.repeat(2_000)}x${')'.repeat(1_999)} a@b.test`,
  '@',
  '',
  ',,,,;;;,',
  'a@[127.0.0.1]',
  'a@[IPv6:::1',
  '=?utf-8?B?????=@x.test',
  '=?utf-8?Q?=00=0A=0Dx?= <a@b.test>',
  'ä@ö.test',
  `${'a@b.test,'.repeat(3_000)}`,
  `${'x'.repeat(5_000)}@b.test`,
];
const fieldNames = [
  'From',
  'To',
  'Cc',
  'Reply-To',
  'Sender',
  'Subject',
  'Date',
  'Message-ID',
  'Received',
  'Return-Path',
  'DKIM-Signature',
  'ARC-Seal',
  'ARC-Message-Signature',
  'ARC-Authentication-Results',
  'Authentication-Results',
  'MIME-Version',
  'Content-Type',
  'Content-Disposition',
  'Content-Transfer-Encoding',
  'List-Unsubscribe',
  'X-Spam-Status',
  'Bcc',
  '',
  'Bad Name',
  'From ',
  'X\0',
  'Ünï',
];
const values = [
  '',
  ' ',
  '\t',
  'i=1; a=rsa-sha256; d=b.test; s=s; h=from:from:from; bh=; b=',
  'v=1; a=rsa-sha256; c=relaxed/relaxed; d=b.test; s=s; l=99999999999; h=:; bh=AAAA; b=!!!!',
  'v=1; '.repeat(1_000),
  'i=51; a=rsa-sha256; cv=pass; d=b.test; s=s; b=AAAA',
  'mx.example.org; dkim=pass header.d=b.test; spf=pass',
  'mx.example.org; (((',
  'from [127.0.0.1] by x with y id z; Fri, 31 Feb 2026 25:61:61 +9999',
  'Thu, 01 Jan 1970 00:00:00 +0000',
  'Sun, 99 Foo 99999 99:99:99 ZZZZ',
  '<@>',
  '<a@b',
  '=?',
  `=?utf-8?B?${'A'.repeat(3_000)}?=`,
  '=?utf-7?Q?+AGE-?= =?x-unknown?B?//8=?=',
  '=?iso-2022-jp?B?GyRC?='.repeat(200),
  '1.0',
  '\r\n folded\r\n\t\r\n again',
  `http://[::1/ http://%00%ff@test/ http://1.2.3.4:99999999/?${'%41'.repeat(500)}`,
];
const types = [
  'multipart/mixed',
  'multipart/mixed; boundary=',
  'multipart/mixed; boundary="',
  'multipart/alternative; boundary="=_b"',
  'multipart/mixed; boundary=b',
  'multipart/mixed; boundary=b; boundary=c',
  `multipart/mixed; boundary="${'b'.repeat(300)}"`,
  'multipart/signed; protocol="application/pgp-signature"; boundary=b',
  'multipart/encrypted; boundary=b',
  'multipart/report; report-type=delivery-status; boundary=b',
  'message/rfc822',
  'message/partial; number=1; total=0; id=""',
  'message/external-body; access-type=local-file; name="/etc/passwd"',
  'text/html; charset=utf-7',
  'text/plain; charset=x-none; format=flowed',
  'text/calendar; method=',
  'application/zip; name="a.zip"',
  "application/octet-stream; name*0*=utf-8''%ff%00; name*2=x; name*1=y",
  'application/x-msdownload; name="x.pdf.exe\u202e"',
  'application/ms-tnef; name=winmail.dat',
  '/',
  'text',
  ';;;;;;;',
  `text/plain; ${'a=b; '.repeat(2_000)}`,
];
const encodings = ['7bit', '8bit', 'binary', 'base64', 'quoted-printable', 'x-uuencode', 'BASE64 (x)', '', 'nonsense'];

const bombs = [10, 100_000, 3_000_000].map(size => gzipSync(Buffer.alloc(size)));

/** An archive or a document that lies about itself. */
function attachment(r: Random): Buffer {
  const content = Buffer.from(bytesOf(r, r.int(200)), 'latin1');
  const name = Buffer.from(r.pick(['a.exe', '../../x', 'a'.repeat(300), '\0', 'n.zip', 'x.docm']));
  const packed = deflateRawSync(content);
  const zip = Buffer.alloc(30);
  zip.writeUInt32LE(0x04034b50, 0);
  zip.writeUInt16LE(r.pick([0, 8, 8, 99]), 8);
  zip.writeUInt16LE(r.pick([0, 1, 8]), 6);
  zip.writeUInt32LE(r.pick([packed.length, 0, 0xffffffff]), 18);
  zip.writeUInt32LE(r.pick([content.length, 0xffffffff]), 22);
  zip.writeUInt16LE(name.length, 26);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(r.int(3), 10);
  end.writeUInt32LE(r.pick([0, 30, 0xffffffff]), 16);
  return r.pick([
    () => Buffer.concat([zip, name, packed, end]),
    () => Buffer.concat([zip, name, packed]),
    () => r.pick(bombs),
    () => gzipSync(content).subarray(0, 12),
    () => Buffer.concat([Buffer.from('Rar!\x1a\x07\x01\x00', 'latin1'), content]),
    () => Buffer.concat([Buffer.from('7z\xbc\xaf\x27\x1c', 'latin1'), content]),
    () => Buffer.concat([Buffer.alloc(257), Buffer.from('ustar'), content]),
    () => Buffer.concat([Buffer.from('\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1', 'latin1'), content]),
    () => Buffer.concat([Buffer.from('MZ'), content]),
    () => Buffer.concat([Buffer.from('%PDF-1.7\n'), content]),
    () => content,
  ])();
}

function encoded(r: Random, bytes: Buffer): string {
  const text = r.pick([
    () => bytes.toString('base64'),
    () => bytes.toString('base64').replace(/(.{76})/g, '$1\r\n'),
    () => bytes.toString('base64').slice(0, -1 - r.int(3)),
    () => `${bytes.toString('base64')}====\x80\xff*`,
    () => bytes.toString('latin1'),
    () => bytes.toString('latin1').replace(/[^\x21-\x7e]/g, c => `=${c.charCodeAt(0).toString(16)}`),
    () => '=\r\n=3D=\r\n==\r\n=Z',
    () => `begin 644 x\r\n${bytes.toString('latin1')}\r\n`,
    () => `<a href="http://test/&#x2F;${'<b '.repeat(r.int(400))}`,
    () => 'x'.repeat(r.pick([998, 999, 5_000, 60_000])),
  ])();
  return text;
}

function part(r: Random, depth: number): string {
  const fields: string[] = [];
  const type = r.pick(types);
  const add = (name: string, value: string): void => void fields.push(`${name}: ${value}`);
  if (r.chance(0.9)) add('Content-Type', type);
  if (r.chance(0.1)) add('Content-Type', r.pick(types));
  if (r.chance(0.6)) add('Content-Transfer-Encoding', r.pick(encodings));
  if (r.chance(0.4))
    add(
      'Content-Disposition',
      `attachment; filename="${r.pick(['a.exe', 'b.zip', 'c', '=?utf-8?B?LmV4ZQ==?=', '..'])}"`,
    );
  if (r.chance(0.2)) add(r.pick(fieldNames), r.pick(values));
  const head = r.chance(0.95) ? `${fields.join('\r\n')}\r\n\r\n` : fields.join('\r\n');
  if (type.startsWith('message/') && depth > 0) return head + part(r, depth - 1);
  const boundary = /boundary="?([^";]+)/.exec(type)?.[1];
  if (boundary === undefined || depth === 0) return head + encoded(r, attachment(r));
  const parts = Array.from({ length: r.int(4) }, () => part(r, depth - 1));
  const between = (): string =>
    r.pick([`\r\n--${boundary}\r\n`, `\r\n--${boundary}  \r\n`, `\n--${boundary}\n`, `--${boundary}x\r\n`]);
  const close = r.pick([`\r\n--${boundary}--\r\n`, '', `\r\n--${boundary}-\r\n`]);
  return head + parts.map(text => between() + text).join('') + close;
}

/** Nesting beyond every limit. */
function deep(r: Random): string {
  const levels = r.pick([50, 120, 400]);
  return r.chance(0.5)
    ? 'Content-Type: message/rfc822\r\n\r\n'.repeat(levels)
    : Array.from(
        { length: levels },
        (_, at) => `Content-Type: multipart/mixed; boundary=b${at}\r\n\r\n--b${at}\r\n`,
      ).join('');
}

const many = (r: Random): string =>
  `Content-Type: multipart/mixed; boundary=b\r\n\r\n${'--b\r\n\r\nx\r\n'.repeat(r.pick([500, 3_000]))}`;

function damage(r: Random, bytes: Buffer): Buffer {
  const at = r.int(bytes.length + 1);
  const length = r.int(Math.min(200, bytes.length - at + 1));
  return r.pick([
    () => bytes.subarray(0, at),
    () => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]),
    () => Buffer.concat([bytes.subarray(0, at), Buffer.from(bytesOf(r, length), 'latin1'), bytes.subarray(at)]),
    () => Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]),
    () => Buffer.from(bytes.toString('latin1').replace(/\r\n/g, r.pick(['\n', '\r', '\n\r', '\r\r\n'])), 'latin1'),
    () => {
      const copy = Buffer.from(bytes);
      for (let n = r.int(20); n > 0 && copy.length > 0; n--) copy[r.int(copy.length)] = r.int(256);
      return copy;
    },
  ])();
}

/** The message of that number, always the same one. */
export function malformedMessage(seed: number, index: number): Buffer {
  const r = random(seed * 1_000_003 + index);
  const head: string[] = [];
  for (let n = r.int(12); n > 0; n--)
    head.push(
      `${r.pick(fieldNames)}${r.pick([': ', ':', ' : ', ''])}${r.chance(0.5) ? r.pick(addresses) : r.pick(values)}`,
    );
  if (r.chance(0.05)) head.unshift(' folded before any field');
  if (r.chance(0.03)) head.push(`X-Long: ${'y'.repeat(r.pick([2_000, 300_000]))}`);
  if (r.chance(0.03)) for (let n = 0; n < 5_000; n++) head.push(`X-${n}: z`);
  const body = r.chance(0.03) ? deep(r) : r.chance(0.02) ? many(r) : part(r, 1 + r.int(4));
  let bytes = Buffer.from(head.length > 0 ? `${head.join('\r\n')}\r\n${body}` : body, 'latin1');
  for (let n = r.pick([0, 0, 1, 2, 5]); n > 0; n--) bytes = Buffer.from(damage(r, bytes));
  return bytes;
}
