// RFC 6152 §3: what has 8-bit bytes comes out in ASCII, and decoded it is what it was, byte for byte.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { decodeBody, decodeTransfer } from '../../../core/mail/body.ts';
import { createTransferEncoder, encodeTransfer } from '../../../core/mail/body-encode.ts';
import { type MimePart, parseMime } from '../../../core/mail/mime.ts';
import { bufferRope, concatRopes, fileRope, type Rope } from '../../../core/mail/rope.ts';
import { toSevenBit } from '../../../core/mail/seven-bit.ts';
import { corpusMessages } from '../../harness/corpus.ts';
import { malformedMessage } from '../../harness/malformed.ts';
import { type Random, random } from '../../harness/random.ts';

const bytesOf = (text: string): Buffer => Buffer.from(text.replace(/\r?\n/g, '\r\n'), 'latin1');
const rope = (text: string): Rope => bufferRope(bytesOf(text));

async function converted(form: Rope, binary = false): Promise<Buffer | string> {
  const made = await toSevenBit(form, binary);
  if (made.kind === 'impossible') return made.why;
  const chunks: Buffer[] = [];
  for await (const chunk of made.chunks()) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  if (bytes.length !== made.size) throw new Error(`${bytes.length} bytes, ${made.size} were announced`);
  return bytes;
}

/** What a reader sees: every part that is no container, with its type and its decoded bytes. */
async function leaves(form: Rope, part: MimePart): Promise<readonly string[]> {
  const { type, subtype, params } = part.contentType;
  const name = `${part.section} ${type}/${subtype} ${JSON.stringify([...params])}`;
  const global = type === 'message' && subtype.startsWith('global');
  const inside = global ? [] : [...(part.message ? [part.message] : []), ...part.parts];
  if (inside.length === 0) return [`${name}: ${(await decodeBody(form, part)).toString('latin1')}`];
  return [name, ...(await Promise.all(inside.map(child => leaves(form, child)))).flat()];
}
const seen = async (form: Rope): Promise<readonly string[]> => leaves(form, await parseMime(form));

/** Undefined where all is well. */
async function fault(form: Rope, binary = false): Promise<string | undefined> {
  const bytes = await converted(form, binary);
  if (typeof bytes === 'string') return undefined;
  if (bytes.some(byte => byte > 0x7f)) return 'not ASCII';
  const [before, after] = [await seen(form), await seen(bufferRope(bytes))];
  const at = before.findIndex((leaf, index) => leaf !== after[index]);
  if (at >= 0) return `${before[at]?.slice(0, 300)} became ${after[at]?.slice(0, 300)}`;
  return before.length === after.length ? undefined : `${before.length} parts became ${after.length}`;
}

const mixed = `Subject: x
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_outer"
Content-Transfer-Encoding: 8bit

Pr\xe9ambule
--=_outer
Content-Type: text/plain; charset=iso-8859-1
X-Kept:  as it is
Content-Transfer-Encoding: 8bit

Gr\xfc\xdfe =
-- 
--not a boundary \xe4 and a line that is much longer than seventy-six characters, so it has to be broken
\tend \t
--=_outer
Content-Type: application/octet-stream
Content-Transfer-Encoding: binary

\x80\x81\xff
--=_outer
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<p>\xc3\xa4</p>
--=_outer
Content-Type: text/plain
Content-Transfer-Encoding: base64

YWJj
--=_outer--
\xe9pilogue
`;

t.test('parts, containers, a message within the message, what stands around the parts', async t => {
  const out = await converted(rope(mixed));
  t.equal(
    out.toString('latin1'),
    bytesOf(`Subject: x
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_outer"
Content-Transfer-Encoding: 7bit

Pr*ambule
--=_outer
Content-Type: text/plain; charset=iso-8859-1
X-Kept:  as it is
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe =3D
=2D-=20
=2D-not a boundary =E4 and a line that is much longer than seventy-six char=
acters, so it has to be broken
\tend =09
--=_outer
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

gIH/
--=_outer
Content-Type: message/rfc822
Content-Transfer-Encoding: 7bit

Subject: inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>=C3=A4</p>
--=_outer
Content-Type: text/plain
Content-Transfer-Encoding: base64

YWJj
--=_outer--
*pilogue
`).toString('latin1'),
  );
  t.equal(await fault(rope(mixed)), undefined);
});

