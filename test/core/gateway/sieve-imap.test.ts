// Rules over mail that is there already, by a whole gateway: scripts that IMAP commands start (RFC 6785) and scripts that a
// client applies (FILTER=SIEVE), programs and lists of the administrator's.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { checkConfig } from '../../../core/gateway.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { startTestGateway, type TestGateway } from '../../harness/gateway.ts';
import { fetched, ImapClient } from '../../harness/imap-client.ts';
import { guardedLogger } from '../../harness/log-guard.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const listeners = `
  - { name: smtp, role: smtp, port: 0, tls: none }
  - { name: imap, role: imap, port: 0, tls: none, allowPlaintextAuth: true }
  - { name: sieve, role: managesieve, port: 0, tls: none, allowPlaintextAuth: true }`;

interface Setup {
  readonly gateway: TestGateway;
  readonly imap: ImapClient;
  put(name: string, script: string, user?: string): Promise<void>;
  append(mailbox: string, text: string, flags?: string): Promise<void>;
  /** `subject [flags]` of each message. */
  show(mailbox: string): Promise<readonly string[]>;
  login(user: string): Promise<ImapClient>;
}

async function setUp(t: Test, sieve = '{}', files: Readonly<Record<string, unknown>> = {}): Promise<Setup> {
  const folder = t.testdir(files as never);
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [auth, relay-policy, recipients, { sieve: ${sieve} } ]
`;
  const gateway = await startTestGateway({ folder, yaml, listeners });
  t.teardown(() => gateway.stop());
  for (const name of ['ann', 'bob']) await gateway.gateway.users.add(`${name}@example.org`, { password: 'secret' });
  const login = async (user: string): Promise<ImapClient> => {
    const client = new ImapClient(connect(gateway.port('imap'), '127.0.0.1'));
    t.teardown(() => client.close());
    await client.line();
    await client.ok(`LOGIN ${user}@example.org secret`);
    return client;
  };
  const imap = await login('ann');
  return {
    gateway,
    imap,
    login,
    put: async (name, script, user = 'ann') =>
      void (await gateway.gateway.scripts.put(`${user}@example.org`, name, Buffer.from(script))),
    async append(mailbox, text, flags = '') {
      await imap.ok(`APPEND ${mailbox} (${flags}) {}`, Buffer.from(text.replace(/\n/g, '\r\n')));
    },
    async show(mailbox) {
      await imap.ok(`EXAMINE ${mailbox}`);
      const answer = await imap.ok('FETCH 1:* (FLAGS ENVELOPE)');
      return [...fetched(answer).values()].map(items => {
        const flags = (items.get('FLAGS') as readonly string[]).filter(flag => flag !== '\\Recent').sort();
        const [, subject] = items.get('ENVELOPE') as readonly string[];
        return `${subject} [${flags.join(' ')}]`;
      });
    },
  };
}

const mail = (subject: string): string => `From: x@example.net\nSubject: ${subject}\n\ntext\n`;

