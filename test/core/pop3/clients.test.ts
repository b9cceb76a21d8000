import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import Pop3Client from 'node-pop3';
import t, { type Test } from 'tap';
import { DotStuffer, TopCutter } from '../../../core/pop3/multiline.ts';
import { requireEngines } from '../../harness/engine.ts';
import { fc } from '../../harness/fuzz.ts';
import { Pop3Client as PlainClient } from '../../harness/pop3-client.ts';
import { type Pop3Fixture, type Pop3FixtureOptions, startPop3 } from './pop3-fixture.ts';

const run = promisify(execFile);

async function start(t: Test, options?: Pop3FixtureOptions): Promise<Pop3Fixture> {
  const fixture = await startPop3(options);
  t.teardown(() => fixture.close());
  return fixture;
}

const awkward = 'From: a@example.com\nSubject: dots\n\n.\n..\n.a\n\nlast line without an end';

t.test('curl, with STLS and over implicit TLS, byte for byte', async t => {
  if (!requireEngines(t, 'POP3 with curl', 'curl')) return;
  for (const tls of ['starttls', 'implicit'] as const) {
    const fixture = await start(t, { withTls: true, listener: { tls, allowPlaintextAuth: false } });
    await fixture.deliver(awkward);
    const url = `pop3${tls === 'implicit' ? 's' : ''}://localhost:${fixture.port}/`;
    const curl = async (...more: readonly string[]) =>
      (
        await run(
          'curl',
          [
            '-sS',
            '--insecure',
            ...(tls === 'starttls' ? ['--ssl-reqd'] : []),
            '-u',
            'alice@example.org:secret',
            ...more,
          ],
          { encoding: 'latin1' },
        )
      ).stdout;
    t.equal(await curl(`${url}1`), `${awkward.replaceAll('\n', '\r\n')}\r\n`);
    t.equal(await curl(url), `1 ${awkward.replaceAll('\n', '\r\n').length}\r\n`, 'LIST');
    t.match(await curl('-X', 'UIDL', url), /^1 \d+\.1\r\n$/);
    t.same(fixture.complaints, []);
  }
});

t.test('fetchmail keeps what it has seen, and removes what it has fetched', async t => {
  if (!requireEngines(t, 'POP3 with fetchmail', 'fetchmail')) return;
  const fixture = await start(t, { withTls: true, listener: { allowPlaintextAuth: false } });
  const inbox = path.join(fixture.folder, 'fetched');
  mkdirSync(inbox);
  const rc = path.join(fixture.folder, 'fetchmailrc');
  const fetch = async (keep: string) => {
    writeFileSync(
      rc,
      `poll localhost service ${fixture.port} protocol pop3 uidl user "alice@example.org" password "secret" ${keep}\n` +
        `sslproto "auto" no sslcertck mda "sh -c 'cat > $(mktemp ${inbox}/XXXXXXXX)'"\n`,
    );
    chmodSync(rc, 0o600);
    const options = { env: { ...process.env, HOME: fixture.folder, FETCHMAILHOME: fixture.folder } };
    await run('fetchmail', ['-f', rc, '--idfile', path.join(fixture.folder, 'ids'), '--nosyslog'], options).catch(
      (error: { readonly code?: number; readonly stderr?: string }) => {
        // 1: nothing new.
        if (error.code !== 1) throw new Error(`fetchmail: ${error.stderr}`);
      },
    );
    return readdirSync(inbox).length;
  };
  for (let n = 0; n < 5; n++) await fixture.deliver(`From: a@example.com\nSubject: ${n}\n\n.dot ${n}\n`);
  t.equal(await fetch('keep'), 5);
  t.equal(await fetch('keep'), 5, 'UIDL: nothing twice');
  await fixture.deliver('From: a@example.com\nSubject: new\n\nx\n');
  t.equal(await fetch('no keep fetchall'), 11);
  t.same(await fixture.inbox(), []);
  const fetched = readdirSync(inbox).map(name => readFileSync(path.join(inbox, name), 'latin1'));
  t.equal(fetched.filter(text => /\n\.dot \d/.test(text)).length, 10);
  t.same(fixture.complaints, []);
});

