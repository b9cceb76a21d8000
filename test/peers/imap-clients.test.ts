// Programs that people use, against our server: imapflow, curl, mbsync both ways, offlineimap, fetchmail, mutt.
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { ImapFlow } from 'imapflow';
import t from 'tap';
import { type FixtureOptions, type ImapFixture, startImap } from '../core/imap/imap-fixture.ts';
import { nestedMessage, plainMessage } from '../core/imap/sample-messages.ts';
import { findEngine, requireEngines } from '../harness/engine.ts';
import { fetched, ImapClient } from '../harness/imap-client.ts';

const run = promisify(execFile);
const bounded = { timeout: 120_000, killSignal: 'SIGKILL' } as const;

interface Reporter {
  teardown(end: () => unknown): unknown;
}

async function start(t: Reporter, options: FixtureOptions = {}): Promise<ImapFixture> {
  const fixture = await startImap(options);
  t.teardown(async () => {
    await fixture.close();
    if (fixture.complaints.length > 0) throw new Error(`The server complained: ${fixture.complaints.join('')}`);
  });
  return fixture;
}

function workFolder(t: Reporter): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-client-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function login({ port }: ImapFixture): Promise<ImapClient> {
  const client = new ImapClient(connect(port, '127.0.0.1'));
  await client.line();
  await client.ok('LOGIN alice secret');
  return client;
}

async function fill(fixture: ImapFixture, count: number): Promise<ImapClient> {
  const client = await login(fixture);
  for (let n = 1; n <= count; n += 1) await client.ok('APPEND INBOX {}', Buffer.from(plainMessage(n)));
  return client;
}

t.test('imapflow', async t => {
  const fixture = await start(t, { withTls: true, listener: { tls: 'starttls', allowPlaintextAuth: false } });
  const client = new ImapFlow({
    host: '127.0.0.1',
    port: fixture.port,
    secure: false,
    doSTARTTLS: true,
    tls: { rejectUnauthorized: false },
    auth: { user: 'alice', pass: 'secret' },
    logger: false,
    qresync: true,
  });
  await client.connect();
  await client.mailboxCreate(['Archive', 'Jahr ÄÖÜ']);
  const appended = await client.append('INBOX', Buffer.from(nestedMessage, 'latin1'), ['\\Flagged']);
  t.match(appended, { uid: 1 });
  t.strictSame((await client.list()).map(box => box.path).sort(), ['Archive', 'Archive/Jahr ÄÖÜ', 'INBOX']);
  const lock = await client.getMailboxLock('INBOX');
  try {
    const message = await client.fetchOne('1', { source: true, envelope: true, bodyStructure: true, flags: true });
    if (!message) throw new Error('No message');
    t.equal(message.source?.toString('latin1'), nestedMessage);
    t.equal(message.envelope?.subject, 'Grüße');
    t.equal(message.envelope?.from?.[0]?.name, 'Jürgen');
    t.strictSame(
      message.bodyStructure?.childNodes?.map(node => node.type),
      ['multipart/alternative', 'message/rfc822', 'application/octet-stream'],
    );
    const { content } = await client.download('1', '1.1');
    if (!content) throw new Error('No content');
    const chunks: Buffer[] = [];
    for await (const chunk of content) chunks.push(chunk as Buffer);
    t.equal(Buffer.concat(chunks).toString('utf8'), 'Schöne Grüße');
    t.strictSame(await client.search({ subject: 'grüße' }), [1]);
    t.ok(await client.messageFlagsAdd('1', ['\\Seen', '$Done']));
    t.match(await client.fetchOne('1', { flags: true }), { flags: new Set(['\\Flagged', '\\Seen', '$Done']) });
    const told = new Promise<{ count: number }>(resolve => client.once('exists', resolve));
    const idling = client.idle();
    const other = await fill({ ...fixture, port: (await secondListener(t, fixture)).port }, 1);
    t.equal((await told).count, 2, 'heard while idling');
    other.close();
    await client.noop();
    await idling;
    const moved = await client.messageMove('2', 'Archive/Jahr ÄÖÜ');
    t.match(moved, { uidMap: new Map([[2, 1]]) });
    const status = await client.status('Archive/Jahr ÄÖÜ', { messages: true, unseen: true });
    t.match(status, { messages: 1, unseen: 1 });
    const vanished = new Promise<{ uid?: number }>(resolve => client.once('expunge', resolve));
    t.ok(await client.messageDelete('1'));
    t.match(await vanished, { uid: 1, vanished: true }, 'by UID');
    t.match(await client.status('INBOX', { messages: true }), { messages: 0 });
    t.ok(await client.getQuota('INBOX'));
  } finally {
    lock.release();
  }
  await client.mailboxRename('Archive', 'Ablage');
  await client.mailboxDelete('Ablage/Jahr ÄÖÜ');
  await client.logout();
});