t.test(
  'metadata follows its mailbox; a script that a mailbox names runs at APPEND, COPY, MOVE and changes of flags',
  async t => {
    const at = await setUp(t);
    const { imap } = at;
    const [capability] = (await imap.ok('CAPABILITY')).untagged;
    t.match(capability?.join(' '), / METADATA .*FILTER=SIEVE .*IMAPSIEVE=sieve:\/\/mx\.example\.org/);
    await imap.ok('CREATE Work');
    t.match(await imap.command('SETMETADATA Nowhere (/shared/comment "x")'), { status: /^NO \[NONEXISTENT\]/ });
    t.match(await imap.command('SETMETADATA Work (/shared/com*ment "x")'), { status: /^BAD / });
    t.match(await imap.command('SETMETADATA "" (/shared/admin "mailto:x@y")'), { status: /^NO \[NOPERM\]/ });
    t.match(await imap.command('SETMETADATA Work (/shared/comment {})', Buffer.alloc(20_000, 'x')), {
      status: /^NO \[METADATA MAXSIZE 16384\]/,
    });
    await imap.ok(
      'SETMETADATA Work (/private/comment "mine" /Shared/Comment "all" /shared/vendor/x/y {})',
      Buffer.from('2\r\n3'),
    );
    t.same((await imap.ok('GETMETADATA Work (/shared/comment /private/none)')).untagged, [
      ['METADATA', 'Work', ['/shared/comment', 'all', '/private/none', null]],
    ]);
    const limited = await imap.ok('GETMETADATA (DEPTH infinity MAXSIZE 3) Work /shared');
    t.same(limited.untagged, [['METADATA', 'Work', ['/shared/comment', 'all']]]);
    t.match(limited.status, /^OK \[METADATA LONGENTRIES 4\]/);
    await imap.ok('RENAME Work Jobs');
    t.same((await imap.ok('GETMETADATA Jobs (DEPTH 1) (/private)')).untagged, [
      ['METADATA', 'Jobs', ['/private/comment', 'mine']],
    ]);
    await imap.ok('SETMETADATA Jobs (/private/comment NIL)');
    t.same((await imap.ok('GETMETADATA Jobs /private/comment')).untagged, [
      ['METADATA', 'Jobs', ['/private/comment', null]],
    ]);

    await at.put(
      'events',
      `require ["imapsieve", "environment", "imap4flags", "variables", "fileinto", "copy", "mailbox"];
     if environment :matches "imap.cause" "*" { set "cause" "\${1}"; }
     if environment :matches "imap.changedflags" "\\\\\\\\*" { set "changed" "\${1}"; }
     if environment :matches "imap.user" "*@*" { set "user" "\${1}"; }
     if environment "imap.cause" "FLAG" {
       if hasflag "\\\\Flagged" { fileinto :copy :create "Starred"; }
       addflag "told-\${changed}";
     } else { addflag ["\${cause}", "by-\${user}"]; }`,
    );
    await imap.ok('SETMETADATA Jobs (/shared/imapsieve/script "events")');
    await at.append('Jobs', mail('one'), '\\Seen');
    await at.append('INBOX', mail('two'));
    await at.append('INBOX', mail('three'));
    t.same(await at.show('Jobs'), ['one [APPEND \\Seen by-ann]']);
    await imap.ok('SELECT INBOX');
    await imap.ok('COPY 1 Jobs');
    await imap.ok('MOVE 2 Jobs');
    t.same(await at.show('INBOX'), ['two []'], 'where a message comes from has no script');
    t.same(await at.show('Jobs'), ['one [APPEND \\Seen by-ann]', 'two [COPY by-ann]', 'three [COPY by-ann]']);
    await imap.ok('SELECT Jobs');
    const stored = await imap.ok('STORE 2 +FLAGS (\\Flagged)');
    t.match(stored.untagged.at(-1)?.join(' '), /FETCH .*told-/, 'the client hears of what the script did');
    await imap.ok('FETCH 3 BODY[TEXT]');
    t.same(await at.show('Jobs'), [
      'one [APPEND \\Seen by-ann]',
      'two [COPY \\Flagged by-ann told-Flagged]',
      'three [COPY \\Seen by-ann told-Seen]',
    ]);
    t.same(await at.show('Starred'), ['two [COPY \\Flagged by-ann]']);

    await imap.ok('DELETE Jobs');
    await imap.ok('CREATE Jobs');
    t.same((await imap.ok('GETMETADATA Jobs /shared/comment')).untagged, [
      ['METADATA', 'Jobs', ['/shared/comment', null]],
    ]);
    await imap.ok('SETMETADATA "" (/shared/imapsieve/script "events")');
    await imap.ok('SETMETADATA Jobs (/shared/imapsieve/script "")');
    await at.append('Jobs', mail('quiet'));
    await at.append('INBOX', mail('loud'));
    t.same(await at.show('Jobs'), ['quiet []'], 'an empty entry means no script');
    t.same(await at.show('INBOX'), ['two []', 'loud [APPEND by-ann]'], 'the entry of the server is for all others');
    const bob = await at.login('bob');
    await bob.ok('APPEND INBOX {}', Buffer.from('Subject: x\r\n\r\n'));
    await bob.ok('SELECT INBOX');
    t.notMatch(JSON.stringify((await bob.ok('FETCH 1 FLAGS')).untagged), /APPEND/, 'another user has none');
  },
);