t.test('node-pop3', async t => {
  const fixture = await start(t);
  await fixture.deliver(awkward);
  const client = new Pop3Client({ host: '127.0.0.1', port: fixture.port, user: 'alice', password: 'secret' });
  t.match(await client.UIDL(), [['1', /^\d+\.1$/]]);
  t.match(await client.RETR(1), /^From: a@example\.com/);
  t.match(await client.TOP(1, 0), /dots\r\n/);
  await client.command('DELE', '1');
  await client.QUIT();
  t.same(await fixture.inbox(), []);
});

t.test('a client that reads slowly or not at all costs little memory; others go on', async t => {
  const fixture = await start(t);
  await fixture.deliver(`From: a@example.com\n\n${'0123456789abcdef\n'.repeat(600_000)}`);
  const lazy = connect(fixture.port, '127.0.0.1');
  lazy.pause();
  lazy.write('USER alice\r\nPASS secret\r\nRETR 1\r\n'.padEnd(200_000, 'NOOP\r\n'));
  // Not node-pop3, which waits for ever where the end of the message comes in two pieces.
  const client = await PlainClient.open(fixture.port);
  await client.login('alice', 'secret');
  t.equal((await client.retrieve(1)).length, 23 + 600_000 * 18);
  await client.quit();
  lazy.destroy();
});

t.test('POP3 sees a mailbox that others change at the same time', async t => {
  const fixture = await start(t);
  for (let n = 0; n < 20; n++) await fixture.deliver(`Subject: ${n}\n\nbody ${n}\n`);
  const client = new Pop3Client({ host: '127.0.0.1', port: fixture.port, user: 'alice', password: 'secret' });
  await client.UIDL();
  const mail = await fixture.store.user('alice@example.org');
  const mailbox = await mail.open('INBOX');
  await mailbox.sync();
  const [first, second] = mailbox.records;
  await mailbox.store([first?.uid ?? (0 as never)], { mode: 'add', flags: 8, keywords: [] });
  await mailbox.expunge();
  await mailbox.store([second?.uid ?? (0 as never)], { mode: 'add', flags: 1, keywords: [] });
  await fixture.deliver('Subject: late\n\nx\n');
  await t.rejects(client.RETR(1), { message: /gone/ });
  t.match(await client.RETR(2), /body \d/, 'renamed by its flags, still there');
  t.equal((await client.UIDL()).length, 20, 'numbers stand until the end of the session');
  for (let n = 1; n <= 10; n++) await client.command('DELE', String(n));
  await client.QUIT();
  await mailbox.sync();
  t.equal(mailbox.records.length, 11);
  t.ok(
    mailbox.records.every(record => record.flags === 0),
    'what was not retrieved is not seen',
  );
  await mailbox.close();
  mail.release();
});

t.test('shutdown: an idle session hears of it, a running transfer ends', async t => {
  const fixture = await start(t);
  const idle = connect(fixture.port, '127.0.0.1');
  let heard = '';
  idle.on('data', chunk => {
    heard += chunk;
  });
  await new Promise(resolve => idle.once('data', resolve));
  await fixture.server.close(60_000);
  t.match(heard, /-ERR \[SYS\/TEMP\] Server is going down/);
});

