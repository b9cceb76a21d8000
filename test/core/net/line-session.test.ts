import { connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { LineSession, type LineSessionOptions } from '../../../core/net/line-session.ts';
import { heldClock } from '../../harness/held-clock.ts';

/** A session and the client's end of it. */
async function pair(t: Test, options: Partial<LineSessionOptions> = {}) {
  const clock = heldClock();
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<Socket>(resolve => server.once('connection', resolve));
  const client = connect((server.address() as { readonly port: number }).port, '127.0.0.1');
  client.on('error', () => undefined);
  const socket = await accepted;
  const session = new LineSession(socket, { clock, idleMs: 1000, stallMs: 5000, secure: false, ...options });
  t.teardown(async () => {
    client.destroy();
    socket.destroy();
    await new Promise(resolve => server.close(resolve));
  });
  return { session, client, clock, socket };
}

t.test('lines however they are cut, CRLF or LF, too long ones dropped whole', async t => {
  const { session, client } = await pair(t);
  client.write('one\r\ntw');
  t.equal((await session.readLine(10)).toString(), 'one');
  t.notOk(session.hasLine);
  client.write('o\nthree\r\n\r\n');
  t.equal((await session.readLine(10)).toString(), 'two');
  t.ok(session.hasLine);
  t.equal((await session.readLine(10)).toString(), 'three');
  t.equal((await session.readLine(10)).toString(), '');
  client.write(`${'x'.repeat(300_000)}\r\nnext\r\n`);
  await t.rejects(session.readLine(100), { name: 'LineTooLong' });
  t.equal((await session.readLine(10)).toString(), 'next');
  client.write('exactly 10\r\nexactly 11!\r\n');
  t.equal((await session.readLine(10)).toString(), 'exactly 10');
  await t.rejects(session.readLine(10), { name: 'LineTooLong' });
  client.write('{3}\r\nabcdef\r\n');
  t.equal((await session.readLine(10)).toString(), '{3}');
  let literal = '';
  while (literal.length < 3) literal += (await session.readBytes(3 - literal.length)).toString();
  t.equal(literal, 'abc');
  t.equal((await session.readLine(10)).toString(), 'def');
  client.end();
  await t.rejects(session.readLine(10), { name: 'SessionEnd', message: /gone/ });
  await t.rejects(session.readLine(10), { name: 'SessionEnd', message: /gone/ });
});

t.test('idle clients, shutdown, and what was written before', async t => {
  const { session, client, clock } = await pair(t);
  let heard = '';
  client.on('data', chunk => {
    heard += chunk;
  });
  session.write('+OK\r\n');
  const reading = session.readLine(10);
  await new Promise(resolve => client.once('data', resolve));
  t.equal(heard, '+OK\r\n', 'sent when the client is waited for');
  clock.move(999);
  clock.move(1);
  await t.rejects(reading, { name: 'SessionEnd', message: /idle/ });
  const second = session.readLine(10);
  session.shutdown();
  await t.rejects(second, { name: 'SessionEnd', message: /shutdown/ });
  session.write('bye\r\n');
  await session.close();
  t.equal(heard, '+OK\r\nbye\r\n');
});

t.test('a client that takes nothing is cut off; one that only sends is not read', async t => {
  const { session, client, clock, socket } = await pair(t);
  client.pause();
  let waits = 0;
  const writing = (async () => {
    for (;;) {
      session.write(Buffer.alloc(1 << 20, 'x'));
      waits++;
      await session.pace();
    }
  })();
  writing.catch(() => undefined);
  // The kernel takes some; then the loop stands.
  while (socket.writableLength === 0) await new Promise(resolve => setImmediate(resolve));
  const before = waits;
  client.write(Buffer.alloc(8 << 20, 'y'));
  await new Promise(resolve => setImmediate(resolve));
  t.ok(session.bytesIn <= 4 << 20, `${session.bytesIn} bytes read of 8 MiB`);
  t.ok(before < 64, `${before} MiB written`);
  clock.move(5000);
  await t.rejects(writing, { name: 'SessionEnd', message: /gone/ });
});
