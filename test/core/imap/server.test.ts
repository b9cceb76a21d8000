// The IMAP server as a whole: many real messages, big ones, clients that stall, vanish or talk nonsense, and its end.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import t from 'tap';
import { corpusMessages } from '../../harness/corpus.ts';
import { fc } from '../../harness/fuzz.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { fetched, ImapClient } from '../../harness/imap-client.ts';
import { type FixtureOptions, type ImapFixture, startImap } from './imap-fixture.ts';
import { plainMessage } from './sample-messages.ts';

interface Reporter {
  teardown(end: () => unknown): unknown;
}

async function start(t: Reporter, options: FixtureOptions = {}): Promise<ImapFixture> {
  const fixture = await startImap(options);
  t.teardown(() => fixture.close());
  return fixture;
}

async function login({ port }: ImapFixture, select = false): Promise<ImapClient & { readonly socket: Socket }> {
  const socket = connect(port, '127.0.0.1');
  const client = Object.assign(new ImapClient(socket), { socket });
  await client.line();
  await client.ok('LOGIN alice secret');
  if (select) await client.ok('SELECT INBOX');
  return client;
}

t.test('1,000 real messages come back byte for byte', async t => {
  const fixture = await start(t);
  const client = await login(fixture);
  const messages = corpusMessages(1000);
  for (const { bytes } of messages) await client.ok('APPEND INBOX {}', bytes);
  await client.ok('SELECT INBOX');
  for (let from = 1; from <= messages.length; from += 100) {
    const answer = fetched(await client.ok(`FETCH ${from}:${from + 99} (RFC822.SIZE BODY.PEEK[])`));
    for (const [seq, items] of answer) {
      const { name, bytes } = messages[seq - 1] ?? { name: '', bytes: Buffer.alloc(0) };
      if (Number(items.get('RFC822.SIZE')) !== bytes.length) t.fail(`${name}: size`);
      if (items.get('BODY[]') !== bytes.toString('latin1')) t.fail(`${name}: bytes`);
    }
    t.equal(answer.size, 100);
  }
  // Header and body are the whole; every part that BODYSTRUCTURE names can be fetched.
  const answer = fetched(await client.ok('FETCH 1:200 (BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1])'));
  for (const [seq, items] of answer)
    if (`${items.get('BODY[HEADER]')}${items.get('BODY[TEXT]')}` !== messages[seq - 1]?.bytes.toString('latin1'))
      t.fail(`${messages[seq - 1]?.name}: header and text`);
  const found = await client.ok('SEARCH HEADER Message-ID "" NOT HEADER X-No-Such-Field x');
  t.ok((found.untagged[0]?.length ?? 0) > 900, 'searched');
  client.close();
  t.strictSame(fixture.complaints, []);
});

t.test('big messages go through in bounded memory', async t => {
  const fixture = await start(t);
  const client = await login(fixture);
  const megabytes = 40;
  const line = `${'x'.repeat(76)}\r\n`;
  const body = Buffer.from(line.repeat(Math.ceil((megabytes * 1024 * 1024) / line.length)));
  const head = Buffer.from(
    'Subject: big\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nshort\r\n--b\r\n' +
      'Content-Type: application/pdf\r\n\r\n',
  );
  const message = Buffer.concat([head, body, Buffer.from('--b--\r\n')]);
  await client.ok('APPEND INBOX {}', message);
  t.strictSame(readdirSync(path.join(fixture.folder, 'spool')), [], 'nothing is left in the spool');
  await client.ok('SELECT INBOX');
  const before = process.memoryUsage().rss;
  const part = fetched(await client.ok('FETCH 1 (BODY.PEEK[]<0.12> BODY.PEEK[1] BODY.PEEK[2]<1000000.5> RFC822.SIZE)'));
  t.strictSame(part.get(1)?.get('BODY[]<0>'), 'Subject: big');
  t.strictSame(part.get(1)?.get('BODY[1]'), 'short');
  t.strictSame(part.get(1)?.get('BODY[2]<1000000>'), body.subarray(1_000_000, 1_000_005).toString());
  t.equal(Number(part.get(1)?.get('RFC822.SIZE')), message.length);
  const grown = process.memoryUsage().rss - before;
  t.ok(grown < 30 * 1024 * 1024, `a part of a big message costs little memory (${Math.round(grown / 1024 / 1024)} MB)`);
  // A client that asks ten times and does not read: what waits for it is bounded by the socket's buffers.
  const slow = await login(fixture, true);
  slow.socket.pause();
  const asked = process.memoryUsage().rss;
  slow.socket.write('a FETCH 1 BODY.PEEK[]\r\n'.repeat(10));
  // Another client's whole message is the measure of time: the first had every chance to fill memory.
  const whole = fetched(await client.ok('FETCH 1 BODY.PEEK[]'));
  t.ok(Buffer.from(String(whole.get(1)?.get('BODY[]')), 'latin1').equals(message), 'whole');
  const held = process.memoryUsage().rss - asked;
  t.ok(held < 400 * 1024 * 1024, `back-pressure (${Math.round(held / 1024 / 1024)} MB)`);
  slow.socket.destroy();
  client.close();
  t.strictSame(fixture.complaints, []);
});