t.test('byte-stuffing undone is the message, however it is cut; TOP is its beginning', async () => {
  const text = fc
    .array(fc.constantFrom('.', '..', '\r\n', '\r\n', 'a', '\n', '\r', 'Subject: x', '\0'), { maxLength: 30 })
    .map(parts => parts.join(''));
  const pieces = (message: string, cuts: readonly number[]): Buffer[] => {
    const points = [...new Set(cuts.map(cut => cut % (message.length + 1)))].sort((a, b) => a - b);
    return [...points, message.length].map((end, index) =>
      Buffer.from(message.slice(points[index - 1] ?? 0, end), 'latin1'),
    );
  };
  fc.assert(
    fc.property(text, fc.array(fc.nat(200), { maxLength: 5 }), (message, cuts) => {
      const stuffer = new DotStuffer();
      const wire =
        Buffer.concat(pieces(message, cuts).flatMap(piece => stuffer.push(piece))).toString('latin1') + stuffer.end();
      const body = wire.slice(0, -3);
      const undone = body.replace(/(^|\n)\./g, '$1');
      return (
        wire.endsWith('.\r\n') && (undone === message || undone === `${message}\r\n`) && !/(^|\n)\.\r?\n/.test(body)
      );
    }),
  );
  fc.assert(
    fc.property(text, fc.array(fc.nat(200), { maxLength: 5 }), fc.nat(5), (message, cuts, count) => {
      const cutter = new TopCutter(count);
      const got = Buffer.concat(pieces(message, cuts).map(piece => cutter.push(piece))).toString('latin1');
      const lines = message.split(/(?<=\n)/);
      const blank = lines.findIndex(line => /^\r*\n$/.test(line));
      return got === (blank < 0 ? message : lines.slice(0, blank + 1 + count).join(''));
    }),
  );
});

t.test('random bytes: every line gets an answer or the connection ends, nothing is logged as an error', async t => {
  const fixture = await start(t, { limits: { maxBadCommands: 1000, maxCommandsBeforeLogin: 1000, maxFailures: 1000 } });
  await fixture.deliver('Subject: x\n\ny\n');
  const word = fc.oneof(
    fc.constantFrom(
      'USER',
      'PASS',
      'alice',
      'secret',
      'AUTH',
      'PLAIN',
      '=',
      '1',
      '-1',
      '99999999999',
      'RETR',
      'TOP',
      'LIST',
      'UIDL',
      'DELE',
      'RSET',
      'CAPA',
      'LANG',
      'UTF8',
      '*',
      'STAT',
      'NOOP',
    ),
    fc.string({ maxLength: 5 }),
  );
  const line = fc.array(word, { maxLength: 4 }).map(words => words.join(' ').replace(/[\r\n]/g, ''));
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 12 }), fc.boolean(), async (lines, loggedIn) => {
      const socket = connect(fixture.port, '127.0.0.1');
      let heard = '';
      socket.on('data', chunk => {
        heard += chunk.toString('latin1');
      });
      const closed = new Promise(resolve => socket.once('close', resolve));
      socket.write(
        Buffer.from(
          [...(loggedIn ? ['USER alice', 'PASS secret'] : []), ...lines, '*', 'QUIT'].map(one => `${one}\r\n`).join(''),
        ),
      );
      await closed;
      return heard.startsWith('+OK') && /(\+OK Bye|-ERR [^\r\n]*)\r\n$/.test(heard);
    }),
    { numRuns: 40 },
  );
  t.same(fixture.complaints, []);
  await fixture.server.close(1000);
  t.equal(fixture.server.sessions(), 0);
});

t.test('a maildrop that cannot be read at login is given back', async t => {
  let open = 0;
  const fixture = await start(t, {
    over: store => ({
      ...store,
      async user(name, options) {
        const mail = await store.user(name, options);
        return {
          ...mail,
          async open(mailbox, how) {
            const opened = await mail.open(mailbox, how);
            open += 1;
            opened.sync = () => Promise.reject(new Error('EIO'));
            const close = opened.close.bind(opened);
            opened.close = () => {
              open -= 1;
              return close();
            };
            return opened;
          },
        };
      },
    }),
  });
  const client = await PlainClient.open(fixture.port);
  await t.rejects(client.login('alice', 'secret'), /-ERR \[SYS\/TEMP\]/);
  await client.quit();
  t.equal(open, 0);
});
