// One Maildir, Postern and a real Dovecot on it at the same time: both deliver, flag, expunge, and always agree.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import t from 'tap';
import { bufferRope } from '../../core/mail/rope.ts';
import type { FlagChange, Mailbox, Uid } from '../../core/mailstore/mailbox.ts';
import { flagBits } from '../../core/mailstore/mailbox.ts';
import { createMaildirStore } from '../../core/mailstore/maildir-store.ts';
import { requireEngines } from '../harness/engine.ts';
import { fetched, ImapClient } from '../harness/imap-client.ts';

const nobody = { uid: 65534, gid: 65534 };
const asNobody = process.getuid?.() === 0;

/** Both programs must own the files, and Dovecot serves nobody as root: so this process is `nobody` too, for a while. */
function becomeNobody(t: { teardown(end: () => unknown): unknown }): void {
  if (!asNobody) return;
  process.setegid?.(nobody.gid);
  process.seteuid?.(nobody.uid);
  t.teardown(() => {
    process.seteuid?.(0);
    process.setegid?.(0);
  });
}

interface Dovecot {
  readonly client: ImapClient;
  complaints(): string[];
  stop(): Promise<void>;
}

async function startDovecot(folder: string): Promise<Dovecot> {
  const settings = {
    base_dir: `${folder}/run`,
    state_dir: `${folder}/run`,
    log_path: '/dev/stderr',
    ssl: 'no',
    mail_location: `maildir:${folder}/alice`,
    first_valid_uid: '1',
    stats_writer_socket_path: '',
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
  writeFileSync(`${folder}/dovecot.conf`, `${lines.join('')}namespace inbox {\n  inbox = yes\n  separator = /\n}\n`);
  if (asNobody) process.seteuid?.(0);
  const child = spawn('/usr/lib/dovecot/imap', ['-c', `${folder}/dovecot.conf`], {
    ...(asNobody && nobody),
    cwd: folder,
    env: { HOME: folder, USER: 'nobody', PATH: process.env['PATH'] },
    stdio: 'pipe',
  });
  const ended = once(child, 'exit');
  if (asNobody) process.seteuid?.(nobody.uid);
  if (!child.stdin || !child.stdout) throw new Error('No pipes');
  const client = new ImapClient(Duplex.from({ readable: child.stdout, writable: child.stdin }));
  await client.line();
  let log = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    log += chunk.toString();
  });
  return {
    client,
    complaints: () => log.split('\n').filter(line => /Error|Warning|Panic/.test(line)),
    // It writes its index at the end.
    async stop() {
      client.close();
      await ended;
    },
  };
}

type View = readonly (readonly [uid: number, flags: string, size: number, date: number])[];

async function theirView(
  client: ImapClient,
  name = 'INBOX',
): Promise<{ readonly view: View; readonly validity: number; readonly next: number }> {
  // Opened anew: what was expunged elsewhere must not be kept from sight.
  const selected = await client.ok(`SELECT "${name}"`);
  const numberIn = (word: string): number =>
    Number(new RegExp(`\\[${word} (\\d+)\\]`).exec(JSON.stringify(selected.untagged))?.[1]);
  const messages = fetched(await client.ok('UID FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE)'));
  const view = [...messages.values()].map(items => {
    const flags = (items.get('FLAGS') as readonly string[]).filter(flag => flag !== '\\Recent');
    const date = Date.parse(String(items.get('INTERNALDATE')));
    return [Number(items.get('UID')), [...flags].sort().join(' '), Number(items.get('RFC822.SIZE')), date] as const;
  });
  return { view, validity: numberIn('UIDVALIDITY'), next: numberIn('UIDNEXT') };
}

async function ourView(
  box: Mailbox,
): Promise<{ readonly view: View; readonly validity: number; readonly next: number }> {
  await box.sync();
  const view = box.records.map(record => {
    const names = Object.entries(flagBits).flatMap(([name, bit]) => (record.flags & bit ? [name] : []));
    const date = Math.floor(record.internalDate / 1000) * 1000;
    return [record.uid, [...names, ...record.keywords].sort().join(' '), record.size, date] as const;
  });
  return { view, validity: box.uidValidity, next: box.uidNext };
}

const message = (subject: string, end = '\r\n'): Buffer =>
  Buffer.from(['From: a@example.org', `Subject: ${subject}`, '', 'Hello', ''].join(end));

const change = (mode: FlagChange['mode'], flags: number, keywords: readonly string[] = []): FlagChange => ({
  mode,
  flags,
  keywords,
});