t.test('discard marks, errors are told to the owner and harm nothing, scripts do not start scripts', async t => {
  const at = await setUp(t);
  const { imap } = at;
  await imap.ok('CREATE A');
  await imap.ok('CREATE B');
  await at.put('a', 'require ["imapsieve", "fileinto"]; fileinto "B";');
  await at.put('b', 'require ["imapsieve", "fileinto"]; fileinto "A";');
  await at.put('bad', 'require ["imapsieve", "fileinto", "envelope"]; fileinto "B"; if envelope "from" "x" { keep; }');
  await imap.ok('SETMETADATA A (/shared/imapsieve/script "a")');
  await imap.ok('SETMETADATA B (/shared/imapsieve/script "b")');
  await at.append('A', mail('one'));
  t.same(await at.show('A'), ['one [\\Deleted]'], 'filed elsewhere: marked, RFC 6785 §3.3');
  t.same(await at.show('B'), ['one []']);
  await imap.ok('SETMETADATA A (/shared/imapsieve/script "bad")');
  await at.append('A', mail('two'));
  t.same(await at.show('A'), ['one [\\Deleted]', 'two []']);
  t.same(await at.show('B'), ['one []']);
  t.match((await at.show('INBOX')).join(), /Your mail rules have failed/);
  await imap.ok('SETMETADATA A (/shared/imapsieve/script "missing")');
  await at.append('A', mail('three'));
  t.match((await at.show('A')).at(-1), 'three []', 'a script that does not exist is none');
  await t.rejects(at.put('wrong', 'require ["imapsieve", "vacation"];'), { code: 'invalid' });
  await t.rejects(at.gateway.gateway.scripts.activate('ann@example.org', 'a'), { code: 'invalid' }, 'not at delivery');
});

t.test(
  'scripts of the gateway by pair of mailboxes run programs: learning from what is moved into and out of Junk',
  async t => {
    const sieve = `{ programs: { folder: bin }, imap: { mailboxes: [{ name: "\\\\Junk", before: spam.sieve }, { name: "*", from: Spam, causes: [COPY], before: ham.sieve }] } }`;
    const at = await setUp(t, sieve, {
      bin: { learn: '#!/bin/sh\necho "$1 $USER $(grep ^Subject:)" >> ../learnt\n' },
      'spam.sieve': 'require ["imapsieve", "vnd.dovecot.pipe", "copy"]; pipe :copy "learn" "spam";',
      'ham.sieve': `require ["imapsieve", "vnd.dovecot.pipe", "copy", "environment"];
      if not environment "imap.mailbox" "Trash" { pipe :copy "learn" "ham"; }`,
      'broken.sieve': 'require "imapsieve";\nkeeep;\n',
    });
    chmodSync(path.join(at.gateway.folder, 'bin/learn'), 0o755);
    const { imap } = at;
    await imap.ok('CREATE Spam (USE (\\Junk))');
    await imap.ok('CREATE Trash');
    for (const subject of ['a', 'b']) await at.append('INBOX', mail(subject));
    await imap.ok('SELECT INBOX');
    await imap.ok('MOVE 1:2 Spam');
    await imap.ok('SELECT Spam');
    await imap.ok('MOVE 2 INBOX');
    await imap.ok('MOVE 1 Trash');
    const learnt = readFileSync(path.join(at.gateway.folder, 'learnt'), 'utf8').split('\n');
    t.same(learnt, [
      'spam ann@example.org Subject: a\r',
      'spam ann@example.org Subject: b\r',
      'ham ann@example.org Subject: b\r',
      '',
    ]);
    await t.rejects(
      at.put('mine', 'require "vnd.dovecot.pipe"; pipe "learn" "x";'),
      { code: 'invalid' },
      'not for users',
    );

    const file = path.join(at.gateway.folder, 'bad.yaml');
    const chain = '[{ sieve: { imap: { mailboxes: [{ name: Junk, after: broken.sieve }] } } }]';
    writeFileSync(file, `domains: [{ name: example.org }]\nchain: ${chain}\nlisteners:${listeners}\n`);
    const { problems } = await checkConfig(loadConfig(file, at.gateway.folder), {
      clock: systemClock,
      log: guardedLogger(),
    });
    t.match(
      problems.map(problem => problem.message),
      [/broken\.sieve:2:1: error: .*keeep/],
    );
  },
);