/** A second way into the same store, as several listeners of one gateway have it: in plain text on loopback. */
async function secondListener(t: Reporter, { store }: ImapFixture): Promise<ImapFixture> {
  const fixture = await startImap({ store });
  t.teardown(() => fixture.server.close(1000));
  return fixture;
}

t.test('curl', async t => {
  if (!requireEngines(t, 'IMAP with curl', 'curl')) return;
  const fixture = await start(t, { withTls: true, listener: { tls: 'implicit', allowPlaintextAuth: false } });
  const folder = workFolder(t);
  const file = path.join(folder, 'message.eml');
  writeFileSync(file, plainMessage(7));
  const url = `imaps://127.0.0.1:${fixture.port}`;
  const curl = async (...args: readonly string[]): Promise<string> => {
    const { stdout } = await run('curl', ['-sS', '-k', '-u', 'alice:secret', ...args], bounded);
    return stdout;
  };
  await curl('-T', file, `${url}/INBOX`);
  t.equal(await curl(`${url}/INBOX;UID=1`), plainMessage(7));
  t.match(await curl(`${url}/INBOX`, '-X', 'SEARCH SUBJECT 7'), /^\* SEARCH 1\r\n/);
  t.match(await curl(`${url}/`), /^\* LIST \(\\HasNoChildren\) "\/" INBOX\r\n$/);
  t.match(await curl(`${url}/INBOX;MAILINDEX=1;SECTION=TEXT`), /Body 7/);
  await t.rejects(curl(`${url}/Nowhere;UID=1`));
});

function mbsyncConfig(folder: string, port: number): string {
  const file = path.join(folder, 'mbsyncrc');
  writeFileSync(
    file,
    `IMAPAccount a\nHost 127.0.0.1\nPort ${port}\nUser alice\nPass secret\nSSLType None\nAuthMechs PLAIN\n\n` +
      `IMAPStore far\nAccount a\n\nMaildirStore near\nPath ${folder}/mail/\nInbox ${folder}/mail/INBOX\nSubFolders Verbatim\n\n` +
      'Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nRemove Both\nSyncState *\nCopyArrivalDate yes\n',
  );
  mkdirSync(path.join(folder, 'mail'));
  return file;
}

t.test('mbsync in both directions', async t => {
  if (!requireEngines(t, 'IMAP with mbsync', 'mbsync')) return;
  const fixture = await start(t);
  const folder = workFolder(t);
  const config = mbsyncConfig(folder, fixture.port);
  const client = await fill(fixture, 30);
  await client.ok('CREATE Work/&ZeVnLIqe-');
  await client.ok('SELECT INBOX');
  await client.ok('COPY 1:5 Work/&ZeVnLIqe-');
  const sync = () => run('mbsync', ['-c', config, '-a', '-q'], bounded);
  await sync();
  const near = (box: string): readonly string[] =>
    ['cur', 'new'].flatMap(sub =>
      readdirSync(`${folder}/mail/${box}/${sub}`).map(name => `${folder}/mail/${box}/${sub}/${name}`),
    );
  t.equal(near('INBOX').length, 30);
  t.equal(near('Work/&ZeVnLIqe-').length, 5);
  const bodies = near('INBOX').map(name =>
    readFileSync(name, 'latin1')
      .replace(/X-TUID: .*\r?\n/, '')
      .replace(/\r?\n/g, '\r\n'),
  );
  t.ok(bodies.includes(plainMessage(30)), 'byte for byte but for the tool’s own line ends');
  // Changes on both sides.
  for (const name of near('INBOX').slice(0, 3)) {
    const base = path.basename(name);
    renameSync(
      name,
      `${folder}/mail/INBOX/cur/${base.includes(':2,') ? base.replace(/:2,.*/, ':2,FS') : `${base}:2,FS`}`,
    );
  }
  writeFileSync(`${folder}/mail/INBOX/new/local.1`, plainMessage(99).replace(/\r/g, ''));
  await client.ok('STORE 20:24 +FLAGS.SILENT (\\Deleted)');
  await client.ok('EXPUNGE');
  await client.ok('CREATE Fresh');
  await sync();
  await sync();
  t.equal(near('INBOX').length, 26);
  await client.ok('NOOP');
  t.equal((await client.ok('SEARCH FLAGGED SEEN')).untagged[0]?.length, 1 + 3);
  t.equal((await client.ok('SEARCH SUBJECT "Message 99"')).untagged[0]?.length, 2);
  t.strictSame(near('Fresh'), []);
  client.close();
});

