// Dovecot's pop3 and ours on one Maildir, one after the other: the same sizes, the same UIDLs, the same bytes.
import { spawn } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { createMaildirStore } from '../../core/mailstore/maildir-store.ts';
import { createPop3Server } from '../../core/pop3/server.ts';
import { testAccounts } from '../harness/accounts.ts';
import { corpusMessages } from '../harness/corpus.ts';
import { requireEngines } from '../harness/engine.ts';

const count = 40;
const nobody = { uid: 65534, gid: 65534 };
const asNobody = process.getuid?.() === 0;

/** Everything up to the end. Dovecot, started so, has logged in before it says anything. */
async function answersOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString('latin1');
}

/** Replies without the free text behind +OK and -ERR, which each server words as it likes. */
const comparable = (answers: string): readonly string[] =>
  answers.split('\r\n').map(line => line.replace(/^(\+OK|-ERR)( \d+ (?:\d+|[0-9a-f]{16})$)?.*/, '$1$2'));

t.test('STAT, LIST, UIDL, TOP and RETR as Dovecot answers them', async t => {
  if (!requireEngines(t, 'POP3 beside Dovecot', 'dovecot-pop3')) return;
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-pop3-peer-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const maildir = path.join(folder, 'alice');
  const folders = [folder, maildir, ...['cur', 'new', 'tmp'].map(name => path.join(maildir, name))];
  for (const one of folders.slice(1)) mkdirSync(one);
  const files = corpusMessages(count).map(({ bytes }, index) => {
    const file = path.join(maildir, 'cur', `${1_700_000_000 + index}.M${index}P1.host:2,`);
    writeFileSync(file, bytes);
    return file;
  });
  if (asNobody) for (const one of [...folders, ...files]) chownSync(one, nobody.uid, nobody.gid);
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const commands = [
    'STAT',
    'LIST',
    'UIDL',
    'LIST 3',
    'UIDL 3',
    'LIST 999',
    'DELE 2',
    'DELE 2',
    'STAT',
    'RETR 2',
    'RSET',
    'STAT',
  ];
  const reads = numbers.flatMap(n => [`RETR ${n}`, `TOP ${n} 0`, `TOP ${n} 7`]);
  const script = [...commands, ...reads, 'QUIT'].map(line => `${line}\r\n`).join('');

  writeFileSync(
    path.join(folder, 'dovecot.conf'),
    `base_dir = ${folder}/run\nstate_dir = ${folder}/run\nlog_path = /dev/null\nssl = no\nfirst_valid_uid = 1\n` +
      `mail_location = maildir:${maildir}\nstats_writer_socket_path =\n`,
  );
  const dovecot = spawn('/usr/lib/dovecot/pop3', ['-c', path.join(folder, 'dovecot.conf')], {
    ...(asNobody && nobody),
    cwd: folder,
    env: { HOME: folder, USER: 'nobody', PATH: process.env['PATH'] },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  // Its input stays open until it logs out, or it takes the end of it for a lost connection.
  dovecot.stdin?.write(script);
  const theirs = comparable(await answersOf(dovecot.stdout as AsyncIterable<Buffer>));

  const accounts = testAccounts(folder);
  const store = createMaildirStore({ maildirOf: () => maildir, clock: systemClock });
  const server = createPop3Server({
    listener: { name: 'pop3', target: { host: '127.0.0.1', port: 0 }, tls: 'none', allowPlaintextAuth: true },
    hostname: 'mail.test',
    directory: accounts.directory,
    store,
    log: pino({ level: 'silent' }),
    clock: systemClock,
    options: { uidl: 'dovecot' },
  });
  await server.listen();
  const socket = connect(server.address.port, '127.0.0.1');
  socket.write(`USER alice\r\nPASS secret\r\n${script}`);
  const ours = comparable(await answersOf(socket)).slice(3);
  await server.close(1000);
  await store.close();
  await accounts.close();

  t.ok(theirs.length > 1000, `${theirs.length} lines`);
  const different = theirs.findIndex((line, index) => line !== ours[index]);
  t.equal(
    different,
    -1,
    different < 0 ? 'all the same' : `line ${different}: "${theirs[different]}" and "${ours[different]}"`,
  );
  t.equal(ours.length, theirs.length);
});