t.test('FILTER=SIEVE: delivery, personal, global and literal scripts over what matches', async t => {
  const at = await setUp(t, '{ before: [before.sieve], globalFolder: global }', {
    'before.sieve': 'require ["fileinto", "mailbox"]; if header :is "subject" "team" { fileinto :create "Team"; }',
    global: { 'star.sieve': 'require "imap4flags"; addflag "\\\\Flagged";' },
  });
  const { imap } = at;
  for (const subject of ['team', 'list', 'plain']) await at.append('INBOX', mail(subject), '\\Seen');
  await at.put(
    'main',
    'require ["fileinto", "mailbox", "vacation"]; vacation "away"; if header :is "subject" "list" { fileinto :create "Lists"; }',
  );
  await at.gateway.gateway.scripts.activate('ann@example.org', 'main');
  await imap.ok('SELECT INBOX');
  const first = await imap.ok('FILTER SIEVE DELIVERY ALL');
  t.same(
    first.untagged.filter(([, word]) => word === 'FILTERED').map(([seq, , , result]) => [seq, result]),
    [
      ['1', 'OK'],
      ['2', 'OK'],
    ],
  );
  t.same(await at.show('INBOX'), ['team [\\Deleted \\Seen]', 'list [\\Deleted \\Seen]', 'plain [\\Seen]']);
  t.same(await at.show('Team'), ['team [\\Seen]']);
  t.same(await at.show('Lists'), ['list [\\Seen]']);
  t.same(at.gateway.traces.length, 0, 'nothing is sent in answer');

  await imap.ok('SELECT INBOX');
  await imap.ok('UID EXPUNGE 1:2');
  const starred = await imap.ok('UID FILTER SIEVE GLOBAL star SUBJECT plain');
  t.match(JSON.stringify(starred.untagged), /"1","FILTERED",\["TAG","t\d+"\],"UID","3","OK"/);
  t.same(await at.show('INBOX'), ['plain [\\Flagged \\Seen]']);
  await imap.ok('SELECT INBOX');

  const edit = 'require "editheader"; addheader "X-New" "1";';
  await imap.ok('FILTER SIEVE SCRIPT {} ALL', Buffer.from(edit));
  t.same(
    await at.show('INBOX'),
    ['plain [\\Deleted \\Flagged \\Seen]', 'plain [\\Flagged \\Seen]'],
    'edited: a new message',
  );
  await imap.ok('SELECT INBOX');
  t.match(JSON.stringify((await imap.ok('FETCH 2 BODY.PEEK[HEADER]')).untagged), /X-New: 1/);

  const bad = await imap.command('FILTER SIEVE SCRIPT {} ALL', Buffer.from('keep;\nkeeep;'));
  t.match(bad.status, /^NO /);
  t.match(JSON.stringify(bad.untagged), /"FILTER",\["TAG","t\d+"\],"ERRORS","2:1: error: .*keeep/);
  const failing = await imap.ok('FILTER SIEVE SCRIPT {} 2', Buffer.from('require "fileinto"; fileinto "No such";'));
  t.match(JSON.stringify(failing.untagged), /"2","FILTERED",\["TAG","t\d+"\],"ERRORS",".*does not exist/);
  t.match(await imap.command('FILTER SIEVE PERSONAL none ALL'), { status: /^NO / });
  t.match(await imap.command('FILTER SIEVE SCRIPT {} ALL', Buffer.from('require "imapsieve";')), { status: /^NO / });
  t.match(await imap.command('FILTER SIEVE DELIVERY CHARSET X-NONE ALL'), { status: /^NO \[BADCHARSET/ });
  t.match(await imap.command('FILTER PERL x ALL'), { status: /^BAD / });
  t.match(await imap.command('FILTER SIEVE DELIVERY'), { status: /^BAD / });
  await imap.ok('FILTER SIEVE PERSONAL main UNDELETED');
  await imap.ok('EXAMINE INBOX');
  t.match(await imap.command('FILTER SIEVE DELIVERY ALL'), { status: /^NO \[READ-ONLY\]/ });

  const file = path.join(at.gateway.folder, 'postern.yaml');
  const reload = () => at.gateway.gateway.reload(() => loadConfig(file, at.gateway.folder));
  const capability = async (): Promise<string> => JSON.stringify((await imap.ok('CAPABILITY')).untagged);
  await reload();
  t.match(await capability(), /FILTER=SIEVE/, 'a reload that keeps the entry keeps what it offers');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/, \{ sieve: .*\} \]/, ']'));
  await reload();
  t.notMatch(await capability(), /FILTER=SIEVE|IMAPSIEVE/, 'and without the entry there is nothing');
});

