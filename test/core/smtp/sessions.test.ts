// What transcripts cannot show: bytes, files, records, handles, the end of a server.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { TraceRecord } from '../../../core/mail/trace.ts';
import type { Settlement, SettleRequest } from '../../../core/smtp/ports.ts';
import { until } from '../../harness/gateway-files.ts';
import { type Fixture, startFixture } from './fixture.ts';

/** A client that says lines and reads replies. */
class Talker {
  readonly socket: Socket;
  private text = '';
  private closed = false;
  private wake: () => void = () => undefined;

  constructor(fixture: Fixture, unixSocket?: string) {
    this.socket = unixSocket === undefined ? connect(fixture.server.address.port, '127.0.0.1') : connect(unixSocket);
    this.socket.on('data', data => {
      this.text += data.toString('latin1');
      this.wake();
    });
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.closed = true;
      this.wake();
    });
  }

  /** Reads up to and including a final line that begins with `code`; resolves with all that was read. */
  async until(code: string): Promise<string> {
    const pattern = new RegExp(`^(?:.*\\r\\n)*?${code}[ ].*\\r\\n`);
    for (;;) {
      const match = pattern.exec(this.text);
      if (match) {
        this.text = this.text.slice(match[0].length);
        return match[0];
      }
      if (this.closed) throw new Error(`closed, unread ${JSON.stringify(this.text)}`);
      await new Promise<void>(resolve => {
        this.wake = resolve;
      });
    }
  }

  async say(text: string, code: string): Promise<string> {
    this.socket.write(text, 'latin1');
    return this.until(code);
  }

  end(): Promise<void> {
    this.socket.destroy();
    return this.gone();
  }

  /** The end of the connection, also by a reset. */
  async gone(): Promise<void> {
    while (!this.closed)
      await new Promise<void>(resolve => {
        this.wake = resolve;
      });
  }
}

const envelope = 'MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n';

async function opened(fixture: Fixture): Promise<Talker> {
  const talker = new Talker(fixture);
  await talker.until('220');
  await talker.say('EHLO client.example\r\n', '250');
  return talker;
}

/** Waits for something that the other side of a socket brings about. */
const eventually = (is: () => boolean | Promise<boolean>): Promise<boolean> => until(is, 'the other side');

t.test('bytes survive, in memory and spooled; the file is gone afterwards', async t => {
  const fixture = await startFixture({ listener: { maxSize: 5_000_000, spoolAbove: 100_000, headerSize: 300_000 } });
  const talker = await opened(fixture);
  const bodies = [
    'short\r\n',
    '..a\r\n.b\r\n\r\n.\u00e4\r\n'.repeat(10),
    `${'x'.repeat(70)}\r\n`.repeat(2000),
    `..${'y'.repeat(50)}\r\n`.repeat(60_000),
  ];
  for (const [index, body] of bodies.entries()) {
    const stuffed = body.replace(/^\./gm, '..');
    await talker.say(`${envelope}DATA\r\n`, '354');
    await talker.say(`Subject: ${index}\r\n\r\n${stuffed}.\r\n`, '250');
    const got = fixture.chain.messages[index]?.bytes.toString('latin1') ?? '';
    t.ok(got.endsWith(`\r\nSubject: ${index}\r\n\r\n${body}`), `message ${index}`);
    t.match(got, /^Received: from client\.example /);
    await eventually(async () => (await fixture.spooled()).length === 0);
  }
  t.match(fixture.traces.at(-1), { outcome: 'accepted', subject: '3', reply: '250 2.0.0 Ok: queued as Q4' });
  await talker.end();
  await fixture.close();
});

t.test('byte by byte, and over a Unix socket', async t => {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-lmtp-'));
  const file = path.join(folder, 'lmtp.sock');
  const fixture = await startFixture({ listener: { role: 'lmtp', target: { path: file }, spoolAbove: 3000 } });
  const talker = new Talker(fixture, file);
  await talker.until('220');
  await talker.say('LHLO client.example\r\n', '250');
  await talker.say(`${envelope}DATA\r\n`, '354');
  const text = `Subject: slow\r\n\r\n${'a line\r\n'.repeat(800)}`;
  for (const character of `${text}.\r\n`) {
    talker.socket.write(character);
    if (character === '\n') await new Promise(resolve => setImmediate(resolve));
  }
  await talker.until('250');
  t.ok(fixture.chain.messages[0]?.bytes.toString('latin1').endsWith(text));
  t.match(fixture.traces, [{ client: { address: '127.0.0.1' }, outcome: 'accepted' }]);
  await talker.end();
  await fixture.close();
  await rm(folder, { recursive: true });
});

