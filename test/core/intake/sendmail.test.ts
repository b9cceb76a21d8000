import { chmodSync, linkSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import {
  canonicalLines,
  completeHeaders,
  headerRecipients,
  MessageDataError,
  splitMessage,
} from '../../../core/cli/sendmail-message.ts';
import { parseSendmail } from '../../../core/cli/sendmail-options.ts';
import { createInjector } from '../../../core/compose/injector.ts';
import { readEnvelope, writeEnvelope } from '../../../core/intake/maildrop-file.ts';
import { dropMail, ensureMaildrop } from '../../../core/intake/maildrop-writer.ts';
import { openIntakeMemory } from '../../../core/intake/memory.ts';
import { createPickup } from '../../../core/intake/pickup.ts';
import type { IntakeMail, IntakeResult } from '../../../core/intake/ports.ts';
import { systemFileOps } from '../../../core/lib/atomic-file.ts';
import type { Clock } from '../../../core/lib/clock.ts';
import { makeAddress } from '../../../core/mail/address.ts';
import { fileRope, ropeBytes } from '../../../core/mail/rope.ts';
import type { Chain } from '../../../core/pipeline/chain.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { guardedLogger } from '../../harness/log-guard.ts';

t.test('options in every form that programs use', async t => {
  const cases: readonly [string, object][] = [
    ['-t -i', { fromHeader: true, ignoreDots: true }],
    ['-ti -fbob@example.org', { fromHeader: true, ignoreDots: true, sender: 'bob@example.org' }],
    ['-oi -oem -odi -f bob a@b c@d', { ignoreDots: true, sender: 'bob', recipients: ['a@b', 'c@d'] }],
    ['-o i -FCron -r <> root', { ignoreDots: true, fullName: 'Cron', sender: '', recipients: ['root'] }],
    ['-bp', { mode: 'queue' }],
    ['-bi', { mode: 'aliases' }],
    ['-q15m', { mode: 'flush' }],
    [
      '-bm -N never -R hdrs -V abc -B8BITMIME -Ac -- -odd@b',
      { notify: ['never'], ret: 'HDRS', envid: 'abc', recipients: ['-odd@b'] },
    ],
  ];
  for (const [line, expected] of cases) t.match(parseSendmail(line.split(' ')), expected, line);
  for (const line of ['-bd', '-bs', '-bv', '-Z', '-f', '-N sometimes', '-R some'])
    t.throws(() => parseSendmail(line.split(' ')), { name: 'UsageError', exitCode: 64 }, line);
});

/** The message that becomes of standard input, however it comes in pieces. */
async function read(input: string, ignoreDots = false, pieceBytes = 3): Promise<string> {
  const bytes = Buffer.from(input);
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }
  const { headers, body } = await splitMessage(canonicalLines(pieces(), { ignoreDots, maxSize: 10_000 }), 2_000);
  const rest: Buffer[] = [];
  for await (const chunk of body) rest.push(chunk);
  return `${headers.raw.toString()}|${Buffer.concat(rest).toString()}`;
}

t.test('line ends, dots and the end of the header section', async t => {
  for (const piece of [1, 2, 7, 1000]) {
    t.equal(await read('A: b\n\nx\ny', false, piece), 'A: b\r\n|\r\nx\r\ny\r\n');
    t.equal(await read('A: b\r\n\r\nx\r\ny\r\n', false, piece), 'A: b\r\n|\r\nx\r\ny\r\n');
    t.equal(await read('A: b\n\nx\n.\ny\n', false, piece), 'A: b\r\n|\r\nx\r\n');
    t.equal(await read('A: b\n\nx\n.\ny\n', true, piece), 'A: b\r\n|\r\nx\r\n.\r\ny\r\n');
    t.equal(await read('From bob Sat Nov 28\nA: b\n c\nno field\n', false, piece), 'A: b\r\n c\r\n|\r\nno field\r\n');
    t.equal(await read('just text', false, piece), '|\r\njust text\r\n');
    t.equal(await read('A: b', false, piece), 'A: b\r\n|\r\n');
    t.equal(await read('', false, piece), '|\r\n');
  }
  await t.rejects(read('a\0b'), MessageDataError);
  await t.rejects(read(`A: ${'x'.repeat(3_000)}\n\n`), /Header section/);
  await t.rejects(read('x'.repeat(20_000)), /larger than/);
});

