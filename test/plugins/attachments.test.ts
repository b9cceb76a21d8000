import { gzipSync } from 'node:zlib';
import t from 'tap';
import { type Clock, systemClock } from '../../core/lib/clock.ts';
import { attachments } from '../../plugins/attachments/index.ts';
import { requireEngines } from '../harness/engine.ts';
import { type DrivenPlugin, plugin } from '../harness/plugin.ts';
import { random } from '../harness/random.ts';
import {
  compoundFile,
  encoded,
  type Files,
  mailWith,
  packagedObject,
  packed,
  plainZip,
  program,
  rar5,
  squeezed,
  type Tool,
  tnef,
} from './attachment-files.ts';

const open = async (options: object = {}): Promise<DrivenPlugin> => {
  const unhurried = { unpackTimeout: '100s', ...options };
  const p = await plugin(attachments, unhurried, { relayNetworks: ['198.51.100.0/24'], timeoutMs: 120_000 });
  t.teardown(() => p.close());
  return p;
};
async function answer(p: DrivenPlugin, message: string | Buffer, from = 'a@b.test') {
  await p.connect();
  await p.mail(from);
  await p.rcpt('bob@example.org');
  return p.message(message);
}
const looker = await open({ rules: [{ action: 'allow' }], threads: 1 });

/** What was found, one line for each file. */
async function found(name: string, bytes: Buffer, p: DrivenPlugin = looker): Promise<readonly string[]> {
  const { evidence, kind, why } = await answer(p, mailWith(name, bytes));
  if (kind !== 'continue') return [`${kind} ${why}`];
  return ((evidence?.['found'] ?? []) as readonly string[]).map(line => line.replace(/: allow$/, ''));
}

t.test('names', async t => {
  const text = Buffer.from('just text');
  for (const [name, kinds] of [
    ['a.exe', 'executable'],
    ['A.EXE. ', 'executable'],
    ['a.exe::$DATA', 'executable'],
    ['folder\\a.lnk', 'executable'],
    ['a.{645ff040-5081-101b-9f08-00aa002f954e}', 'executable'],
    ['a.js', 'script'],
    ['invoice.pdf.exe', 'executable, double-extension'],
    ['invoice.pdf      .scr', 'executable, double-extension'],
    ['invoice                       .vbs', 'script, double-extension'],
    ['invoice\u202efdp.exe', 'executable, direction-override'],
    ['a.iso', 'disk-image, unreadable (Not a known archive format)'],
    ['a.docm', 'macro'],
    ['v1.2.exe', 'executable'],
    ['report.2024.pdf.txt', 'text/plain'],
    ['\u05d0\u200f.txt', 'text/plain'],
  ] as const)
    t.match((await found(name, text))[0], `: ${kinds}`, name);
  const { evidence } = await answer(
    looker,
    'Content-Type: application/pdf; name="a.exe"\nContent-Disposition: attachment; filename="a.pdf"\n\nx\n',
  );
  t.match(evidence, { found: [/executable/] }, 'every name counts');
  t.match((await answer(looker, 'Subject: x\n\nold\nbegin 644 a.vbs\n#0V%T\n`\nend\n')).evidence, {
    found: [/a\.vbs: script/],
  });
});

t.test('content, whatever the name says', async t => {
  for (const [name, bytes, kinds] of [
    ['a.txt', program, 'a.txt: executable, mismatch (.txt is application/vnd.microsoft.portable-executable)'],
    ['a.pdf', Buffer.from('<html><script>'), 'a.pdf: mismatch (.pdf is text/html)'],
    ['a.pdf', Buffer.from('junk\n%PDF-1.7'), 'a.pdf: application/pdf'],
    ['a', Buffer.from('\x7fELF\x02', 'latin1'), 'a: executable'],
    ['a.doc', Buffer.from('{\\rtf1 x'), 'a.doc: application/rtf'],
    ['a', Buffer.from('#!/bin/sh\n'), 'a: script'],
    ['a', Buffer.from('<?xml version="1.0"?><!-- x --><package><job>'), 'a: script'],
    ['a', Buffer.from('4c0000000114020000', 'hex'), 'a: executable'],
    ['MZ.txt', Buffer.from('MZ is a code of Mozambique'), 'MZ.txt: text/plain'],
    ['a.jpg', Buffer.from('ffd8ffe0', 'hex'), 'a.jpg: image/jpeg'],
    ['a.bin', Buffer.from([1, 2, 3]), 'a.bin: application/octet-stream'],
    ['empty', Buffer.alloc(0), 'empty: application/octet-stream'],
  ] as const)
    t.same(await found(name, bytes), [kinds]);
});