t.test('a disk that is full: 452, nothing half-kept', async t => {
  const fixture = await startFixture({ listener: { maxSize: 5_000_000, spoolAbove: 1000 } });
  const talker = await opened(fixture);
  const { rename } = await import('node:fs/promises');
  await rename(fixture.spoolDir, `${fixture.spoolDir}-away`);
  await talker.say(`${envelope}DATA\r\n`, '354');
  t.match(await talker.say(`Subject: x\r\n\r\n${'x'.repeat(3000)}\r\n.\r\n`, '452'), /^452 4\.3\.1 /);
  await rename(`${fixture.spoolDir}-away`, fixture.spoolDir);
  await talker.say(`${envelope}DATA\r\n`, '354');
  await talker.say(`Subject: x\r\n\r\n${'x'.repeat(3000)}\r\n.\r\n`, '250');
  t.match(
    fixture.traces.map(trace => trace.outcome),
    ['deferred', 'accepted'],
  );
  t.match(
    fixture.logged.filter(entry => entry.level === 'error').map(entry => entry.event),
    ['smtp-error'],
  );
  await talker.end();
  await fixture.close();
});

t.test('submission adds Date and Message-ID where they are missing, and only there', async t => {
  const fixture = await startFixture({ listener: { role: 'submission', allowPlaintextAuth: true } });
  const talker = await opened(fixture);
  await talker.say('AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n', '235');
  for (const head of ['Subject: x\r\n', 'date: now\r\nMESSAGE-ID: <1@x>\r\n', 'Date: now\r\n']) {
    await talker.say(`${envelope}DATA\r\n`, '354');
    await talker.say(`${head}\r\nDate: in the body\r\n.\r\n`, '250');
  }
  const fields = fixture.chain.messages.map(({ bytes }) => {
    const header = bytes.toString('latin1').split('\r\n\r\n')[0] ?? '';
    return [header.match(/^date:/gim)?.length, header.match(/^message-id:/gim)?.length];
  });
  t.same(fields, [
    [1, 1],
    [1, 1],
    [1, 1],
  ]);
  t.match(fixture.traces[0], { client: { identity: 'alice' } });
  await talker.end();
  await fixture.close();
});

t.test('every transaction leaves one record, and every session one line', async t => {
  const fixture = await startFixture();
  const talker = await opened(fixture);
  await talker.say('MAIL FROM:<spammer@example.net>\r\n', '550');
  await talker.say('MAIL FROM:<a@example.net>\r\nRCPT TO:<unknown@example.org>\r\nRSET\r\n', '250 2.0.0');
  await talker.say('MAIL FROM:<a@example.net>\r\nRCPT TO:<later@example.org>\r\nRSET\r\n', '250 2.0.0');
  await talker.say(`${envelope}RSET\r\n`, '250 2.0.0');
  await talker.say(`${envelope}RCPT TO:<unknown@example.org>\r\nDATA\r\n`, '354');
  await talker.say('Subject: X-Quarantine\r\nMessage-ID: <m@x>\r\n\r\n.\r\n', '250');
  await talker.say(`${envelope}DATA\r\n`, '354');
  await talker.say('EICAR\r\n.\r\n', '554');
  await talker.say(`${envelope}DATA\r\n`, '354');
  talker.socket.write('half a mess');
  await talker.end();
  await eventually(() => fixture.logged.some(entry => entry.event === 'smtp-session'));
  const plain = ({ id, outcome, reply, recipients }: TraceRecord) => [
    id,
    outcome,
    reply,
    recipients.map(each => `${each.address} ${each.outcome}`).join(', '),
  ];
  t.same(fixture.traces.map(plain), [
    ['Q1', 'rejected', '550 5.7.1 Go 250 2.0.0 away ', ''],
    ['Q2', 'rejected', '550 5.1.1 No such user', 'unknown@example.org rejected'],
    ['Q3', 'deferred', '451 4.7.1 Greylisted, try again', 'later@example.org deferred'],
    ['Q4', 'aborted', '', 'b@example.org aborted'],
    ['Q5', 'quarantined', '250 2.0.0 Ok: queued as Q5', 'b@example.org delivered, unknown@example.org rejected'],
    ['Q6', 'rejected', '554 5.7.1 Virus found', 'b@example.org rejected'],
    ['Q7', 'aborted', '', 'b@example.org aborted'],
  ]);
  t.ok(
    fixture.traces[4]?.steps.some(step => step.hook === 'rcpt'),
    'steps are the chain’s',
  );
  const sessions = fixture.logged.filter(entry => entry.event === 'smtp-session');
  t.match(sessions, [
    { fields: { helo: 'client.example', transactions: 7, messages: 1, recipients: 1, end: 'client left' } },
  ]);
  await fixture.close();
});

