import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import {
  bufferRope,
  concatRopes,
  fileRope,
  inMemory,
  openRope,
  ropeBytes,
  ropeChunks,
  sliceRope,
} from '../../../core/mail/rope.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'postern-rope-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const content = Buffer.alloc(300_000, 'abcdefghij');
const file = path.join(folder, 'spool');
writeFileSync(file, content);

const readAll = async (stream: AsyncIterable<Buffer>): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
};

t.test('pieces in memory and of a file are one sequence of bytes', async t => {
  const head = Buffer.from('Received: here\r\n');
  const rope = concatRopes(bufferRope(head), fileRope(file, 10, 200_010), bufferRope(Buffer.from('end')));
  const expected = Buffer.concat([head, content.subarray(10, 200_010), Buffer.from('end')]);
  t.equal(rope.size, expected.length);
  t.ok((await ropeBytes(rope)).equals(expected));
  t.ok((await readAll(openRope(rope))).equals(expected));
  t.ok((await readAll(openRope(rope))).equals(expected), 'a second stream begins at the beginning');
  t.equal(inMemory(rope), undefined);
  for (const [start, end] of [
    [0, 5],
    [10, 20],
    [16, 16],
    [15, 17],
    [100, 200_017],
    [200_015, 900_000],
    [-3, 2],
  ] as const) {
    const part = sliceRope(rope, start, end);
    t.ok((await ropeBytes(part)).equals(expected.subarray(Math.max(start, 0), end)), `${start}..${end}`);
  }
  t.equal(sliceRope(rope, 7).size, rope.size - 7);
});

t.test('what is in memory is handed out without a copy', async t => {
  const bytes = Buffer.from('Subject: x\r\n\r\nhello');
  const rope = bufferRope(bytes);
  t.equal(await ropeBytes(rope), bytes);
  t.equal(inMemory(rope)?.[0], bytes);
  t.same(inMemory(bufferRope(Buffer.alloc(0))), []);
  t.equal((await readAll(openRope(bufferRope(Buffer.alloc(0))))).length, 0);
});

t.test('chunks stay small, and a reader that leaves early leaves no file open', async t => {
  let largest = 0;
  for await (const chunk of ropeChunks(fileRope(file, 0, content.length))) largest = Math.max(largest, chunk.length);
  t.ok(largest <= 65_536);
  const stream = openRope(fileRope(file, 0, content.length));
  for await (const chunk of stream) {
    t.ok(chunk.length > 0);
    break;
  }
  t.equal(stream.destroyed, true);
});

t.test('a file that is gone or too short is an error, never a short message', async t => {
  await t.rejects(ropeBytes(fileRope(file, 0, content.length + 1)), { message: /ends at 300000, 300001 expected/ });
  await t.rejects(readAll(openRope(fileRope(path.join(folder, 'none'), 0, 1))), { code: 'ENOENT' });
});