t.test('a message that is one part, and one that never heard of MIME', async t => {
  t.equal(
    (await converted(rope('Subject: x\n\ncaf\xe9\n'))).toString(),
    'Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\ncaf=E9\r\n',
  );
  const image = 'MIME-Version: 1.0\nContent-Type: image/png\nContent-Transfer-Encoding: 8BIT (x)\n\n\x89PNG\n';
  t.equal(
    (await converted(rope(image))).toString(),
    'MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0K\r\n',
  );
  for (const text of ['a: b\n\ncaf\xe9', 'a: b\nContent-Type: image/x\n\n\xff', '\n\xe9', 'a: b\n\n\xe9 '])
    t.equal(await fault(rope(text)), undefined, JSON.stringify(text));
});

t.test('what was encoded badly keeps its encoding and what it means', async t => {
  const printable =
    'Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\na=3D\xe9=\nb=0A=\nc=2D-\n=2D-x\n';
  const out = await converted(rope(`MIME-Version: 1.0\n${printable}`));
  t.match(out.toString(), /\r\n\r\na=3D=E9b=0Ac--\r\n=2D-x\r\n$/);
  t.equal(await fault(rope(printable)), undefined);
  t.equal(await fault(rope('Content-Transfer-Encoding: base64\n\nYW\xe9Jj\nZGVm\n')), undefined);
  t.equal(await fault(rope('Content-Transfer-Encoding: 8bits\n\n\xe9\n')), undefined, 'a name that nobody gave');
});

t.test('new lines never look like a boundary', async t => {
  const filler = 'x'.repeat(74);
  const text = `Content-Type: multipart/mixed; boundary=b

--b

\xe9
${filler}--b--
${filler}x--b
--b--
--\xe9b
`;
  t.equal(await fault(rope(text)), undefined);
  t.match((await converted(rope(text))).toString(), /x=\r\n=2D-b\r\n/);
  const star = 'Content-Type: multipart/mixed; boundary="a*"\n\n--a\xe9\n--a*\n\nx\n--a*--\n';
  t.equal(await converted(rope(star)), 'a boundary could not be told from what stands around it');
});

t.test('what cannot be done without damage is not done', async t => {
  const multipart = (type: string, part: string): string =>
    `MIME-Version: 1.0\nContent-Type: multipart/${type}; boundary=b\n\n--b\n${part}\n--b\nContent-Type: text/plain\n\nx\n--b--\n`;
  const cases = [
    ['Subject: \xe9\n\nx\n', /header/],
    [multipart('mixed', 'Content-Disposition: attachment; filename="\xe9"\n\nx'), /header/],
    [multipart('mixed', 'Content-Type: message/rfc822\n\nSubject: \xe9\n\nx'), /header/],
    [multipart('signed', 'Content-Type: text/plain\n\n\xe9'), /signature/],
    [multipart('signed', multipart('mixed', '\n\xe9').replaceAll('b\n', 'c\n').replace('--b--', '--c--')), /signature/],
    [multipart('mixed', 'Content-Type: message/partial\n\n\xe9'), /message\/partial cannot/],
    [multipart('mixed', 'Content-Type: message/delivery-status\n\n\xe9'), /delivery-status cannot/],
    [multipart('mixed', 'Content-Type: multipart/mixed\n\n\xe9'), /multipart\/mixed cannot/],
    [multipart('mixed', 'Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n\xe9'), /ambiguous/],
    [multipart('mixed', 'Content-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: base64\n\n\xe9'), /ambiguous/],
    [multipart('mixed', 'Content-Transfer-Encoding: x-uue\n\n\xe9'), /unknown encoding x-uue/],
  ] as const;
  for (const [text, why] of cases) t.match(await converted(rope(text)), why, JSON.stringify(text.slice(0, 120)));
});

t.test('signatures that cover nothing 8-bit, and opaque ones, are no obstacle', async t => {
  const signed = `Content-Type: multipart/mixed; boundary=a
Content-Transfer-Encoding: 8bit

--a
Content-Type: multipart/signed; boundary=b
Content-Transfer-Encoding: 8bit

--b
Content-Type: text/plain
Content-Transfer-Encoding: 8bit

7-bit, whatever it says
--b
Content-Type: application/pgp-signature

x
--b--
--a
Content-Type: application/pkcs7-mime
Content-Transfer-Encoding: binary

\x30\x82
--a
Content-Type: message/global

Subject: \xc3\xa4

x
--a--
`;
  t.equal(await fault(rope(signed)), undefined);
  const out = (await converted(rope(signed))).toString();
  t.match(out, /Content-Type: text\/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n7-bit/, 'covered: not touched');
  t.match(out, /multipart\/signed; boundary=b\r\nContent-Transfer-Encoding: 7bit/, 'its own label is not covered');
  t.match(out, /message\/global\r\nContent-Transfer-Encoding: base64/, 'RFC 6532 §3.7');
});