t.test(
  '1,000 connections dropped at every stage leave no session, timer, file or handle',
  { timeout: 280_000 },
  async t => {
    const fixture = await startFixture({
      certificate: true,
      listener: {
        tls: 'starttls',
        spoolAbove: 100,
        maxSize: 1_000_000,
        limits: { connectionsPerAddress: 5000, connectionsPerNetwork: 5000, connections: 5000 },
      },
    });
    const big = `Subject: x\r\n\r\n${'x'.repeat(400)}\r\n`.repeat(10);
    const stages: readonly (readonly [string, string])[] = [
      ['', '220'],
      ['EHLO x\r\n', '250'],
      ['EHLO x\r\nMAIL FROM:<a@example.net>\r\n', '250 2.1.0'],
      [`EHLO x\r\n${envelope}`, '250 2.1.5'],
      [`EHLO x\r\n${envelope}DATA\r\n`, '354'],
      [`EHLO x\r\n${envelope}DATA\r\n${big}`, '354'],
      [`EHLO x\r\n${envelope}DATA\r\n${big}.\r\n`, '354'],
      [`EHLO x\r\n${envelope}BDAT 5000\r\n${big}`, '250 2.1.5'],
      ['EHLO x\r\nSTARTTLS\r\n', '220 2.0.0'],
      ['EHLO x\r\nSTARTTLS\r\nnot a handshake at all', '220 2.0.0'],
    ];
    const knock = async (index: number): Promise<void> => {
      const [text, code] = stages[index % stages.length] ?? ['', '220'];
      const talker = new Talker(fixture);
      await talker.until('220');
      if (text !== '') await talker.say(text, code);
      if (index % 3 === 0) talker.socket.resetAndDestroy();
      else if (index % 3 === 1) talker.socket.destroy();
      else talker.socket.end();
      await talker.gone();
    };
    for (let start = 0; start < 1000; start += 50)
      await Promise.all(Array.from({ length: 50 }, (_, index) => knock(start + index)));
    await eventually(() => fixture.server.sessions() === 0);
    await eventually(async () => (await fixture.spooled()).length === 0);
    t.equal(fixture.chain.live, 0, 'chain sessions');
    t.equal(fixture.logged.filter(entry => entry.event === 'smtp-session').length, 1000);
    t.same(
      fixture.logged.filter(entry => entry.level === 'error').map(entry => String(entry.fields['err'])),
      [],
    );
    await fixture.close();
    const left = () => process.getActiveResourcesInfo().filter(name => /TCP|TLS|FileHandle/.test(name));
    await until(() => left().length === 0, 'all handles to close');
  },
);

t.test('graceful stop: idle sessions hear 421, a transaction finishes, new ones are refused', async t => {
  let release = (): void => undefined;
  const fixture = await startFixture();
  fixture.chain.messageGate = new Promise(resolve => {
    release = resolve;
  });
  const idle = await opened(fixture);
  const inMail = await opened(fixture);
  await inMail.say(envelope, '250 2.1.5');
  const working = await opened(fixture);
  await working.say(`${envelope}DATA\r\n`, '354');
  working.socket.write('Subject: x\r\n\r\n.\r\n');
  await eventually(() => fixture.traces.length === 0 && fixture.server.sessions() === 3);
  const closed = fixture.server.close(60_000);
  t.match(await idle.until('421'), /^421 4\.3\.2 /);
  const refused = connect(fixture.server.address.port, '127.0.0.1');
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
  t.equal(error.code, 'ECONNREFUSED');
  release();
  t.match(await working.until('421'), /^250 2\.0\.0 Ok: queued as Q\d\r\n421 4\.3\.2 /);
  await inMail.say('DATA\r\n', '354');
  t.match(await inMail.say('Subject: x\r\n\r\n.\r\n', '421'), /^250 .*\r\n421 4\.3\.2 /);
  await closed;
  t.equal(fixture.server.sessions(), 0);
  await fixture.close();
});