const files: Files = { 'letter.txt': 'hello', 'sub/setup.exe': program };
const inTool = (tool: Tool, extension: string, engine: Parameters<typeof requireEngines>[2]) =>
  t.test(`an archive by ${tool}`, async t => {
    if (!requireEngines(t, `attachments in ${tool}`, engine)) return;
    const lines = await found(`a.${extension}`, packed(tool, files));
    t.ok(
      lines.some(line => /setup\.exe: executable$/.test(line)),
      lines.join('\n'),
    );
    t.notOk(
      lines.some(line => /unreadable|limit|encrypted/.test(line)),
      lines.join('\n'),
    );
    t.ok(lines.some(line => /letter\.txt: text\/plain$/.test(line)) || lines.length > 1, 'by content');
  });
await inTool('zip', 'zip', 'zip');
await inTool('7z', '7z', '7z');
await inTool('tar', 'tar', '7z');
await inTool('tgz', 'tar.gz', '7z');
await inTool('txz', 'tar.xz', '7z');
await inTool('tbz', 'tar.bz2', '7z');
await inTool('iso', 'iso', 'genisoimage');

t.test('archives with a password', async t => {
  if (!requireEngines(t, 'attachments with a password', 'zip', '7z')) return;
  for (const tool of ['zip-password', 'zip-aes', '7z-password'] as const) {
    const lines = await found('a.bin', packed(tool, files));
    t.match(lines[0], /^a\.bin: archive, encrypted$/, tool);
    t.ok(
      lines.some(line => /setup\.exe: executable, encrypted$/.test(line)),
      `${tool}: names can be read`,
    );
  }
  t.same(await found('a.7z', packed('7z-hidden', files)), ['a.7z: archive, encrypted']);
  t.same(await found('a.rar', rar5({}, true)), ['a.rar: archive, encrypted']);
});

t.test('rar, gzip, winmail.dat, saved messages', async t => {
  t.same(await found('a.rar', rar5({ 'x.txt': 'hello', 'y.txt': program })), [
    'a.rar: archive',
    'a.rar/x.txt: text/plain',
    'a.rar/y.txt: executable, mismatch (.txt is application/vnd.microsoft.portable-executable)',
  ]);
  t.same(await found('a.exe.gz', gzipSync(program)), ['a.exe.gz: archive', 'a.exe.gz/a.exe: executable']);
  t.same(await found('winmail.dat', tnef('b.exe', program)), [
    'winmail.dat: application/ms-tnef',
    'winmail.dat/b.exe: executable',
  ]);
  t.match(await found('winmail.dat', tnef('b.exe', program).subarray(0, 100)), [
    'winmail.dat: unreadable (Breaks off)',
  ]);
  const saved = Buffer.from(mailWith('c.exe', program));
  t.same(await found('x.eml', saved), ['x.eml: text/plain', 'x.eml/c.exe: executable']);
  const attached = (encoding: string, body: string): string =>
    `Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\n${encoding}\n${body}\n--o--\n`;
  for (const text of [attached('', saved.toString()), attached('Content-Transfer-Encoding: base64\n', encoded(saved))])
    t.match(String((await answer(looker, text)).evidence?.['found']), /c\.exe: executable/);
  const message = compoundFile([
    { name: '__properties_version1.0', bytes: Buffer.alloc(8) },
    {
      name: '__attach_version1.0_#00000000',
      streams: [
        { name: '__substg1.0_3707001F', bytes: Buffer.from('d.exe\0', 'utf16le') },
        { name: '__substg1.0_37010102', bytes: program },
      ],
    },
  ]);
  t.same(await found('x.msg', message), ['x.msg: application/vnd.ms-outlook', 'x.msg/d.exe: executable']);
});