t.test('offlineimap', async t => {
  if (!requireEngines(t, 'IMAP with offlineimap', 'offlineimap')) return;
  const fixture = await start(t);
  const folder = workFolder(t);
  const client = await fill(fixture, 10);
  await client.ok('CREATE Sub/Folder');
  writeFileSync(
    `${folder}/rc`,
    `[general]\naccounts = a\nmetadata = ${folder}/meta\nui = quiet\n[Account a]\nlocalrepository = l\nremoterepository = r\n` +
      `[Repository l]\ntype = Maildir\nlocalfolders = ${folder}/mail\n` +
      `[Repository r]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = ${fixture.port}\nremoteuser = alice\nremotepass = secret\nssl = no\nstarttls = no\nauth_mechanisms = PLAIN\n`,
  );
  const sync = () =>
    run('offlineimap', ['-c', `${folder}/rc`, '-o'], { ...bounded, env: { ...process.env, HOME: folder } });
  await sync();
  t.equal(readdirSync(`${folder}/mail/INBOX/new`).length + readdirSync(`${folder}/mail/INBOX/cur`).length, 10);
  t.ok(readdirSync(`${folder}/mail`).includes('Sub.Folder'));
  writeFileSync(`${folder}/mail/INBOX/new/123.local`, plainMessage(50).replace(/\r/g, ''));
  await sync();
  t.match(await client.ok('STATUS INBOX (MESSAGES)'), { untagged: [['STATUS', 'INBOX', ['MESSAGES', '11']]] });
  client.close();
});

t.test('fetchmail', async t => {
  if (!requireEngines(t, 'IMAP with fetchmail', 'fetchmail')) return;
  const fixture = await start(t);
  const folder = workFolder(t);
  const client = await fill(fixture, 5);
  const rc = `${folder}/rc`;
  writeFileSync(
    rc,
    `poll 127.0.0.1 protocol imap port ${fixture.port} username alice password secret sslproto "" mda "cat >> ${folder}/got; echo ======== >> ${folder}/got"\n`,
    { mode: 0o600 },
  );
  await run('fetchmail', ['-f', rc, '--nodetach', '--silent', '--pidfile', `${folder}/pid`], {
    ...bounded,
    env: { ...process.env, HOME: folder, FETCHMAILHOME: folder },
  });
  const got = readFileSync(`${folder}/got`, 'latin1');
  for (let n = 1; n <= 5; n += 1) t.ok(got.includes(`Body ${n}\n`));
  t.match(await client.ok('STATUS INBOX (MESSAGES)'), { untagged: [['STATUS', 'INBOX', ['MESSAGES', '0']]] });
  client.close();
});

t.test('mutt', async t => {
  if (!requireEngines(t, 'IMAP with mutt', 'mutt')) return;
  const fixture = await start(t);
  const folder = workFolder(t);
  const client = await fill(fixture, 4);
  writeFileSync(
    `${folder}/muttrc`,
    `set imap_user=alice\nset imap_pass=secret\nset ssl_starttls=no\nset ssl_force_tls=no\nset folder=imap://127.0.0.1:${fixture.port}/\n` +
      'set spoolfile="+INBOX"\nset delete=yes\nset confirmcreate=no\nset confirmappend=no\nset imap_check_subscribed=no\nset wait_key=no\nset quit=yes\n' +
      'push "<first-entry><flag-message><next-entry><delete-message><last-entry><copy-message>+Kept<enter><sync-mailbox><quit>"\n',
  );
  await underTerminal([findEngine('mutt') ?? 'mutt', '-n', '-F', `${folder}/muttrc`], folder);
  t.match(await client.ok('STATUS INBOX (MESSAGES)'), { untagged: [['STATUS', 'INBOX', ['MESSAGES', '3']]] });
  await client.ok('SELECT INBOX');
  t.equal((await client.ok('SEARCH FLAGGED')).untagged[0]?.[1], '1');
  await client.ok('SELECT Kept');
  t.equal(fetched(await client.ok('FETCH 1:* UID')).size, 1);
  client.close();
});

/** mutt wants a terminal: `script` gives it one. */
async function underTerminal(command: readonly string[], home: string): Promise<void> {
  const child = spawn('script', ['-qec', command.join(' '), '/dev/null'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { ...process.env, HOME: home, TERM: 'xterm', LC_ALL: 'C' },
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), bounded.timeout);
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', code => (code === 0 ? resolve() : reject(new Error(`script ended with ${code}`))));
  });
  clearTimeout(timer);
}