t.test('what -t finds, and what is added and removed', async t => {
  const parse = async (text: string) => {
    async function* one(): AsyncGenerator<Buffer> {
      yield Buffer.from(text);
    }
    return (await splitMessage(canonicalLines(one(), { ignoreDots: true, maxSize: 10_000 }), 5_000)).headers;
  };
  const headers = await parse('To: Bob <bob@a>, "odd one"@b\nCc: team: x@c, y@c;\nBcc: z@d, bob@a\nbcc: w@e\n\n');
  t.same(headerRecipients(headers), ['bob@a', '"odd one"@b', 'x@c', 'y@c', 'z@d', 'w@e']);
  t.same(headerRecipients(await parse('To: a@a\nResent-To: b@b\nResent-Bcc: c@c\n\n')), ['b@b', 'c@c']);
  const from = { address: 'root@example.org', name: 'Charlie & Co, "Root"' };
  const given = { from, messageId: '<1@x>', now: 0, zoneMinutes: 60 };
  t.equal(
    completeHeaders(headers, given).toString(),
    'To: Bob <bob@a>, "odd one"@b\r\nCc: team: x@c, y@c;\r\nFrom: "Charlie & Co, \\"Root\\"" <root@example.org>\r\nDate: Thu, 1 Jan 1970 01:00:00 +0100\r\nMessage-ID: <1@x>\r\n',
  );
  const whole = 'From: a@b\r\nDate: x\r\nMessage-ID: <m@m>\r\n';
  t.equal(completeHeaders(await parse(`${whole}\r\n`), given).toString(), whole, 'what is there stays');
});

const envelope = { sender: null, recipients: [{ address: makeAddress('alice', 'example.org') }] };

t.test('envelopes: written and read, and nothing else is one', async t => {
  const full = {
    sender: makeAddress('b"ob', 'example.org'),
    recipients: [{ address: makeAddress('alice', 'example.org'), notify: ['never' as const] }],
    ret: 'HDRS' as const,
    envid: 'x',
  };
  for (const each of [envelope, full]) t.same(readEnvelope(writeEnvelope(each).toString()), each);
  for (const bad of [
    '',
    'null',
    '[]',
    '{"version":2,"sender":"","recipients":["a@b"]}',
    '{"version":1,"sender":"","recipients":[]}',
    '{"version":1,"sender":"","recipients":["a@b\\nc@d"]}',
    '{"version":1,"sender":"x\\r\\n@y","recipients":["a@b"]}',
    '{"version":1,"sender":1,"recipients":["a@b"]}',
    '{"version":1,"sender":"","recipients":[{"a":1}]}',
  ])
    t.equal(readEnvelope(bad), undefined, bad);
});

t.test('a full disk leaves nothing behind', async t => {
  const folder = path.join(t.testdir(), 'drop');
  await ensureMaildrop(folder);
  const full = Object.assign(new Error('no space'), { code: 'ENOSPC' });
  const ops = {
    ...systemFileOps,
    async open(file: string, flags: string, mode?: number) {
      const handle = await systemFileOps.open(file, flags, mode);
      return { write: () => Promise.reject(full), sync: () => handle.sync(), close: () => handle.close() };
    },
  };
  await t.rejects(dropMail(folder, envelope, [Buffer.from('x')], Date.now(), ops), { code: 'ENOSPC' });
  t.same(readdirSync(folder), []);
});

