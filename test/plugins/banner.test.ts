import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { banner } from '../../plugins/banner/index.ts';
import { htmlPosition } from '../../plugins/banner/insert.ts';
import { findEngine, requireEngines } from '../harness/engine.ts';
import { fc } from '../harness/fuzz.ts';
import { type ClientFacts, plugin } from '../harness/plugin.ts';

async function marked(
  options: object,
  message: string | Buffer,
  client: ClientFacts = {},
  sender: string | null = 'a@b.test',
) {
  const p = await plugin(banner, options, { relayNetworks: ['198.51.100.0/24'] });
  t.teardown(() => p.close());
  await p.connect(client);
  await p.mail(sender);
  await p.rcpt('bob@example.org');
  const answer = await p.message(message);
  const { message: made } = answer.outcome as { readonly message?: { bytes(): Promise<Buffer> } };
  return { bytes: (await made?.bytes()) ?? Buffer.alloc(0), evidence: answer.evidence };
}
const text = async (...given: Parameters<typeof marked>): Promise<string> =>
  (await marked(...given)).bytes.toString('latin1').replaceAll('\r\n', '\n');
const single = (type: string, encoding: string, body: string) =>
  `Content-Type: ${type}\nContent-Transfer-Encoding: ${encoding}\n\n${body}`;
const quiet = { header: '' };

t.test('the field, the subject, and whose mail', async t => {
  t.equal(await text({}, 'X-External-Sender: no\nSubject: x\n\nb\n'), 'X-External-Sender: yes\nSubject: x\n\nb\n');
  for (const client of [{ identity: 'bob' }, { remote: '198.51.100.7' }])
    t.equal(
      await text({ text: 'B', subject: '[E]' }, 'X-External-Sender: yes\nSubject: x\n\nb\n', client),
      'Subject: x\n\nb\n',
    );
  t.equal(await text({ ...quiet, text: 'B', exceptSenders: ['*@b.test'] }, 'Subject: x\n\nb\n'), 'Subject: x\n\nb\n');
  t.equal(await text({ ...quiet, text: 'B', recipients: ['*@other.test'] }, 'Subject: x\n\nb\n'), 'Subject: x\n\nb\n');
  t.match(await text({ ...quiet, text: 'from {sender}' }, '\nb\n'), /from a@b\.test\n\nb\n$/);
  const subject = async (value: string, tag = '[EXT]') =>
    /^Subject: (.*(?:\n .*)*)/m.exec(await text({ ...quiet, subject: tag }, `${value}\n\nb\n`))?.[1];
  t.equal(await subject('Subject: Hello'), '[EXT] Hello');
  t.equal(await subject('Subject: =?utf-8?q?=C3=A4?= b'), '[EXT] =?utf-8?q?=C3=A4?= b', 'the rest stays as it was');
  t.equal(await subject('Subject: Re: [EXT] Hello'), 'Re: [EXT] Hello', 'not twice');
  t.equal(await subject('X: y'), '[EXT]');
  const raw = Buffer.from('Subject: Gr\xf6\xdfe =?utf-8?q?=C3=A4?=\0 x\ry z\r\n\r\nb\r\n', 'latin1');
  t.equal(
    (await text({ ...quiet, subject: '[EXT]' }, raw)).split('\n')[0],
    'Subject: [EXT] =?utf-8?b?R3LDtsOfZSDDpA==?= x y z',
    'what no field may hold goes, what has no charset is read as windows-1252',
  );
  t.match(await subject('Subject: x', '[ÄU\u00dfen]'), /^=\?utf-8\?.*\?= x$/i);
});

