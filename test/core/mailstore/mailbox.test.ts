import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import type { Mailbox } from '../../../core/mailstore/mailbox.ts';
import { mail, openStore, rope } from './store-harness.ts';

const text = async (box: Mailbox, at: number): Promise<string> => {
  const record = box.records[at];
  const message = record && (await box.message(record.uid));
  return message ? (await message.bytes()).toString() : '';
};

t.test('a message goes in by delivery and by APPEND, and out again', async t => {
  const { store, at } = openStore(t);
  t.strictSame(await store.deliver(rope(mail('one')), [{ user: 'alice' }]), [{ kind: 'stored' }]);
  t.equal(readdirSync(at('new')).length, 1);
  t.strictSame(readdirSync(at('tmp')), []);
  const user = await store.user('alice');
  const status = await user.status('inbox');
  t.match(status, { messages: 1, unseen: 1, recent: 1, uidNext: 2, size: mail('one').length });
  t.equal(readdirSync(at('new')).length, 1, 'STATUS leaves new mail in new/');
  const box = await user.open('INBOX');
  t.equal(readdirSync(at('new')).length, 0);
  t.strictSame(box.claimRecent(), [1]);
  t.strictSame(box.claimRecent(), []);
  t.equal(await text(box, 0), mail('one'));
  const source = mail('two');
  const uid = await box.append(rope(source), source.length, {
    flags: 1,
    keywords: ['$Forwarded'],
    internalDate: 1_600_000_000_000,
  });
  t.equal(uid, 2);
  t.match(box.records[1], {
    uid: 2,
    flags: 1,
    keywords: ['$Forwarded'],
    size: source.length,
    internalDate: 1_600_000_000_000,
  });
  t.equal(await text(box, 1), source);
  const before = box.highestModseq;
  const view = box.records;
  t.strictSame(
    await box.store(
      [box.records[0]?.uid, uid].map(one => one as typeof uid),
      { mode: 'add', flags: 8, keywords: ['Work'] },
    ),
    {
      modified: [],
    },
  );
  t.equal(view[0]?.flags, 0, 'an old view does not change');
  t.match(box.records, [
    { flags: 8, keywords: ['Work'] },
    { flags: 9, keywords: ['$Forwarded', 'Work'] },
  ]);
  t.match(box.changesSince(before), { changed: [{ uid: 1 }, { uid: 2 }], vanished: [] });
  t.strictSame(await box.store([uid], { mode: 'add', flags: 2, keywords: [] }, before), { modified: [uid] });
  t.strictSame(await box.store([uid], { mode: 'remove', flags: 8, keywords: ['work'] }), { modified: [] });
  t.strictSame(await box.expunge(), [1]);
  t.match(box.changesSince(before), { changed: [{ uid: 2, keywords: ['$Forwarded'] }], vanished: [1] });
  t.match(readFileSync(at('dovecot-uidlist'), 'utf8'), /^3 V\d+ N2 G[0-9a-f]{32}\n1 :\S+\n2 :\S+,S=\d+,W=\d+\n$/);
  t.equal(readFileSync(at('dovecot-keywords'), 'utf8'), '0 $Forwarded\n1 Work\n');
  await box.close();
  await box.close();
  t.match(await user.status('INBOX'), { messages: 1, unseen: 0, recent: 1, uidNext: 3 });
  user.release();
});