t.test('one file that is packed without an archive', async t => {
  if (!requireEngines(t, 'packed files', 'bzip2', 'xz', 'compress', 'zip', '7z')) return;
  const text = Buffer.from('A line of text.\n'.repeat(40_000));
  const noise = random(7);
  for (const [extension, command] of [
    ['bz2', 'bzip2 -c1'],
    ['xz', 'xz -c'],
    ['xz', 'xz -c9e --check=sha256 --block-size=100000'],
    ['Z', 'compress -cf'],
    ['Z', 'compress -cf -b 12'],
  ] as const) {
    const squeeze = (bytes: Buffer) => squeezed(command, bytes);
    const lines = (name: string, bytes: Buffer) => found(`${name}.${extension}`, bytes);
    const path = `report.exe.${extension}`;
    t.same(
      await lines('report.exe', squeeze(program)),
      [`${path}: archive`, `${path}/report.exe: executable`],
      command,
    );
    const large = Buffer.concat([program, text, Buffer.from(Array.from({ length: 200_000 }, () => noise.int(256)))]);
    t.match(await lines('a.pdf', squeeze(large)), [/: archive$/, /\/a\.pdf: executable, mismatch/], 'by content');
    t.match(await lines('a.js', squeeze(text)), [/: archive$/, /\/a\.js: script$/], 'by name');
    t.match(await found('A.EXE. ', squeeze(text)), [/: executable, archive$|: archive, executable$/, /executable/]);
    t.match(await lines('a.docx', squeeze(plainZip([{ name: 'x.exe', bytes: program }]))), [
      /: archive$/,
      /\/a\.docx: archive, mismatch/,
      /\/a\.docx\/x\.exe: executable$/,
    ]);
    const macros = plainZip([
      { name: '[Content_Types].xml', bytes: Buffer.from('<Types/>') },
      { name: 'word/vbaProject.bin', bytes: Buffer.from('x') },
    ]);
    t.match(await lines('a.docx', squeeze(macros)), [/: archive$/, /\/a\.docx: macro$/], 'a document is one');
    t.match(
      await lines('a', squeeze(Buffer.alloc(0))),
      [/: archive$/, /\/a: application\/octet-stream$/],
      'of nothing',
    );
    t.match(await lines('a.txt', squeeze(squeeze(program))), [/: archive$/, /\/a\.txt: archive, mis/, /executable/]);
    const old = packed('tar-v7', { 'setup.exe': program });
    t.match(
      await lines('a', squeeze(old)),
      [/: archive$/, /\/a: application/, /\/setup\.exe: executable$/],
      'a tar of old',
    );
    const inZip = await found('a.zip', packed('zip', { [path]: squeeze(program) }));
    t.match(inZip.at(-1), /^a\.zip\/report\.exe\.\w+\/report\.exe: executable$/, 'in an archive');
    // Nothing tells where a .Z ends.
    if (extension === 'Z') continue;
    const half = squeeze(large).subarray(0, 150_000);
    t.match(await lines('a', half), [/: archive/, /\/a: executable, unreadable \(.+\)$/], 'cut off');
    t.match(await lines('b.js', squeeze(program).subarray(0, 25)), [/: archive, unreadable/, /\/b\.js: script$/]);
  }
  for (const command of ['bzip2 -c', 'xz -c'])
    t.match(
      await found('a.dat', squeezed(command, Buffer.alloc(0), program.subarray(0, 1), program.subarray(1))),
      ['a.dat: archive', 'a.dat/a.dat: executable'],
      'one stream behind the other',
    );
  t.match(await found('a.Z', squeezed('compress -cf -b 9', text)), ['a.Z: archive, unreadable', /^a\.Z\/a:/]);
  const twoNames = mailWith('a.txt.xz', squeezed('xz -c', Buffer.from('x'))).replace(
    'octet-stream',
    '$&; name=a.exe.xz',
  );
  t.match(String((await answer(looker, twoNames)).evidence?.['found']), /\/a\.\w+: executable/, 'every name counts');
  t.same(await found('BZh.txt', Buffer.from('BZh9 is how it begins')), ['BZh.txt: text/plain']);
});