t.test('clients that vanish leave nothing behind', async t => {
  const fixture = await start(t, { listener: { limits: { memoryBytes: 10 } } });
  const setup = await login(fixture);
  for (let n = 1; n <= 5; n += 1) await setup.ok('APPEND INBOX {}', Buffer.from(plainMessage(n)));
  const stages = [
    '',
    'a LOGIN ali',
    'a LOGIN alice {6}\r\n',
    'a AUTHENTICATE PLAIN\r\n',
    'a LOGIN alice secret\r\n',
    'a LOGIN alice secret\r\nb SELECT INBOX\r\n',
    'a LOGIN alice secret\r\nb SELECT INBOX\r\nc IDLE\r\n',
    'a LOGIN alice secret\r\nb APPEND INBOX {1000}\r\nhalf of it',
    'a LOGIN alice secret\r\nb SELECT INBOX\r\nc FETCH 1:* BODY[]\r\nd SEARCH BODY x\r\n',
    'a STARTTLS\r\n\x16\x03',
  ];
  for (let round = 0; round < 20; round += 1) {
    const sockets = await Promise.all(
      stages.map(
        stage =>
          new Promise<Socket>(resolve => {
            const socket = connect(fixture.port, '127.0.0.1', () => socket.write(stage || '\r'));
            socket.on('error', () => undefined);
            // The greeting at least: the session exists.
            socket.once('data', () => resolve(socket));
          }),
      ),
    );
    const gone = sockets.map(socket => new Promise(resolve => socket.once('close', resolve)));
    for (const [index, socket] of sockets.entries()) {
      if ((index + round) % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    }
    await Promise.all(gone);
  }
  // The sockets are closed on this side; sessions end as they notice.
  while (fixture.server.sessions() > 1) await setup.ok('NOOP');
  t.equal(fixture.server.sessions(), 1);
  t.strictSame(readdirSync(path.join(fixture.folder, 'spool')), []);
  const answer = await setup.ok('STATUS INBOX (MESSAGES)');
  t.strictSame(answer.untagged[0]?.[2], ['MESSAGES', '5'], 'half a message is none');
  t.strictSame(fixture.complaints, []);
  setup.close();
});

t.test('nonsense does no harm', async t => {
  const fixture = await start(t, { listener: { limits: { badCommands: 1_000_000, loginFailures: 1_000_000 } } });
  const client = await login(fixture, true);
  await client.ok('APPEND INBOX {}', Buffer.from(plainMessage(1)));
  const words = [
    'FETCH', 'UID', 'STORE', 'SEARCH', 'COPY', 'LIST', 'STATUS', 'CREATE', 'APPEND', 'ID', 'ENABLE', 'SELECT', 'EXAMINE',
    '1:*', '*', '1', '(', ')', '"', '"x"', '\\Seen', '{0+}\r\n', '{3+}\r\nabc', 'BODY[', ']', 'HEADER.FIELDS', '<0.5>', 'FLAGS',
    '+FLAGS', 'NOT', 'OR', 'TEXT', 'RETURN', 'INBOX', 'NIL', '&', '%', '1-Jan-2020', 'CHARSET', 'UTF-8', 'ALL', '~{2+}\r\n\0\0',
  ]; // biome-ignore format: a table of words
  const line = fc.array(fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 4 })), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(line, fc.constantFrom(' ', ''), async (parts, glue) => {
      const text = parts.join(glue).replace(/\r(?!\n)|(?<!\r)\n|\{[^0-9]/g, '?');
      client.socket.write(Buffer.from(`x ${text}\r\ny NOOP\r\n`, 'latin1'));
      for (;;) {
        const got = await client.line();
        if (got.startsWith('+ ')) client.socket.write('DONE\r\n');
        if (got.startsWith('y ')) {
          assert.match(got, /^y OK/);
          return;
        }
      }
    }),
    { numRuns: 400 },
  );
  t.notOk(
    fixture.complaints.some(line => /command-failed|session-failed/.test(line)),
    fixture.complaints.join(''),
  );
  client.close();
});

t.test('the end of the server', async t => {
  const fixture = await startImap();
  const idle = await login(fixture, true);
  const busy = await login(fixture, true);
  busy.socket.write('a IDLE\r\n');
  t.equal(await busy.line(), '+ idling');
  const ended = fixture.server.close(60_000);
  t.match(await idle.line(), /^\* BYE/);
  t.match(await busy.line(), /^\* BYE/);
  await ended;
  t.equal(fixture.server.sessions(), 0);
  const refused = await new Promise<string>(resolve => {
    connect(fixture.port, '127.0.0.1').on('error', error => resolve((error as NodeJS.ErrnoException).code ?? ''));
  });
  t.equal(refused, 'ECONNREFUSED');
  await fixture.close();
  t.notOk(existsSync(fixture.folder));
});

t.test('too many connections', async t => {
  const fixture = await start(t, { listener: { connections: { perAddress: 1 } } });
  const first = await login(fixture);
  const second = new ImapClient(connect(fixture.port, '127.0.0.1'));
  t.equal(await second.line(), '* BYE [UNAVAILABLE] Too many connections');
  first.close();
});

t.test('a client that takes nothing is cut off', async t => {
  const clock = heldClock();
  const fixture = await start(t, { clock, listener: { limits: { stallTimeoutMs: 1000 } } });
  const client = await login(fixture);
  await client.ok('APPEND INBOX {}', Buffer.alloc(20_000_000, 'x\r\n'));
  await client.ok('SELECT INBOX');
  const closed = new Promise(resolve => client.socket.once('close', resolve));
  client.socket.pause();
  client.socket.write('a FETCH 1 BODY[]\r\n');
  // Moves until the server has begun to wait and the wait is over.
  while (fixture.server.sessions() > 0) {
    await new Promise(resolve => setImmediate(resolve));
    clock.move(500);
  }
  client.socket.resume();
  await closed;
  t.equal(fixture.server.sessions(), 0);
});