t.test('BINARYMIME: parts that say so are encoded, with every line end they have', async t => {
  const binary = Buffer.from(
    'MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\na\nb\rc\0\r\n',
  );
  t.match((await converted(bufferRope(binary), true)).toString(), /quoted-printable\r\n\r\na=0Ab=0Dc=00\r\n$/);
  t.equal(await fault(bufferRope(binary), true), undefined);
  const signed = 'Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Transfer-Encoding: binary\n\nx\n--b--\n';
  t.match(await converted(rope(signed), true), /signature/);
  t.equal(await fault(rope(signed)), undefined);
});

const letters = ['a', '=', '-', '--', ' ', '\t', '\r\n', '.', 'From ', '\xe9', '\xff', 'long '.repeat(20)] as const;
const anything = (r: Random, count: number): Buffer =>
  Buffer.from(Array.from({ length: r.int(count) }, () => r.pick(letters)).join(''), 'latin1');

t.test('encoders give the same in pieces as at once, decoded what was, in lines of at most 76', async t => {
  const r = random(6152);
  for (let round = 0; round < 400; round++) {
    const bytes = round % 4 === 0 ? Buffer.from(Array.from({ length: r.int(300) }, () => r.int(256))) : anything(r, 80);
    for (const encoding of ['quoted-printable', 'base64']) {
      const encoder = createTransferEncoder(encoding, 'byte');
      const out: Buffer[] = [];
      for (let at = 0, step = 0; at < bytes.length; at += step) {
        step = 1 + r.int(70);
        out.push(encoder.push(bytes.subarray(at, at + step)));
      }
      const encoded = Buffer.concat([...out, encoder.end()]);
      if (!decodeTransfer(encoded, encoding).equals(bytes)) t.fail(`${encoding} ${bytes.toString('hex')}`);
      if (!bytes.includes('\n') && !encodeTransfer(bytes, encoding).equals(encoded)) t.fail(`pieces ${encoding}`);
      const lines = encoded.toString('latin1').split('\r\n');
      if (lines.some(line => line.length > 76 || line.startsWith('--'))) t.fail(`lines of ${encoded}`);
    }
  }
});

/** Cut anywhere, partly in memory and partly in a file. */
function scattered(r: Random, bytes: Buffer, file: string): Rope {
  writeFileSync(file, bytes);
  const pieces: Rope[] = [];
  for (let at = 0, end = 0; at < bytes.length; at = end) {
    end = Math.min(bytes.length, at + 1 + r.int(bytes.length));
    pieces.push(r.chance(0.5) ? fileRope(file, at, end) : bufferRope(bytes.subarray(at, end)));
  }
  return concatRopes(...pieces);
}

async function all(t: Test, messages: Iterable<readonly [name: string, bytes: Buffer]>): Promise<void> {
  const r = random(8);
  const file = path.join(t.testdir(), 'message');
  let made = 0;
  let count = 0;
  for (const [name, bytes] of messages) {
    const form = scattered(r, bytes, file);
    const found = await fault(form, r.chance(0.2));
    if (found !== undefined) t.fail(`${name}: ${found}`);
    count++;
    if (typeof (await converted(form)) !== 'string') made++;
  }
  t.comment(`${made} of ${count} converted`);
  t.ok(made > count / 4);
}

t.test('real messages', async t => {
  await all(
    t,
    corpusMessages(400).map(({ name, bytes }) => [name, bytes] as const),
  );
});

t.test('broken messages', async t => {
  await all(
    t,
    Array.from({ length: 600 }, (_, seed) => [`seed ${seed}`, malformedMessage(8, seed)] as const),
  );
});

t.test('a large message is never held', async t => {
  const file = path.join(t.testdir(), 'large');
  const attachment = Buffer.alloc(24 * 1024 * 1024, 0xe9);
  const head = bytesOf(mixed).subarray(0, bytesOf(mixed).indexOf('\x80\x81', 'latin1'));
  const tail = bytesOf('\n--=_outer--\n');
  writeFileSync(file, Buffer.concat([head, attachment, tail]));
  const form = fileRope(file, 0, head.length + attachment.length + tail.length);
  const made = await toSevenBit(form, false);
  if (made.kind !== 'converted') throw new Error(made.why);
  let largest = 0;
  let size = 0;
  for await (const chunk of made.chunks()) {
    largest = Math.max(largest, chunk.length);
    size += chunk.length;
  }
  t.equal(size, made.size);
  t.ok(largest < 256 * 1024, `largest piece ${largest}`);
});