t.test('grace runs out: what is left is cut, the message is not half-delivered', async t => {
  const fixture = await startFixture();
  fixture.chain.messageGate = new Promise(() => undefined);
  const talker = await opened(fixture);
  await talker.say(`${envelope}DATA\r\n`, '354');
  talker.socket.write('Subject: x\r\n\r\n.\r\n');
  await fixture.server.close(20);
  await talker.end();
  t.equal(fixture.chain.live, 0);
  await fixture.close();
});

t.test('a client that leaves while its message is judged: nothing is settled', async t => {
  let settled = 0;
  let release = (): void => undefined;
  const fixture = await startFixture({
    settle: async (_request: SettleRequest): Promise<Settlement> => {
      settled++;
      return { reply: { code: 250, enhanced: '2.0.0', text: 'Ok' }, perRecipient: [], recipients: [] };
    },
  });
  fixture.chain.messageGate = new Promise(resolve => {
    release = resolve;
  });
  const talker = await opened(fixture);
  await talker.say(`${envelope}DATA\r\n`, '354');
  talker.socket.write('Subject: x\r\n\r\n.\r\n');
  await eventually(() => talker.socket.bytesWritten > 0 && talker.socket.writableLength === 0);
  for (let turn = 0; turn < 20; turn++) await new Promise(resolve => setImmediate(resolve));
  await talker.end();
  await eventually(() => fixture.server.sessions() === 0);
  release();
  await eventually(() => fixture.traces.length === 1);
  t.match(fixture.traces, [{ outcome: 'aborted' }]);
  t.equal(settled, 0);
  await fixture.close();
});

t.test('a settle that throws is 451', async t => {
  const fixture = await startFixture({
    settle: async () => {
      throw new Error('state store is gone');
    },
  });
  const talker = await opened(fixture);
  await talker.say(`${envelope}DATA\r\n`, '354');
  t.match(await talker.say('Subject: x\r\n\r\n.\r\n', '451'), /^451 4\.3\.0 /);
  await talker.say('NOOP\r\n', '250');
  t.match(fixture.traces, [{ outcome: 'deferred' }]);
  await talker.end();
  await fixture.close();
});

t.test('a client that does not read its replies is not served on', async t => {
  const fixture = await startFixture({ listener: { limits: { idleCommands: 1_000_000 } } });
  const socket = connect(fixture.server.address.port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.pause();
  const lines = Buffer.from('EHLO x\r\n'.repeat(100_000));
  let taken = 0;
  while (taken < 200 && socket.write(lines)) taken++;
  const before = process.memoryUsage().rss;
  for (let turn = 0; turn < 200; turn++) await new Promise(resolve => setImmediate(resolve));
  t.ok(process.memoryUsage().rss - before < 200_000_000, 'memory stays bounded');
  socket.destroy();
  await eventually(() => fixture.server.sessions() === 0);
  await fixture.close();
});

t.test('how the network cuts a session does not matter', async t => {
  const session =
    'EHLO c\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\nline\r\n.\r\n' +
    'MAIL FROM:<a@example.net>\r\nRCPT TO:<unknown@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 12\r\nSubject: y\r\nBDAT 6 LAST\r\n\r\n.\r\n\n\r\n' +
    'NOOP\r\nBOGUS\r\nQUIT\r\n';
  // Pseudo-random, the same in every run.
  let seed = 12345;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  const play = async (cut: (left: number) => number): Promise<string> => {
    const fixture = await startFixture();
    const talker = new Talker(fixture);
    await talker.until('220');
    for (let at = 0; at < session.length; ) {
      const size = cut(session.length - at);
      await new Promise<void>(resolve => talker.socket.write(session.slice(at, at + size), 'latin1', () => resolve()));
      await new Promise(resolve => setImmediate(resolve));
      at += size;
    }
    const answer = await talker.until('221');
    await talker.end();
    await fixture.close();
    return (
      answer +
      fixture.chain.messages
        .map(({ bytes }) => bytes.toString('latin1').replace(/^Received:.*\r\n(?:[ \t].*\r\n)*/, ''))
        .join('|')
    );
  };
  const whole = await play(left => left);
  t.match(whole, /Subject: x\r\n\r\n\.dot\r\nline\r\n/);
  for (let run = 0; run < 30; run++) t.equal(await play(left => Math.min(left, 1 + random(run < 3 ? 1 : 40))), whole);
});