t.test('plain text: charset and encoding stay right', async t => {
  for (const [type, encoding, body, word, wanted] of [
    ['text/plain', '7bit', 'Hello\n', 'Outside', single('text/plain', '7bit', 'Outside\n\nHello\n')],
    [
      'text/plain; charset=iso-8859-1',
      '8bit',
      'Gr\u00fc\u00dfe\n',
      'Au\u00dfen',
      single('text/plain; charset=iso-8859-1', '8bit', 'Au\u00dfen\n\nGr\u00fc\u00dfe\n'),
    ],
    [
      'text/plain; charset=utf-8',
      '8bit',
      'x\n',
      '\u00dc',
      single('text/plain; charset=utf-8', '8bit', '\u00c3\u009c\n\nx\n'),
    ],
    [
      'text/plain; charset=utf-8',
      'quoted-printable',
      '=C3=A4=\n b=20\n',
      '\u00dc',
      single('text/plain; charset=utf-8', 'quoted-printable', '=C3=9C\n\n=C3=A4 b=20\n'),
    ],
    ['text/plain; charset=utf-8', 'base64', 'eA==\n', 'B', single('text/plain; charset=utf-8', 'base64', 'Qg0KDQp4\n')],
  ] as const)
    t.equal(
      await text(
        { ...quiet, text: word },
        Buffer.from(single(type, encoding, body).replaceAll('\n', '\r\n'), 'latin1'),
      ),
      wanted,
      `${type} ${encoding}`,
    );
  const seven = await text(
    { ...quiet, text: '\u00dc' },
    single('text/plain; charset=us-ascii; format=flowed', '7bit', 'x = y\n'),
  );
  t.match(seven, 'Content-Type: text/plain; charset=utf-8; format=flowed\nContent-Transfer-Encoding: quoted-printable');
  t.ok(seven.endsWith('\n\n=C3=9C\n\nx =3D y\n'), seven);
  const euro = await text(
    { ...quiet, text: '\u2192' },
    Buffer.from(single('text/plain; charset=iso-8859-1', 'quoted-printable', '=E4\n')),
  );
  t.match(euro, 'charset=utf-8');
  t.ok(euro.endsWith('\n\n=E2=86=92\n\n=C3=A4\n'), euro);
  t.equal(await text({ ...quiet, text: 'B', position: 'bottom' }, '\nHello\n'), '\nHello\n\nB\n');
  const wide = single('text/plain; charset=utf-16', 'base64', 'AHg=\n');
  t.equal(await text({ ...quiet, text: 'B' }, wide), wide);
  const twice = await text({ ...quiet, text: 'B\nC' }, '\nHello\n');
  t.equal(await text({ ...quiet, text: 'B\nC' }, twice), twice, 'not twice');
  const large = `\n${'x'.repeat(2000)}\n`;
  t.equal(await text({ ...quiet, text: 'B', maxSize: 1000 }, large), large);
});

t.test('HTML', async t => {
  const html = 'Au\u00dfen <b>"x"</b>';
  for (const [page, wanted] of [
    ['<html><body class="a">Hi</body></html>', '<html><body class="a">@Hi</body></html>'],
    ['<!-- <body> --><html><BODY>Hi', '<!-- <body> --><html><BODY>@Hi'],
    ['<p>Hi</p>', '@<p>Hi</p>'],
    ['<!doctype html><p>Hi', '<!doctype html>@<p>Hi'],
    ['<!-- never closed <body>', '@<!-- never closed <body>'],
  ] as const)
    t.ok(
      (await text({ ...quiet, html }, single('text/html; charset=iso-2022-jp', '7bit', `${page}\n`))).endsWith(
        `${wanted.replace('@', 'Au&#223;en <b>"x"</b>')}\n`,
      ),
      page,
    );
  t.equal(htmlPosition('<body>x</body>', 'bottom'), 7);
  t.match(
    await text({ ...quiet, text: 'a < b\nc' }, single('text/html', '7bit', '<body>Hi\n')),
    /<body><div [^>]*>a &lt; b<br>c<\/div>Hi/,
  );
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('<body', '<!--', '-->', '>', ' ', '<html>', 'x'), { maxLength: 30 }),
      pieces => {
        const page = pieces.join('');
        const at = htmlPosition(page, 'top');
        return at >= 0 && at <= page.length;
      },
    ),
    { numRuns: 2_000 },
  );
});

const tree = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=o

preamble
--o
Content-Type: multipart/alternative; boundary=i

--i
Content-Type: text/plain
X-Odd:   spaced