async function pickupFixture(
  t: Test,
  answer: (mail: IntakeMail) => IntakeResult,
  expected: readonly RegExp[] = [],
  clock: Clock = heldClock(Date.now()),
) {
  const root = t.testdir();
  const folder = path.join(root, 'drop');
  const spoolFolder = path.join(root, 'spool');
  mkdirSync(spoolFolder);
  await ensureMaildrop(folder);
  const state = await openSqliteState(path.join(root, 'state.db'));
  const memory = await openIntakeMemory(state);
  const mails: { readonly mail: IntakeMail; readonly text: string }[] = [];
  const start = () =>
    createPickup({
      folder,
      spoolFolder,
      hostname: 'mx.example.org',
      origin: 'example.org',
      maxSize: 5_000_000,
      lifetimeMs: 3_600_000,
      freeSenders: undefined,
      memory,
      async inject(mail) {
        mails.push({ mail, text: (await ropeBytes(mail.message)).toString() });
        const result = answer(mail);
        if (result.kind === 'taken') await memory.write(mail.also('taken'));
        return result;
      },
      userName: async () => 'ann',
      clock,
      log: guardedLogger({ expected }),
    });
  t.teardown(() => state.close());
  return { folder, spoolFolder, memory, mails, start };
}
t.test('what lies in the folder is taken once, and only what is mail', async t => {
  const { folder, spoolFolder, memory, mails, start } = await pickupFixture(t, () => ({ kind: 'taken', id: 'X' }), [
    /is not taken/,
  ]);
  t.equal(statSync(folder).mode & 0o7777, 0o3777);
  await dropMail(folder, envelope, [Buffer.from('Subject: one\r\n\r\n')], Date.now());
  const large = 'x'.repeat(3_000_000);
  await dropMail(folder, envelope, [Buffer.from(`Subject: two\r\n\r\n${large}`)], Date.now() + 1);
  const known = await dropMail(folder, envelope, [Buffer.from('Subject: known\r\n\r\n')], Date.now() + 2);
  await memory.write([memory.note('maildrop', `${known}.mail`, 1, 'taken')]);
  // What a user could put there to make the gateway read what he may not.
  writeFileSync(path.join(spoolFolder, 'secret'), writeEnvelope(envelope));
  const name = (n: number): string => path.join(folder, `0000000000000000${n}.mail`);
  symlinkSync(path.join(spoolFolder, 'secret'), name(1));
  linkSync(path.join(spoolFolder, 'secret'), name(2));
  writeFileSync(name(3), 'no envelope');
  mkdirSync(name(4));
  writeFileSync(path.join(folder, 'stray'), 'not ours');
  chmodSync(name(3), 0o640);
  const pickup = start();
  await pickup.look();
  t.same(
    mails.map(({ text }) => text.slice(9, 12)),
    ['one', 'two'],
  );
  t.equal(mails[1]?.text.length, 3_000_000 + 'Subject: two\r\n\r\n'.length);
  t.match(mails[0]?.mail, { origin: 'sendmail', identity: { name: 'ann@example.org' }, role: 'submission' });
  t.match(mails[0]?.mail.trace('ID').toString(), /^Received: by mx\.example\.org \(Postern, from userid \d+\)/);
  t.same(readdirSync(folder).sort(), [1, 2, 3, 4].map(n => `0000000000000000${n}.bad`).concat('stray'));
  t.same(readdirSync(spoolFolder), ['secret']);
  t.match(pickup.status(), { waiting: 0, bad: 4 });
  t.equal((await memory.of('maildrop')).size, 0, 'nothing is remembered of files that are gone');
  await pickup.close();
});