t.test('what is known but cannot be opened', async t => {
  if (!requireEngines(t, 'closed formats', 'xz', 'zstd', 'lz4', 'arj', '7z')) return;
  const closed = 'unreadable (A format that is not looked into)';
  for (const [extension, bytes] of [
    ['lzma', squeezed('xz -c --format=lzma', program)],
    ['zst', squeezed('zstd -c', program)],
    ['zst', Buffer.concat([Buffer.from('502a4d180100000000', 'hex'), squeezed('zstd -c', program)])],
    ['lz4', squeezed('lz4 -c', program)],
    ['lz4', squeezed('lz4 -c -l', program)],
  ] as const) {
    const path = `report.exe.${extension}`;
    t.same(await found(path, bytes), [`${path}: archive, ${closed}`, `${path}/report.exe: executable`]);
    t.match(await found('a', bytes), [`a: archive, ${closed}`]);
  }
  t.same(await found('a', packed('arj', files)), [`a: archive, ${closed}`]);
  t.same(await found('a', Buffer.from(`${'\0'.repeat(7)}**ACE**`)), [`a: archive, ${closed}`]);
  t.match(await found('a.zip', packed('zip', { 'b.arj': packed('arj', files) })), [
    /archive$/,
    `a.zip/b.arj: archive, ${closed}`,
  ]);
  const lines = await found('a.tlz', squeezed('xz -c --format=lzma', packed('tar', files)));
  t.ok(
    lines.some(line => /setup\.exe: executable$/.test(line)) && !lines.join().includes('unreadable'),
    lines.join('\n'),
  );
  const defaults = await open();
  const { text } = await message(defaults, mailWith('a.arj', packed('arj', files)));
  t.match(text, /^X-Attachment-Status: tag archive\+unreadable "a\.arj"\r\n/, 'and an administrator is told');
});