t.test('a Maildir shared with Dovecot', async t => {
  if (!requireEngines(t, 'A Maildir shared with Dovecot', 'dovecot')) return;
  const base = mkdtempSync(path.join(tmpdir(), 'postern-shared-'));
  if (asNobody) chownSync(base, nobody.uid, nobody.gid);
  const store = createMaildirStore({ maildirOf: user => path.join(base, user), host: 'mx.test' });
  // Last in, first out: as root again before the folder goes.
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  becomeNobody(t);
  t.teardown(() => store.close());
  const user = await store.user('alice');
  const { client: dovecot, complaints, stop } = await startDovecot(base);
  t.teardown(() => stop());
  const box = await user.open('INBOX');
  const agree = async (what: string): Promise<View> => {
    const ours = await ourView(box);
    const theirs = await theirView(dovecot);
    t.strictSame(ours, theirs, what);
    const again = await ourView(box);
    t.strictSame(again, ours, `${what}, also after they looked`);
    return ours.view;
  };
  await agree('empty');

  await store.deliver(bufferRope(message('ours 1')), [{ user: 'alice' }]);
  await dovecot.ok('APPEND INBOX (\\Seen Theirs) {}', message('theirs 1'));
  await store.deliver(bufferRope(message('ours 2')), [{ user: 'alice', flags: 4, keywords: ['Ours'] }]);
  t.equal((await agree('both delivered')).length, 3);

  await dovecot.ok('STORE 1 +FLAGS (\\Answered \\Flagged OneMore)');
  await box.sync();
  await box.store(
    [1, 2].map(uid => uid as Uid),
    change('add', 1, ['theirs', 'NewOfOurs']),
  );
  await agree('both changed flags');
  await dovecot.ok('STORE 2 -FLAGS (Theirs \\Seen)');
  await box.store([3 as Uid], change('replace', 16, ['OneMore']));
  await agree('both took flags away');

  for (let round = 0; round < 30; round++) {
    if (round % 3 === 0) await dovecot.ok('APPEND INBOX {}', message(`theirs ${round}`));
    if (round % 3 === 1) await store.deliver(bufferRope(message(`ours ${round}`)), [{ user: 'alice' }]);
    if (round % 3 === 2) {
      const bytes = message(`appended ${round}`);
      await box.append(bufferRope(bytes), bytes.length, { internalDate: 1_600_000_000_000 + round * 1000 });
    }
    if (round % 7 === 3) {
      const last = box.records.at(-1);
      if (last) await box.store([last.uid], change('add', flagBits['\\Deleted']));
      await dovecot.ok('SELECT INBOX');
      await dovecot.ok('EXPUNGE');
    }
    if (round % 7 === 5) {
      await dovecot.ok('SELECT INBOX');
      await dovecot.ok('STORE * +FLAGS (\\Deleted)');
      await box.sync();
      await box.expunge();
    }
  }
  const view = await agree('after thirty rounds');
  t.ok(view.length > 15);

  // Ours first: Dovecot does not see a folder made by others in the second in which it made one itself.
  await user.create('Entwürfe/Ablage');
  await dovecot.ok('CREATE "Entw&APw-rfe/2026"');
  const other = await user.open('Entwürfe/2026');
  await dovecot.ok('SELECT INBOX');
  await dovecot.ok('COPY 1:3 "Entw&APw-rfe/2026"');
  await other.sync();
  const uids = box.records.slice(3, 7).map(record => record.uid);
  await box.copy(uids.slice(0, 2), other);
  await box.move(uids.slice(2), other);
  t.strictSame(await ourView(other), await theirView(dovecot, 'Entw&APw-rfe/2026'), 'copies of both');
  t.equal(other.records.length, 7);
  await agree('moved away');
  await user.subscribe('Entwürfe/2026', true);
  await dovecot.ok('SUBSCRIBE "Entw&APw-rfe/Ablage"');
  await user.subscribe('INBOX', true);
  const lsub = (await dovecot.ok('LSUB "" *')).untagged.map(line => line.at(-1)).sort();
  t.strictSame(lsub, ['Entw&APw-rfe/2026', 'Entw&APw-rfe/Ablage', 'INBOX']);
  t.strictSame([...(await user.subscriptions())].sort(), ['Entwürfe/2026', 'Entwürfe/Ablage', 'INBOX']);
  const listed = (await dovecot.ok('LIST "" *')).untagged.map(line => line.at(-1)).sort();
  t.strictSame(listed, ['Entw&APw-rfe', 'Entw&APw-rfe/2026', 'Entw&APw-rfe/Ablage', 'INBOX']);
  t.strictSame(
    (await user.list()).map(info => info.name),
    ['INBOX', 'Entwürfe', 'Entwürfe/2026', 'Entwürfe/Ablage'],
  );
  await dovecot.ok('RENAME "Entw&APw-rfe" Drafts');
  t.ok((await user.status('Drafts/2026')).messages === 7);
  await user.rename('Drafts', 'Alt');
  const status = await dovecot.ok('STATUS Alt/2026 (MESSAGES UIDNEXT)');
  t.match(JSON.stringify(status.untagged), /"MESSAGES","7","UIDNEXT","8"/);

  for (const record of box.records.slice(0, 2)) {
    const bytes = await (await box.message(record.uid))?.bytes();
    const theirs = await dovecot.ok(`UID FETCH ${record.uid} BODY.PEEK[]`);
    t.equal(bytes?.toString('latin1'), fetched(theirs).values().next().value?.get('BODY[]'), 'same bytes');
  }

  for (const name of readdirSync(`${base}/alice`).filter(name => name.startsWith('postern-index')))
    rmSync(`${base}/alice/${name}`);
  await box.close();
  await other.close();
  user.release();
  await store.close();
  const reborn = createMaildirStore({ maildirOf: name => path.join(base, name), host: 'mx.test' });
  t.teardown(() => reborn.close());
  const rebornBox = await (await reborn.user('alice')).open('INBOX');
  t.strictSame(await ourView(rebornBox), await theirView(dovecot), 'without the index the UIDs are the same');
  t.strictSame(complaints(), [], 'Dovecot found nothing to complain about');
});
