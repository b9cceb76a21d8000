// The memory that large messages share: a message that finds none left is spooled, and all of it comes back.
import { access, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { Incoming, spoolFile } from '../../../core/smtp/incoming.ts';
import { createSpoolMemory, type SpoolMemory } from '../../../core/smtp/spool-memory.ts';

const kib = 1024;

function counted(capacity: number): SpoolMemory & { readonly used: () => number } {
  const memory = createSpoolMemory(capacity);
  let used = 0;
  return {
    take(bytes) {
      const taken = memory.take(bytes);
      if (taken) used += bytes;
      return taken;
    },
    give(bytes) {
      used -= bytes;
      memory.give(bytes);
    },
    used: () => used,
  };
}

t.test('memory is shared; what finds none left goes to the disk; all is given back', async t => {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-incoming-'));
  const memory = counted(1024 * kib);
  const incoming = (id: string): Incoming =>
    new Incoming({
      dots: false,
      lineEnds: 'refuse',
      nul: 'refuse',
      maxSize: 10_000 * kib,
      maxLine: 2000,
      maxHeader: 64 * kib,
      file: spoolFile(folder, id),
      spoolAbove: 2048 * kib,
      memory,
      onError: error => t.fail(String(error)),
      onFlood: () => t.fail('flood'),
    });
  const text = Buffer.from(`Subject: x\r\n\r\n${`${'x'.repeat(62)}\r\n`.repeat(14 * kib)}`);
  const feed = async (into: Incoming): Promise<Awaited<ReturnType<Incoming['pieces']>>> => {
    const sink = into.chunkSink(text.length, () => undefined);
    for (let at = 0; at < text.length; at += 64 * kib) await sink.take(text.subarray(at, at + 64 * kib)).wait;
    return into.pieces();
  };
  const small = incoming('small');
  small.chunkSink(1000, () => undefined).take(text.subarray(0, 1000));
  t.equal(memory.used(), 0, 'a small one needs none of it');
  const first = incoming('first');
  const held = await feed(first);
  t.same(Buffer.concat(held as Buffer[]), text, 'in memory');
  t.equal(first.header.toString('latin1'), 'Subject: x\r\n\r\n');
  t.ok(memory.used() > 512 * kib && memory.used() <= 1024 * kib);
  const usedByFirst = memory.used();
  const second = incoming('second');
  t.match(await feed(second), [{ file: spoolFile(folder, 'second'), start: 0, end: text.length }], 'spooled');
  t.equal(memory.used(), usedByFirst, 'and its share given back');
  t.same(await readFile(spoolFile(folder, 'second')), text);
  t.equal(second.header.toString('latin1'), 'Subject: x\r\n\r\n');
  for (const each of [small, first, first, second]) each.dispose();
  t.equal(memory.used(), 0, 'disposed, once or twice');
  t.match(await feed(incoming('third')), [Buffer], 'in memory again');
  await t.rejects(access(spoolFile(folder, 'first')));
  await rm(folder, { recursive: true });
});
