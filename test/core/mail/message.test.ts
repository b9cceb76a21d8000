import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { editHeaders } from '../../../core/mail/header-edit.ts';
import { HeaderScan, makeMessage, readMessage, withBody, withHeaders } from '../../../core/mail/message.ts';
import { bufferRope, fileRope, openRope } from '../../../core/mail/rope.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'postern-message-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const text = 'From: a@example.org\r\nSubject: hello\r\n\r\nbody\r\n';

const spooled = (name: string, content: string) => {
  const file = path.join(folder, name);
  writeFileSync(file, content);
  return fileRope(file, 0, Buffer.byteLength(content));
};

t.test('in memory and spooled look the same', async t => {
  for (const message of [makeMessage(bufferRope(Buffer.from(text))), await readMessage(spooled('a', text))]) {
    t.equal(message.size, text.length);
    t.equal(message.bodyStart, 39);
    t.equal(message.headers.get('subject')?.value, 'hello');
    t.equal((await message.bytes()).toString(), text);
    t.equal((await message.mime()).bodyStart, 39);
    t.equal(await message.mime(), await message.mime());
    let streamed = '';
    for await (const chunk of message.open()) streamed += chunk;
    t.equal(streamed, text);
  }
  t.throws(() => makeMessage(spooled('b', text)), { message: /lies in a file/ });
});

t.test('the header section is found in any cut of the stream, within a bound', async t => {
  for (const sample of [text, '\r\nbody', 'a: b\n\nbody\n', 'a: b\r\n', 'a: b', '', '\n', 'a: b\r\nc: d\r\n\r\n']) {
    const bytes = Buffer.from(sample);
    const whole = new HeaderScan();
    whole.push(bytes);
    for (let step = 1; step < 5; step++) {
      const scan = new HeaderScan();
      for (let at = 0; at < bytes.length; at += step) scan.push(bytes.subarray(at, at + step));
      t.same(scan.section(), whole.section(), `${JSON.stringify(sample)} by ${step}`);
    }
    const message = makeMessage(bufferRope(bytes));
    t.equal(message.headers.size, whole.section().end);
    t.equal(message.bodyStart, whole.section().bodyStart);
  }
  const scan = new HeaderScan(10);
  t.equal(scan.push(Buffer.from(text)), true);
  t.same(scan.section(), { bytes: Buffer.from('From: a@ex'), end: 37, bodyStart: 39 });
});

t.test('edits make a new message and leave the old one alone', async t => {
  for (const message of [makeMessage(bufferRope(Buffer.from(text))), await readMessage(spooled('c', text))]) {
    const edited = withHeaders(
      message,
      editHeaders(message.headers, [{ kind: 'add-header', name: 'X-Spam', value: 'no' }]),
    );
    t.equal((await edited.bytes()).toString(), `X-Spam: no\r\n${text}`);
    t.equal(edited.headers.count, 3);
    t.equal((await edited.mime()).bodyStart, edited.bodyStart);
    const replaced = withBody(edited, bufferRope(Buffer.from('new\r\n')));
    t.equal((await replaced.bytes()).toString(), 'X-Spam: no\r\nFrom: a@example.org\r\nSubject: hello\r\n\r\nnew\r\n');
    t.equal(message.headers.count, 2);
    t.equal((await message.bytes()).toString(), text);
  }
});

t.test('a message without an empty line stays readable after edits', async t => {
  const body = bufferRope(Buffer.from('new'));
  for (const [sample, expected] of [
    ['', '\r\nnew'],
    ['a: b', 'a: b\r\n\r\nnew'],
    ['a: b\r\n', 'a: b\r\n\r\nnew'],
    ['\r\nold', '\r\nnew'],
  ] as const) {
    const message = withBody(makeMessage(bufferRope(Buffer.from(sample))), body);
    t.equal((await message.bytes()).toString(), expected);
    t.equal(message.bodyStart, expected.length - 3);
    t.equal(message.headers.size, makeMessage(bufferRope(Buffer.from(expected))).headers.size);
  }
});

t.test('of a section too large to be read, nothing is lost by an edit', async t => {
  const large = `a: 1\r\nb: ${'x'.repeat(100)}\r\nc: 3\r\n\r\nbody`;
  const message = await readMessage(spooled('d', large), { limits: { maxHeaderBytes: 50 } });
  t.same(message.headers.defects, ['header-too-large']);
  t.equal(message.headers.count, 1);
  const edited = withHeaders(
    message,
    editHeaders(message.headers, [
      { kind: 'add-header', name: 'T', value: 'top' },
      { kind: 'add-header', name: 'E', value: 'end', at: 'bottom' },
    ]),
  );
  t.equal((await edited.bytes()).toString(), `T: top\r\na: 1\r\nE: end\r\n${large.slice(6)}`);
  t.equal(edited.bodyStart, (await edited.bytes()).indexOf('body'));
  const again = withBody(edited, bufferRope(Buffer.from('other')));
  t.equal((await again.bytes()).toString(), `T: top\r\na: 1\r\nE: end\r\n${large.slice(6, -4)}other`);
  t.ok(openRope(again.rope));
});