plain
--i
Content-Type: text/html
Content-Transfer-Encoding: quoted-printable

<body>h=3Dtml
--i--
--o
Content-Type: text/plain
Content-Disposition: attachment; filename=a.txt

attached
--o
Content-Type: message/rfc822

Subject: inner

inner
--o--
`;

t.test('in a tree: what is shown, nothing else; read back by a real parser', async t => {
  const made = await marked({ ...quiet, text: 'B\u00e4h' }, tree);
  const shown = made.bytes.toString('latin1').replaceAll('\r\n', '\n');
  t.match(
    shown,
    'X-Odd:   spaced\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nB=C3=A4h\n\nplain\n--i\n',
  );
  t.match(shown.replace(/=\n/g, ''), /<body><div [^>]*>B&#228;h<\/div>h=3Dtml\n--i--\n--o\n/);
  t.equal(shown.slice(shown.indexOf('--i--')), tree.slice(tree.indexOf('--i--')), 'what follows keeps its bytes');
  const report = tree.replace('multipart/mixed', 'multipart/report; report-type=delivery-status');
  t.equal(await text({ ...quiet, text: 'B' }, report), report);
  t.equal(
    await text({ ...quiet, text: 'B' }, single('image/png', 'base64', 'eA==\n')),
    single('image/png', 'base64', 'eA==\n'),
  );
  if (!requireEngines(t, 'banner read by Python', 'python3')) return;
  const script =
    'import sys,email,email.policy;m=email.message_from_binary_file(sys.stdin.buffer,policy=email.policy.default);print([ascii(p.get_content()) for p in m.walk() if p.get_content_maintype()=="text"],m.defects)';
  const read = execFileSync(findEngine('python3') ?? 'python3', ['-c', script], {
    input: made.bytes,
    encoding: 'utf8',
  });
  t.match(read, 'B\\\\xe4h\\\\n\\\\nplain');
  t.match(read, 'B&#228;h</div>h=tml');
  t.match(read, '[]');
});

t.test('signed and encrypted mail stays as it is', async t => {
  const dkim = 'DKIM-Signature: v=1\nSubject: x\n\nb\n';
  const options = { ...quiet, text: 'B', subject: '[E]' };
  t.same((await marked(options, dkim)).evidence, { unchanged: 'DKIM' });
  t.equal(await text(options, dkim), dkim);
  t.match(await text({ ...options, header: 'X-Ext' }, dkim), /^X-Ext: yes\n/, 'the field is there in any case');
  t.match(await text({ ...options, sealed: 'dkim' }, dkim), /Subject: \[E\] x\n\nB\n\nb\n/);
  const pgp = '\n-----BEGIN PGP MESSAGE-----\n\nx\n-----END PGP MESSAGE-----\n';
  t.equal(await text({ ...options, sealed: 'dkim' }, pgp), pgp);
  if (!requireEngines(t, 'banner beside S/MIME', 'openssl')) return;
  const folder = t.testdir({ 'body.txt': 'Content-Type: text/plain\r\n\r\nHello\r\n' });
  const openssl = (...args: string[]): string =>
    execFileSync(findEngine('openssl') ?? 'openssl', args, {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    'k.pem',
    '-out',
    'c.pem',
    '-days',
    '2',
    '-subj',
    '/CN=a@b.test',
  );
  openssl('smime', '-sign', '-in', 'body.txt', '-signer', 'c.pem', '-inkey', 'k.pem', '-out', 'signed.eml', '-crlfeol');
  const signed = readFileSync(`${folder}/signed.eml`);
  const verifies = async (sealed: string): Promise<boolean> => {
    const { bytes } = await marked({ text: 'B', subject: '[E]', sealed }, signed);
    writeFileSync(`${folder}/out.eml`, bytes);
    try {
      openssl('smime', '-verify', '-in', 'out.eml', '-noverify');
      return true;
    } catch {
      return false;
    }
  };
  t.equal(await verifies('never'), true);
  t.equal(await verifies('dkim'), true);
  t.equal(await verifies('always'), false, 'only when that is asked for');
});
