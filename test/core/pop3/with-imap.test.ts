import { connect } from 'node:net';
import Pop3Client from 'node-pop3';
import { pino } from 'pino';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { createPop3Server } from '../../../core/pop3/server.ts';
import { testAccounts } from '../../harness/accounts.ts';
import { ImapClient } from '../../harness/imap-client.ts';
import { startImap } from '../imap/imap-fixture.ts';

t.test('POP3 and IMAP at once on one mailbox', async t => {
  const imap = await startImap();
  const accounts = testAccounts(imap.folder);
  const complaints: string[] = [];
  // The IMAP fixture's accounts are bare names; both servers must mean the same Maildir.
  const pop3 = createPop3Server({
    listener: { name: 'pop3', target: { host: '127.0.0.1', port: 0 }, tls: 'none', allowPlaintextAuth: true },
    hostname: 'mail.test',
    directory: {
      ...accounts.directory,
      authenticate: async () => ({ kind: 'ok', account: { name: 'alice', disabled: false } }),
    },
    store: imap.store,
    log: pino({ level: 'warn' }, { write: (line: string) => complaints.push(line) }),
    clock: systemClock,
  });
  await pop3.listen();
  t.teardown(async () => {
    await pop3.close(1000);
    await accounts.close();
    await imap.close();
  });
  const pop = () => new Pop3Client({ host: '127.0.0.1', port: pop3.address.port, user: 'alice', password: 'secret' });
  const client = new ImapClient(connect(imap.port, '127.0.0.1'));
  await client.line();
  await client.ok('LOGIN alice secret');
  for (let n = 1; n <= 4; n++) await client.ok('APPEND INBOX {}', Buffer.from(`Subject: ${n}\r\n\r\nbody ${n}\r\n`));
  await client.ok('SELECT INBOX');

  const first = pop();
  t.equal((await first.UIDL()).length, 4);
  const read = await first.RETR(2);
  await first.command('DELE', '1');
  await client.ok('APPEND INBOX {}', Buffer.from('Subject: 5\r\n\r\nbody 5\r\n'));
  t.equal((await first.UIDL()).length, 3, 'what comes later is for the next session');
  await client.ok('UID STORE 3 +FLAGS (\\Deleted)');
  await client.ok('UID EXPUNGE 3');
  await t.rejects(first.RETR(3), { message: /gone/ });
  await first.QUIT();

  const { untagged } = await client.ok('NOOP');
  t.ok(
    untagged.some(line => line[1] === 'EXPUNGE'),
    'IMAP hears that POP3 removed a message',
  );
  const answer = await client.ok('UID FETCH 1:* (FLAGS)');
  const flags = new Map(
    answer.untagged.flatMap(line => {
      const items = line[2] as readonly unknown[] | undefined;
      if (line[1] !== 'FETCH' || items === undefined) return [];
      return [[items[items.indexOf('UID') + 1], items[items.indexOf('FLAGS') + 1] as readonly string[]] as const];
    }),
  );
  t.same([...flags.keys()], ['2', '4', '5']);
  t.equal(read.includes('body 2'), flags.get('2')?.includes('\\Seen'), 'what POP3 fetched is seen');
  t.notOk(flags.get('4')?.includes('\\Seen'));

  const second = pop();
  t.same(
    (await second.UIDL()).map(([, id]) => id?.split('.')[1]),
    ['2', '4', '5'],
    'one UID in both protocols',
  );
  await second.QUIT();
  client.close();
  t.same(complaints, []);
});