t.test('lists, mailbox ids and metadata at delivery; programs that fail, hang or flood', async t => {
  const sieve =
    '{ lists: { ":addrbook:default": "lists/%d/%n.txt" }, globalFolder: global, programs: { folder: bin, timeout: 10s } }';
  const at = await setUp(t, sieve, {
    lists: { 'example.org': { 'ann.txt': '# friends\nFriend@Example.net\n@friends.example # all of them\n' } },
    global: {
      'shout.sieve': 'require ["vnd.dovecot.filter", "include"]; filter "shout";',
      'slow.sieve': 'require "vnd.dovecot.filter"; filter "slow";',
      'fails.sieve': 'require "vnd.dovecot.pipe"; pipe "fails";',
      'gone.sieve': 'require "vnd.dovecot.pipe"; pipe "gone";',
      'reads.sieve':
        'require ["vnd.dovecot.execute", "variables", "include"]; global "out"; execute :output "out" "shout";',
    },
    bin: {
      shout: '#!/bin/sh\nsed s/shout/SHOUT/\n',
      slow: '#!/bin/sh\nsleep 60 &\nwait\n',
      fails: '#!/bin/sh\nexit 3\n',
      gone: 'no program',
    },
  });
  for (const name of ['shout', 'slow', 'fails']) chmodSync(path.join(at.gateway.folder, 'bin', name), 0o755);
  const smtp = await SmtpClient.open(at.gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO client.example.net');
  const send = async (from: string, subject: string): Promise<void> => {
    const body = `From: ${from}\r\nSubject: ${subject}\r\n\r\ntext\r\n`;
    t.match(await smtp.send({ from, to: ['ann@example.org'], body }), /^250 /);
  };
  const activate = async (script: string): Promise<void> => {
    await at.put('main', script);
    await at.gateway.gateway.scripts.activate('ann@example.org', 'main');
  };
  await at.imap.ok('CREATE Boxed');
  const [status] = (await at.imap.ok('STATUS Boxed (MAILBOXID)')).untagged;
  const boxId = /MAILBOXID,(\w+)/.exec(String(status))?.[1];
  await at.imap.ok('RENAME Boxed Moved');
  await at.imap.ok('SETMETADATA Moved (/private/comment "for lists")');
  await activate(`require ["extlists", "fileinto", "mailboxid", "mboxmetadata", "mailbox", "include"];
    if allof (address :list "from" ":addrbook:default", metadata :contains "Moved" "/private/comment" "lists") {
      fileinto :mailboxid "${boxId}" "Boxed";
    }
    if header :is "subject" "shout" { include :global "shout"; }
    if header :is "subject" "slow" { include :global "slow"; }
    if header :is "subject" "fails" { include :global "fails"; }
    if header :is "subject" "gone" { include :global "gone"; }`);
  await send('friend@example.NET', 'one');
  await send('any@friends.example', 'two');
  await send('any@elsewhere.example', 'three');
  t.same(await at.show('Moved'), ['one []', 'two []']);
  t.same(await at.show('INBOX'), ['three []']);
  for (const subject of ['shout', 'slow', 'fails', 'gone']) await send('x@y.example', subject);
  const inbox = (await at.show('INBOX')).filter(line => !line.startsWith('Your mail rules'));
  t.same(inbox, ['three []', 'SHOUT []', 'slow []', 'fails []', 'gone []']);
  t.same((await at.show('INBOX')).length, inbox.length + 1, 'one notice for one state of the script');
});