t.test('what is deferred stays, and is refused when its time is over', async t => {
  const results: IntakeResult[] = [];
  const { folder, mails, start } = await pickupFixture(t, () => results.shift() ?? { kind: 'taken', id: 'X' });
  results.push({ kind: 'deferred', id: 'X', reply: { code: 451, enhanced: '4.3.0', text: 'later' }, why: 'test' });
  await dropMail(folder, envelope, [Buffer.from('\r\n')], Date.now() - 7_200_000);
  const pickup = start();
  await pickup.look();
  t.equal(mails.length, 1);
  t.equal(mails[0]?.mail.last, true, 'older than the lifetime');
  t.equal(pickup.status().waiting, 1);
  await pickup.look();
  t.equal(mails.length, 1, 'not before it is due');
  await pickup.close();
  const next = start();
  await next.look();
  t.equal(mails.length, 2, 'a new process tries at once');
  t.equal(next.status().waiting, 0);
  await next.close();
});

t.test('what cannot even be set aside holds up nobody', async t => {
  const { folder, mails, start } = await pickupFixture(t, () => ({ kind: 'taken', id: 'X' }), [
    /is not taken/,
    /cannot be read now/,
  ]);
  writeFileSync(path.join(folder, '00000000000000001.mail'), 'no envelope');
  mkdirSync(path.join(folder, '00000000000000001.bad'));
  await dropMail(folder, envelope, [Buffer.from('Subject: one\r\n\r\n')], Date.now());
  const pickup = start();
  await pickup.look();
  t.equal(mails.length, 1);
  t.match(pickup.status(), { waiting: 1 }, 'the look came to its end');
  await pickup.close();
});

t.test('a clock that is set back does not hold up what waits', async t => {
  const held = heldClock(Date.now());
  let back = 0;
  const results: IntakeResult[] = [];
  results.push({ kind: 'deferred', id: 'X', reply: { code: 451, enhanced: '4.3.0', text: 'later' }, why: 'test' });
  const { folder, mails, start } = await pickupFixture(t, () => results.shift() ?? { kind: 'taken', id: 'X' }, [], {
    ...held,
    now: () => held.now() - back,
  });
  await dropMail(folder, envelope, [Buffer.from('\r\n')], held.now());
  const pickup = start();
  await pickup.look();
  t.equal(pickup.status().waiting, 1);
  back = 86_400_000;
  held.move(10_000);
  await pickup.look();
  t.equal(mails.length, 2);
  await pickup.close();
});

t.test('mail that cannot be read leaves no session of the chain behind', async t => {
  let open = 0;
  const session = {
    update: () => undefined,
    endTransaction: () => undefined,
    end: () => {
      open -= 1;
    },
  };
  const chain = {
    openSession() {
      open += 1;
      return session;
    },
  } as unknown as Chain;
  const unused = () => Promise.reject(new Error('Not asked here'));
  const inject = createInjector({
    chain: () => chain,
    enqueuer: { enqueue: unused },
    settle: unused,
    hostname: 'mx.example.org',
    clock: heldClock(),
    trace: { record: () => undefined },
    log: guardedLogger({ expected: [/cannot be taken now/] }),
  });
  const result = await inject({
    origin: 'sendmail',
    role: 'submission',
    client: { address: '127.0.0.1', helo: 'mx.example.org' },
    envelope,
    trace: () => Buffer.from('X: y\r\n'),
    message: fileRope(path.join(t.testdir(), 'gone'), 0, 100),
    receivedAt: 0,
    refusals: 'report',
    also: () => [],
  });
  t.equal(result.kind, 'deferred');
  t.equal(open, 0, 'a chain that a reload replaced waits for its last session');
});

t.test('a maildrop that cannot be watched is polled', async t => {
  const held = heldClock(Date.now());
  const { folder, mails, start } = await pickupFixture(
    t,
    () => ({ kind: 'taken', id: 'X' }),
    [/cannot be watched/, /cannot be read/],
    held,
  );
  rmSync(folder, { recursive: true });
  const pickup = start();
  await pickup.look();
  await ensureMaildrop(folder);
  await dropMail(folder, envelope, [Buffer.from('\r\n')], held.now());
  held.move(15_000);
  await pickup.look();
  t.equal(mails.length, 1);
  await pickup.close();
});