t.test('Office documents: macros, passwords, what is embedded', async t => {
  const word = { name: 'WordDocument', bytes: Buffer.from('eca5c1000000000000000000', 'hex') };
  const book = (...records: readonly (readonly [type: number, data: Buffer])[]) => ({
    name: 'Workbook',
    bytes: Buffer.concat(
      records.map(([type, data]) => {
        const head = Buffer.alloc(4);
        head.writeUInt16LE(type, 0);
        head.writeUInt16LE(data.length, 2);
        return Buffer.concat([head, data]);
      }),
    ),
  });
  const vba = { name: 'Macros', streams: [{ name: 'VBA', streams: [{ name: 'dir', bytes: Buffer.alloc(10) }] }] };
  const packagePart = '[Content_Types].xml';
  const ooxml = (parts: readonly string[], types = '<Types/>') =>
    plainZip([
      { name: packagePart, bytes: Buffer.from(types) },
      ...parts.map(name => ({ name, bytes: Buffer.from('<x/>') })),
    ]);
  const encryptedWord = { name: 'WordDocument', bytes: Buffer.from('eca5c1000000000000000001', 'hex') };
  const document = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document';
  for (const [name, bytes, lines] of [
    ['a.doc', compoundFile([word]), ['a.doc: application/msword']],
    ['a.doc', compoundFile([word, vba]), ['a.doc: macro']],
    ['a.doc', compoundFile([encryptedWord]), ['a.doc: encrypted']],
    [
      'a.xls',
      compoundFile([
        book([0x809, Buffer.alloc(16)], [0x85, Buffer.from('000000000000', 'hex')], [0x0a, Buffer.alloc(0)]),
      ]),
      ['a.xls: application/vnd.ms-excel'],
    ],
    ['a.xls', compoundFile([book([0x85, Buffer.from('000000000001', 'hex')])]), ['a.xls: macro']],
    ['a.xls', compoundFile([book([0x2f, Buffer.alloc(6)])]), ['a.xls: encrypted']],
    ['a.docx', compoundFile([{ name: 'EncryptedPackage', bytes: Buffer.alloc(9) }]), ['a.docx: encrypted']],
    ['a', compoundFile([], Buffer.from('84100c0000000000c000000000000046', 'hex')), ['a: executable']],
    [
      'a.doc',
      compoundFile([
        word,
        { name: 'ObjectPool', streams: [{ name: '\x01Ole10Native', bytes: packagedObject('b.exe', program) }] },
      ]),
      ['a.doc: application/msword', 'a.doc/b.exe: executable'],
    ],
    ['a.docx', ooxml(['word/document.xml']), [`a.docx: ${document}`]],
    ['a.docx', ooxml(['word/document.xml', 'word/vbaProject.bin']), ['a.docx: macro']],
    [
      'a.docx',
      ooxml(['word/document.xml', 'word/other.bin'], '<Default ContentType="application/vnd.ms-office.vbaProject"/>'),
      ['a.docx: macro'],
    ],
    ['a.xlsx', ooxml(['xl/workbook.xml', 'xl/macrosheets/sheet1.xml']), ['a.xlsx: macro']],
    [
      'a.pdf.docx',
      plainZip([
        { name: 'word/x', bytes: Buffer.from('x') },
        { name: packagePart, bytes: Buffer.from('') },
        { name: 'word/e.bin', bytes: program },
      ]),
      [`a.pdf.docx: ${document}`, 'a.pdf.docx/word/e.bin: executable'],
    ],
  ] as const)
    t.same(
      (await found(name, bytes)).filter(line => !/\/(?:word|xl|\[Content)[^:]*: (?:application\/|text)/.test(line)),
      lines,
      lines.join(),
    );
});

t.test('bombs cost little and are found', async t => {
  const began = process.memoryUsage().rss;
  const zeros = gzipSync(Buffer.alloc(64 * 1024 * 1024), { level: 9 });
  t.match(await found('a.gz', Buffer.concat(Array<Buffer>(12).fill(zeros))), [
    /^a\.gz: archive, limit \(Too large unpacked\)$/,
    /^a\.gz\/a:/,
  ]);
  const small = await open({
    rules: [{ action: 'allow' }],
    maxUnpacked: '1MiB',
    maxFiles: 100,
    maxDepth: 4,
    threads: 1,
  });
  const limit = async (name: string, bytes: Buffer) => {
    const lines = await found(name, bytes, small);
    t.ok(
      lines.some(line => line.includes('limit')),
      `${name}: ${lines.slice(0, 3).join('; ')}`,
    );
    return lines;
  };
  let nested = plainZip([{ name: 'x.exe', bytes: program }]);
  for (let depth = 0; depth < 3; depth++) nested = plainZip([{ name: 'inner.zip', bytes: nested }]);
  t.match((await found('a.zip', nested, small)).at(-1), /x\.exe: executable/, 'as deep as is allowed');
  const deep = await limit('a.zip', plainZip([{ name: 'inner.zip', bytes: nested }]));
  t.match(deep.at(-1), /limit \(Nested too deep\)$/);
  await limit('a.zip', plainZip(Array.from({ length: 101 }, (_, at) => ({ name: `${at}`, bytes: Buffer.from('x') }))));
  await limit('a.zip', plainZip([{ name: 'a', bytes: Buffer.alloc(2 * 1024 * 1024) }]));
  const many = Array.from({ length: 60 }, (_, at) => ({
    name: `${at}.zip`,
    bytes: plainZip([{ name: 'x', bytes: Buffer.alloc(40_000) }]),
  }));
  await limit('a.zip', plainZip(many));
  const kernel = plainZip([
    { name: 'k', bytes: Buffer.alloc(5_000, 7) },
    ...Array.from({ length: 50 }, (_, at) => ({ name: `${at}`, bytes: Buffer.from('y'), at: 0 })),
  ]);
  t.match((await limit('a.zip', kernel)).join(), /overlap/i);
  t.match(
    (
      await found(
        'a.zip',
        Buffer.concat([
          plainZip([{ name: 'x.exe', bytes: program }]),
          plainZip([{ name: 'y.txt', bytes: Buffer.from('y') }]),
        ]),
      )
    ).join(),
    /in front of the first file/,
    'two archives in one file',
  );
  if (requireEngines(t, 'bombs by 7z', '7z'))
    for (const tool of ['7z', 'txz', 'tbz'] as const)
      await limit(`a.${tool}`, packed(tool, { zeros: Buffer.alloc(30 * 1024 * 1024), 'b.txt': 'b' }));
  if (requireEngines(t, 'bombs of one packed file', 'bzip2', 'xz', 'zstd', 'compress')) {
    const block = Buffer.alloc(64 * 1024 * 1024);
    const whole = (stream: Buffer): Buffer => Buffer.concat(Array<Buffer>(Math.ceil(1e7 / stream.length)).fill(stream));
    const terabytes = whole(squeezed('bzip2 -c', block));
    t.match(await found('a.bz2', terabytes), [/^a\.bz2: archive, limit/, /\/a: limit \(Too large unpacked\)$/]);
    for (const [name, bomb] of [
      ['a.exe.xz', whole(squeezed('xz -c', block))],
      ['a.exe.Z', squeezed('compress -cf', block)],
    ] as const)
      t.match((await limit(name, bomb)).at(-1), /\/a\.exe: executable, limit \(Too large unpacked\)$/);
    const held = squeezed('xz -c', Buffer.concat([plainZip([]), block]));
    t.match(await found('a.xz', held), [/archive/, /\/a: archive, limit/], 'an archive that is too large to be held');
    t.match(await found('a.zst', squeezed('zstd -c', block)), [/unreadable/, /\/a:/]);
    let deep: Buffer = program;
    for (let depth = 0; depth < 6; depth++) deep = squeezed('xz -c', deep);
    t.match((await limit('a.xz', deep)).at(-1), /limit \(Nested too deep\)$/);
  }
  const parts = Array.from(
    { length: 40 },
    (_, at) =>
      `--b\nContent-Type: application/zip; name="${at}.zip"\nContent-Transfer-Encoding: base64\n\n${encoded(plainZip([{ name: 'x.exe', bytes: program }]))}\n`,
  );
  const hurried = await open({ rules: [{ is: ['limit'], action: 'tag' }], unpackTimeout: '1ms', threads: 1 });
  const late = await answer(hurried, `Content-Type: multipart/mixed; boundary=b\n\n${parts.join('')}--b--\n`);
  t.match(late.evidence, { found: /in time/ });
  t.ok(process.memoryUsage().rss - began < 600 * 1024 * 1024, 'memory');
});

t.test('one that is not taken apart in time costs its thread, and the next one is looked at', async t => {
  let isLate = true;
  const limitMs = 7_000;
  const clock: Clock = {
    ...systemClock,
    after(ms, run) {
      if (ms !== limitMs || !isLate) return systemClock.after(ms, run);
      const soon = setImmediate(run);
      return () => clearImmediate(soon);
    },
  };
  const settings = { rules: [{ action: 'allow' }], unpackTimeout: `${limitMs / 1000}s`, threads: 1 };
  const p = await plugin(attachments, settings, { clock, timeoutMs: 120_000 });
  t.teardown(() => p.close());
  const zeros = gzipSync(Buffer.alloc(64 * 1024 * 1024), { level: 9 });
  t.same(await found('a.gz', zeros, p), ['a.gz: archive, limit (Not taken apart in time)']);
  isLate = false;
  const small = plainZip([{ name: 'x.exe', bytes: program }]);
  t.same(await found('a.zip', small, p), ['a.zip: archive', 'a.zip/x.exe: executable']);
});

t.test('damaged archives: an answer for each, and the next one is looked at', async t => {
  if (!requireEngines(t, 'damaged archives', 'zip', '7z', 'genisoimage', 'bzip2', 'xz', 'compress')) return;
  const chance = random(20261128);
  const office = compoundFile([
    { name: 'WordDocument', bytes: Buffer.alloc(9) },
    { name: 'Macros', streams: [{ name: 'VBA', bytes: Buffer.alloc(9) }] },
  ]);
  const whole: Readonly<Record<string, Buffer>> = {
    zip: packed('zip', files),
    '7z': packed('7z', files),
    tar: packed('tar', files),
    tgz: packed('tgz', files),
    txz: packed('txz', files),
    iso: packed('iso', files),
    rar: rar5({ 'a.txt': 'hello', 'b.exe': program }),
    xz: squeezed('xz -c', program),
    bz2: squeezed('bzip2 -c', program),
    Z: squeezed('compress -cf', program),
    doc: office,
    dat: tnef('b.exe', program),
  };
  for (const [extension, bytes] of Object.entries(whole)) {
    for (let round = 0; round < 40; round++) {
      let broken = Buffer.from(bytes);
      if (chance.chance(0.4)) broken = broken.subarray(0, chance.int(broken.length));
      for (let change = chance.int(8); change >= 0 && broken.length > 0; change--)
        broken[chance.int(Math.min(broken.length, chance.chance(0.5) ? 300 : broken.length))] = chance.int(256);
      const { kind } = await answer(looker, mailWith(`a.${extension}`, broken));
      if (kind !== 'continue') t.fail(`${extension} ${round}: ${kind}`);
    }
    const half = await found(`a.${extension}`, bytes.subarray(0, Math.floor(bytes.length / 2)));
    if (!/^(?:tar|iso|Z)$/.test(extension)) t.match(half.join(), /unreadable/, `${extension}: half of it`);
    t.ok((await found(`a.${extension}`, bytes)).length > 0, `${extension}: the whole one`);
  }
  t.match((await found('a.zip', whole['zip'] as Buffer)).join(), /setup\.exe: executable/, 'the thread still works');
});

const rules = (action: string, is = 'executable') => ({ rules: [{ is: [is], action }] });
const message = async (p: DrivenPlugin, text: string | Buffer) => {
  const { outcome, kind, why } = await answer(p, text);
  const made = outcome as {
    readonly kind: string;
    readonly message?: { bytes(): Promise<Buffer> };
    readonly kept?: { readonly message: { bytes(): Promise<Buffer> } };
  };
  const bytes = await made.message?.bytes();
  return {
    kind,
    why,
    outcome,
    text: bytes?.toString('latin1') ?? '',
    kept: (await made.kept?.message.bytes())?.toString('latin1'),
  };
};

t.test('what the rules do', async t => {
  const defaults = await open();
  const mail = mailWith('invoice.pdf.exe', program);
  t.match(await answer(defaults, mail), {
    kind: 'reject',
    reply: { code: 550, enhanced: '5.7.1' },
    why: /invoice\.pdf\.exe: executable, double-extension/,
  });
  t.match(await answer(defaults, mailWith('a.txt', Buffer.from('x'))), { kind: 'continue' });
  t.match((await message(defaults, mailWith('a.docm', Buffer.from('x')))).outcome, {
    kind: 'quarantine',
    why: /macro/,
  });
  const tagged = await message(await open(rules('tag')), `X-Attachment-Status: forged\n${mail}`);
  t.match(tagged.text, /^X-Attachment-Status: tag executable\+double-extension "invoice\.pdf\.exe"\r\n/);
  t.notMatch(tagged.text, 'forged');
  const ordered = await open({
    rules: [
      { name: ['*.exe'], sender: ['*@trusted.test'], action: 'allow' },
      { name: ['*.exe'], recipient: ['nobody@*'], action: 'quarantine' },
      { type: ['image/*'], action: 'tag' },
      { is: ['executable'], inside: false, origin: 'outside', action: 'reject' },
    ],
  });
  t.match(await answer(ordered, mail, 'x@trusted.test'), { kind: 'continue' });
  t.match(await answer(ordered, mail), { kind: 'reject' });
  t.match((await message(ordered, mailWith('x', Buffer.from('ffd8ff', 'hex')))).text, /X-Attachment-Status/);
  t.match(
    (await message(ordered, mailWith('x', Buffer.from([1]), 'image/x'))).text,
    /X-Attachment-Status/,
    'as claimed',
  );
  t.match(
    await answer(ordered, mailWith('a.zip', plainZip([{ name: 'b.exe', bytes: program }]))),
    { kind: 'continue' },
    'inside',
  );
  await t.rejects(plugin(attachments, { rules: [{ is: ['nonsense'], action: 'tag' }] }), { name: 'ChainError' });
});

t.test('a note in the place of an attachment', async t => {
  const p = await open({ ...rules('strip'), note: 'Removed "{name}": {reason} ({id} at {gateway}, {odd})\nÄ' });
  const mail = mailWith('b\u00f6se.exe', program);
  const { text, kept, outcome } = await message(p, mail);
  t.match(outcome, { kind: 'deliver' });
  const crlf = mail.replace(/\n/g, '\r\n');
  t.equal(kept, crlf, 'the original is kept as it came');
  const start = crlf.indexOf('Content-Type: application');
  const end = crlf.indexOf('\r\n--=b--');
  const body = text.slice(text.indexOf('From: '));
  t.equal(body.slice(0, start), crlf.slice(0, start), 'what stands before');
  t.equal(
    body.slice(start),
    `Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Disposition: inline\r\n\r\n` +
      `Removed "b=C3=B6se.exe": b=C3=B6se.exe: executable (q4 at gateway.test, {od=\r\nd})\r\n=C3=84${crlf.slice(end)}`.replace(
        'q4',
        /\((q\d+) at/.exec(body)?.[1] ?? '',
      ),
  );
  const single = await message(
    p,
    'Subject: x\nContent-Type: application/x-msdownload; name="a.exe"\nContent-ID: <1>\nContent-Transfer-Encoding: base64\n\nTVqQ\n',
  );
  t.match(
    single.text,
    /^MIME-Version: 1\.0\r\nX-Attachment-Status: strip executable "a\.exe"\r\nSubject: x\r\nContent-Type: text\/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Disposition: inline\r\n\r\nRemoved "a\.exe"/,
  );
  const inner = await message(p, mailWith('a.zip', plainZip([{ name: 'x.exe', bytes: program }])));
  t.match(
    inner.text,
    /Removed "a\.zip": a\.zip\/x\.exe: executable/,
    'the whole attachment goes, the reason names the file',
  );
  const twice = await message(
    p,
    mailWith('1.exe', program).replace(
      '--=b\nContent-Type: application',
      `--=b\nContent-Type: application/x; name=0.exe\n\nMZ\n--=b\nContent-Type: application`,
    ),
  );
  t.match(twice.text, /Removed "0\.exe"[\s\S]*--=b\r\n[\s\S]*Removed "1\.exe"/);
  const careless = await message(await open({ ...rules('strip'), keepOriginal: false }), mail);
  t.equal(careless.kept, undefined);
});

t.test('signed and encrypted mail is not changed unless that is asked for', async t => {
  const mail = mailWith('a.exe', program);
  const dkim = `DKIM-Signature: v=1\n${mail}`;
  const smime = mail.replace('multipart/mixed', 'multipart/signed');
  const pgp = mail.replace('See below.', '-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx');
  for (const [setting, text, wanted] of [
    ['never', mail, 'deliver'],
    ['never', dkim, 'quarantine'],
    ['never', smime, 'quarantine'],
    ['never', pgp, 'quarantine'],
    ['dkim', dkim, 'deliver'],
    ['dkim', smime, 'quarantine'],
    ['always', smime, 'deliver'],
    ['always', dkim, 'deliver'],
  ] as const) {
    const p = await open({ ...rules('strip'), stripSealed: setting });
    const { outcome, text: made } = await message(p, text);
    t.equal(outcome.kind, wanted, `${setting} ${text.slice(0, 5)}`);
    t.equal(made.includes('was removed by'), wanted === 'deliver');
  }
});
