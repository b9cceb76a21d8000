// ENVELOPE and BODYSTRUCTURE of real messages as a real Dovecot tells them, for the same files.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import t from 'tap';
import { startImap } from '../core/imap/imap-fixture.ts';
import { type CorpusMessage, corpusMessages } from '../harness/corpus.ts';
import { requireEngines } from '../harness/engine.ts';
import { fetched, ImapClient, type ImapValue } from '../harness/imap-client.ts';

const nobody = { uid: 65534, gid: 65534 };

/** Dovecot's imap process as it runs behind its login process, but on a pipe and for one Maildir. */
async function startDovecot(
  messages: readonly CorpusMessage[],
): Promise<{ client: ImapClient; stop(): Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-dovecot-'));
  const asNobody = process.getuid?.() === 0 ? nobody : undefined;
  const own = (name: string): void => {
    if (asNobody) chownSync(name, asNobody.uid, asNobody.gid);
  };
  own(folder);
  for (const name of ['', '/cur', '/new', '/tmp']) {
    mkdirSync(`${folder}/Maildir${name}`);
    own(`${folder}/Maildir${name}`);
  }
  messages.forEach(({ bytes }, index) => {
    const file = `${folder}/Maildir/cur/${1_000_000 + index}.M${index}P1.test:2,`;
    writeFileSync(file, bytes);
    own(file);
  });
  const settings = {
    base_dir: `${folder}/run`,
    state_dir: `${folder}/run`,
    log_path: '/dev/null',
    ssl: 'no',
    mail_location: `maildir:${folder}/Maildir`,
    first_valid_uid: '1',
    stats_writer_socket_path: '',
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
  writeFileSync(`${folder}/dovecot.conf`, `${lines.join('')}namespace inbox {\n  inbox = yes\n  separator = /\n}\n`);
  const child: ChildProcess = spawn('/usr/lib/dovecot/imap', ['-c', `${folder}/dovecot.conf`], {
    ...asNobody,
    cwd: folder,
    env: { HOME: folder, USER: 'nobody', PATH: process.env['PATH'] },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  // It writes its index at the end.
  const ended = once(child, 'exit');
  if (!child.stdin || !child.stdout) throw new Error('No pipes');
  const client = new ImapClient(Duplex.from({ readable: child.stdout, writable: child.stdin }));
  await client.line();
  return {
    client,
    async stop() {
      child.kill();
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

t.test('as Dovecot tells it', async t => {
  if (!requireEngines(t, 'ENVELOPE and BODYSTRUCTURE beside Dovecot', 'dovecot')) return;
  const messages = corpusMessages(500);
  const dovecot = await startDovecot(messages);
  t.teardown(() => dovecot.stop());
  const postern = await startImap();
  t.teardown(() => postern.close());
  const client = new ImapClient(connect(postern.port, '127.0.0.1'));
  await client.line();
  await client.ok('LOGIN alice secret');
  for (const { bytes } of messages) await client.ok('APPEND INBOX {}', bytes);
  const items = ['ENVELOPE', 'BODYSTRUCTURE', 'BODY'];
  await dovecot.client.ok('SELECT INBOX');
  await client.ok('SELECT INBOX');
  const theirs = fetched(await dovecot.client.ok(`FETCH 1:* (${items.join(' ')})`));
  const ours = fetched(await client.ok(`FETCH 1:* (${items.join(' ')})`));
  t.equal(ours.size, messages.length);
  const found: string[] = [];
  let allowed = 0;
  messages.forEach(({ name }, index) => {
    for (const item of items) {
      const [our, their] = [ours, theirs].map(answers => normal(answers.get(index + 1)?.get(item) ?? null, item));
      for (const pair of differences(our ?? null, their ?? null)) {
        if (allowedDifferences.some(({ holds }) => holds(...pair))) allowed += 1;
        else found.push(`${name} ${item}: ours ${JSON.stringify(pair[0])} theirs ${JSON.stringify(pair[1])}`);
      }
    }
  });
  t.comment(`${messages.length} messages, ${allowed} values differ as explained`);
  t.strictSame(found, [], 'nothing else differs');
  client.close();
});

const has = (value: ImapValue, pattern: RegExp): boolean => pattern.test(JSON.stringify(value));

/** Where we answer otherwise, and why. */
const allowedDifferences: readonly { readonly why: string; holds(our: ImapValue, their: ImapValue): boolean }[] = [
  {
    why: 'An address that RFC 5322 §3.4 does not allow: Dovecot names the error in it, we tell what stands there',
    holds: (_, their) => has(their, /SYNTAX_ERROR|MISSING_MAILBOX|MISSING_DOMAIN/),
  },
  {
    why: 'The same: Dovecot stops at the space',
    holds: (our, their) => our === 'Undisclosed Recipients' && their === 'Undisclosed',
  },
  {
    why: 'The same: with two @ we split at the last, Dovecot at the first',
    holds: (our, their) =>
      has([our, their], /^."oolas@Cybertizens","oolas".$|^."ndtuftrzzsglsvnz@uksyz","ndtuftrzzsglsvnz".$/) ||
      has([our, their], /^."msn.net","Cybertizens".$|^."21cn.com","uksyz".$/),
  },
  {
    why: 'A display name with a bare @, forbidden by RFC 5322 §3.2.3 but used: Dovecot drops it',
    holds: (our, their) => their === null && has(our, /^"[^"@]+@[^"@]+"$/),
  },
  {
    why: 'The same error: "Undisclosed-Recipient:;" as a local part, where Dovecot drops the name',
    holds: (our, their) => has([our, their], /^."(?:Undisclosed-Recipient|;)",(?:null|"Undisclosed-Recipient").$/),
  },
  {
    why: 'Content-Transfer-Encoding without MIME-Version (RFC 2045 §4): Dovecot ignores it, and for 8bit it is all one',
    holds: (our, their) => our === '8bit' && their === '7bit',
  },
];

/**
 * What is the same: runs of white space in unfolded fields (RFC 5322 §2.2.3 removes only the line end, Dovecot all but
 * one space), and the case of types, encodings and parameters (RFC 2045 §5.1, §6.1).
 */
function normal(value: ImapValue, item: string): ImapValue {
  if (value === null) return null;
  if (typeof value !== 'string') return value.map(part => normal(part, item));
  const text = value.replace(/[ \t]+/g, ' ').trim();
  return item === 'ENVELOPE' ? text : text.toLowerCase();
}

/** The innermost values that differ. */
function differences(our: ImapValue, their: ImapValue): readonly (readonly [ImapValue, ImapValue])[] {
  if (!Array.isArray(our) || !Array.isArray(their) || our.length !== their.length)
    return JSON.stringify(our) === JSON.stringify(their) ? [] : [[our, their]];
  return our.flatMap((value, index) => differences(value as ImapValue, (their[index] ?? null) as ImapValue));
}
