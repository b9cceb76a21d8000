// Rules at delivery, by a whole gateway: mail goes in over SMTP, and what the rules did is seen over IMAP, in the
// mailboxes of others and in the replies.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ImapFlow } from 'imapflow';
import t, { type Test } from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { checkConfig } from '../../../core/gateway.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { decisiveStep } from '../../../core/mail/explain-trace.ts';
import type { TraceRecord } from '../../../core/mail/trace.ts';
import { mailAuth } from '../../../plugins/mail-auth/index.ts';
import { startDnsServer } from '../../harness/dns-server.ts';
import { makeKey } from '../../harness/forge-signature.ts';
import { startTestGateway, type TestGateway } from '../../harness/gateway.ts';
import { guardedLogger } from '../../harness/log-guard.ts';
import { plugin } from '../../harness/plugin.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { startPeer } from '../relay/peers.ts';

const listeners = `
  - { name: smtp, role: smtp, port: 0, tls: none }
  - { name: lmtp, role: lmtp, port: 0, tls: none }
  - { name: prdr, role: smtp, port: 0, tls: none, prdr: true }
  - { name: imap, role: imap, port: 0, tls: none, allowPlaintextAuth: true }`;
const yamlWith = (sieve: string): string => `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [auth, relay-policy, recipients, { sieve: ${sieve} }]
`;

/** And not the notice that rules failed. */
const isMail = (text: string): boolean => !/^Subject: Your mail rules have failed/m.test(text);

interface Setup {
  readonly gateway: TestGateway;
  readonly smtp: SmtpClient;
  rules(user: string, script: string): Promise<void>;
  send(
    to: string | readonly string[],
    options?: { readonly from?: string; readonly headers?: string },
  ): Promise<string>;
  /** Files of a mailbox, by its Maildir++ folder; '' is the inbox. */
  files(user: string, folder?: string): readonly string[];
  texts(user: string, folder?: string): readonly string[];
}

async function setUp(t: Test, sieve = '{}', files: Readonly<Record<string, string>> = {}): Promise<Setup> {
  const folder = t.testdir(files);
  const gateway = await startTestGateway({ folder, yaml: yamlWith(sieve), listeners });
  t.teardown(() => gateway.stop());
  for (const name of ['ann', 'bob', 'cat'])
    await gateway.gateway.users.add(`${name}@example.org`, { password: 'secret' });
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO client.example.net');
  const root = path.join(folder, 'data/mail/example.org');
  const list = (user: string, name: string): readonly string[] =>
    ['new', 'cur'].flatMap(part => {
      const where = path.join(root, user, name, part);
      try {
        return readdirSync(where).map(file => path.join(where, file));
      } catch {
        return [];
      }
    });
  return {
    gateway,
    smtp,
    async rules(user, script) {
      const name = `${user}@example.org`;
      await gateway.gateway.scripts.put(name, 'main', Buffer.from(script));
      await gateway.gateway.scripts.activate(name, 'main');
    },
    send(to, { from = 'out@example.net', headers = 'Subject: hello\r\n' } = {}) {
      const all = typeof to === 'string' ? [to] : to;
      return smtp.send({
        from,
        to: all.map(name => (name.includes('@') ? name : `${name}@example.org`)),
        body: `From: ${from}\r\nTo: ${all.map(name => `${name}@example.org`).join(', ')}\r\n${headers}\r\ntext\r\n`,
      });
    },
    files: (user, name = '') => list(user, name),
    texts: (user, name = '') => list(user, name).map(file => readFileSync(file, 'utf8')),
  };
}

t.test('fileinto with :create, flags and a special use, seen over IMAP', async t => {
  const at = await setUp(t);
  await at.rules(
    'ann',
    `require ["fileinto", "mailbox", "imap4flags", "special-use", "subaddress", "envelope"];
     if header :contains "subject" "list" { fileinto :create "Lists/Dev"; stop; }
     if header :is "subject" "junk" { fileinto :specialuse "\\\\Junk" :create :flags ["\\\\Seen", "$Junk"] "Spam"; stop; }
     if envelope :detail "to" "work" { addflag "\\\\Flagged"; }`,
  );
  t.match(await at.send('ann', { headers: 'Subject: list mail\r\n' }), /^250 /);
  t.match(await at.send('ann', { headers: 'Subject: junk\r\n' }), /^250 /);
  t.match(await at.send('ann+work'), /^250 /);
  t.match(await at.send('ann'), /^250 /);
  t.match(at.gateway.traces[0]?.recipients[0]?.detail, /sieve.*fileinto done: stored in 'Lists\/Dev'/);

  const imap = new ImapFlow({
    host: '127.0.0.1',
    port: at.gateway.port('imap'),
    secure: false,
    doSTARTTLS: false,
    auth: { user: 'ann@example.org', pass: 'secret' },
    logger: false,
  });
  await imap.connect();
  const flagsIn = async (mailbox: string): Promise<readonly (readonly string[])[]> => {
    await imap.mailboxOpen(mailbox);
    const all: string[][] = [];
    for await (const { flags, source } of imap.fetch('1:*', { flags: true, source: true })) {
      t.match(source?.toString(), /^Return-Path: <out@example\.net>\r\nReceived: /);
      all.push([...(flags ?? [])].filter(flag => flag !== '\\Recent').sort());
    }
    return all;
  };
  t.same(await flagsIn('Lists/Dev'), [[]]);
  t.same(await flagsIn('Spam'), [['$Junk', '\\Seen']]);
  t.same([...(await flagsIn('INBOX'))].sort(), [[], ['\\Flagged']]);
  const folders = await imap.list();
  t.equal(folders.find(folder => folder.path === 'Spam')?.specialUse, '\\Junk');
  t.ok(folders.find(folder => folder.path === 'Lists/Dev')?.subscribed);
  await imap.logout();
});

t.test('redirect, its loops, and a target that is refused', async t => {
  const at = await setUp(t);
  await at.rules('ann', 'require "copy"; redirect :copy "bob@example.org";');
  await at.rules('bob', 'redirect "ann@example.org";');
  t.match(await at.send('ann'), /^250 /);
  const kept = at.texts('ann').filter(isMail);
  t.equal(kept.length, 2, 'the copy that ann keeps, and what came back, which goes no further');
  t.equal(kept.filter(text => /^X-Sieve-Redirected-From: <ann@example\.org>/m.test(text)).length, 1);
  t.equal(at.texts('bob').length, 0);
  await at.rules('cat', 'redirect "nobody@example.org";');
  t.match(await at.send('cat'), /^250 /);
  t.match(at.texts('cat').join('\n'), /^Subject: hello/m, 'kept, since the target is refused');
  t.match(at.texts('cat').join('\n'), /refused: 550/, 'and the owner hears why');
});

t.test('vacation answers once, and not to lists or the null sender', async t => {
  const at = await setUp(t);
  await at.rules('ann', 'require "vacation"; vacation :subject "Away" "I am away";');
  for (const _ of [1, 2, 3]) t.match(await at.send('ann', { from: 'bob@example.org' }), /^250 /);
  t.equal(at.texts('bob').length, 1);
  t.match(at.texts('bob')[0], /^Return-Path: <>\r\n[\s\S]*Subject: Away\r\n[\s\S]*Auto-Submitted: auto-replied/);
  t.equal(at.texts('ann').length, 3);
  t.match(await at.send('ann', { from: 'cat@example.org', headers: 'List-Id: <x.example.org>\r\n' }), /^250 /);
  t.match(await at.send('ann', { from: '' }), /^250 /);
  t.equal(at.texts('cat').length, 0);
});

t.test('reject: in the session for one, by report for one of several; discard; LMTP hears each', async t => {
  const at = await setUp(t);
  await at.rules('ann', 'require "reject"; reject "No, thank you\r\nreally";');
  await at.rules('cat', 'discard;');
  t.equal(await at.send('ann'), '550 5.7.1 No, thank you really\r\n');
  t.match(await at.send(['ann', 'bob'], { from: 'bob@example.org' }), /^250 /);
  t.equal(at.texts('ann').length, 0);
  t.ok(
    at.texts('bob').some(text => /^Return-Path: <bob@example\.org>/.test(text)),
    'the other recipient has it',
  );
  t.match(await at.send('cat'), /^250 /);
  t.equal(at.texts('cat').length, 0);
  t.match(at.gateway.traces.at(-1)?.recipients[0]?.detail, /discarded .*rules of cat@example\.org/);
  const ran = at.gateway.traces.map(({ recipients }) =>
    recipients.map(({ steps = [] }) => steps.map(({ plugin, hook, verdict }) => `${hook} ${plugin} ${verdict}`)),
  );
  t.strictSame(ran, [
    [['deliver sieve reject']],
    [['deliver sieve reject'], ['deliver sieve continue']],
    [['deliver sieve discard']],
  ]);
  t.match(decisiveStep(at.gateway.traces[0] as TraceRecord), { plugin: 'sieve', why: /rules of ann@example\.org/ });

  const lmtp = await SmtpClient.open(at.gateway.port('lmtp'));
  t.teardown(() => lmtp.close());
  await lmtp.command('LHLO client.example.net');
  const first = await lmtp.send({
    from: 'out@example.net',
    to: ['ann@example.org', 'bob@example.org'],
    body: 'Subject: x\r\n\r\nx\r\n',
  });
  t.match([first, await lmtp.reply()], [/^550 5\.7\.1 No, thank you/, /^250 /]);
});

t.test('what fails leaves the message in the inbox, and one notice a day', async t => {
  const at = await setUp(t);
  await at.rules('ann', 'require "fileinto"; fileinto "No such box";');
  for (const _ of [1, 2]) t.match(await at.send('ann'), /^250 /);
  const texts = at.texts('ann');
  t.equal(texts.filter(isMail).length, 2);
  const notices = texts.filter(text => !isMail(text));
  t.equal(notices.length, 1);
  t.match(notices[0], /1:\d+: error: .*No such box.*does not exist/);
  await at.rules(
    'cat',
    'redirect "a@x.example"; redirect "b@x.example"; redirect "c@x.example"; redirect "d@x.example"; redirect "e@x.example";',
  );
  t.match(await at.send('cat'), /^250 /);
  t.match(at.texts('cat').join('\n'), /policy limit of 4 redirects/);
  t.equal(at.texts('cat').filter(isMail).length, 1);
});

t.test('a mailbox that is full defers', async t => {
  const at = await setUp(t);
  await at.gateway.gateway.users.add('dan@example.org', { password: 'secret', quotaBytes: 200 });
  await at.rules('dan', 'require "copy"; redirect :copy "bob@example.org";');
  t.match(await at.send('dan'), /^452 4\.2\.2 /);
  t.equal(at.texts('dan').length, 0);
});

t.test('recipients share one file where their rules store the same form', async t => {
  const at = await setUp(t);
  await at.rules('ann', 'require ["fileinto", "mailbox"]; fileinto :create "A";');
  await at.rules('bob', 'require ["fileinto", "mailbox"]; fileinto :create "B";');
  await at.rules('cat', 'require "editheader"; addheader "X-Mine" "cat";');
  t.match(await at.send(['ann', 'bob', 'cat']), /^250 /);
  const [a, b, c] = [at.files('ann', '.A'), at.files('bob', '.B'), at.files('cat')].map(files =>
    statSync(files[0] ?? ''),
  );
  t.equal(a?.ino, b?.ino, 'one file, two names');
  t.equal(a?.nlink, 2);
  t.equal(c?.nlink, 1, 'an edited form is a file of its own');
  t.match(at.texts('cat')[0], /^X-Mine: cat\r$/m);
});

t.test('the scripts of the gateway before and after, per domain; a broken one is found by config check', async t => {
  const files = {
    'before.sieve': 'require ["fileinto", "mailbox"]; if header :is "x-team" "1" { fileinto :create "Team"; }',
    'after.sieve': 'require ["fileinto", "mailbox"]; fileinto :create "Rest";',
    'other.sieve': 'discard;',
    'broken.sieve': 'keep;\nkeeep;\nfileinto "x";\n',
    wrong: { 'shared.sieve': 'require "fileinto";\nfileinto;\n' },
    global: {
      'shared.sieve': 'require ["fileinto", "mailbox"]; if header :is "x-shared" "1" { fileinto :create "Shared"; }',
    },
  };
  const sieve = `{ before: [before.sieve, { file: other.sieve, domain: elsewhere.test }], after: [after.sieve], globalFolder: global }`;
  const at = await setUp(t, sieve, files as never);
  await at.rules('ann', 'require "include"; include :global "shared"; if header :is "subject" "mine" { keep; stop; }');
  await at.send('ann', { headers: 'X-Team: 1\r\n' });
  await at.send('ann', { headers: 'Subject: mine\r\n' });
  await at.send('ann', { headers: 'X-Shared: 1\r\n' });
  await at.send('ann');
  await at.send('bob');
  const counts = ['', '.Team', '.Shared', '.Rest'].map(folder => at.files('ann', folder).length);
  t.same(counts, [1, 1, 1, 1]);
  t.equal(at.files('bob', '.Rest').length, 1, 'also for a user without a script');

  const file = path.join(at.gateway.folder, 'bad.yaml');
  const check = async (options: string): Promise<readonly string[]> => {
    writeFileSync(file, `${yamlWith(options)}\nlisteners:${listeners}\n`);
    const context = { clock: systemClock, log: guardedLogger() };
    const { problems } = await checkConfig(loadConfig(file, at.gateway.folder), context);
    return problems.map(problem => problem.message);
  };
  t.match(await check('{ globalFolder: wrong }'), [/shared\.sieve:2:1: error: .*fileinto/], 'also what others include');
  const missing =
    '{ globalFolder: none, programs: { folder: gone }, lists: { "tag:x,2026:y": no.txt, ":a:b": "%u.txt" } }';
  t.match(await check(missing), [/Cannot read '.*none'/, /Cannot read '.*gone'/, /Cannot read '.*no\.txt'/]);
  t.match(await check('{ before: [broken.sieve] }'), [
    /broken\.sieve:2:1: error: .*keeep/,
    /broken\.sieve:3:1: error: .*fileinto/,
  ]);
  await t.rejects(
    at.gateway.gateway.reload(() => loadConfig(file, at.gateway.folder)),
    /broken\.sieve:2:1/,
  );
  t.match(await at.send('ann', { headers: 'Subject: mine\r\n' }), /^250 /, 'the running configuration stays');
});

t.test('spamtest and virustest believe the filters of the chain, never the sender', async t => {
  const at = await setUp(t);
  await at.rules(
    'ann',
    `require ["spamtest", "virustest", "fileinto", "mailbox", "relational", "comparator-i;ascii-numeric"];
     if spamtest :value "ge" :comparator "i;ascii-numeric" "5" { fileinto :create "Spam"; stop; }
     if virustest :value "ge" :comparator "i;ascii-numeric" "4" { fileinto :create "Virus"; }`,
  );
  await at.send('ann', { headers: 'X-Spam-Status: Yes, score=9.0 required=5.0\r\nX-Virus-Status: infected\r\n' });
  t.equal(at.files('ann').length, 1);
  t.notMatch(at.texts('ann')[0], /X-Spam-Status|X-Virus-Status/);
});

t.test('rules for mailboxes on a next hop: fields, junk mark, subaddress, refusals', async t => {
  const peer = await startPeer(t, {
    on: (verb, line) => (verb === 'RCPT' && line.includes('nobody') ? '550 5.1.1 no such user' : undefined),
  });
  const folder = t.testdir();
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }, { name: inner.test, kind: relay }]
chain: [relay-policy, recipients, { sieve: { nextHop: { subaddress: true } } }]
routes: [{ domain: inner.test, hosts: ['127.0.0.1:${peer.port}'] }]
`;
  const gateway = await startTestGateway({ folder, yaml, listeners });
  t.teardown(() => gateway.stop());
  const { scripts } = gateway.gateway;
  const rules = async (user: string, script: string): Promise<void> => {
    await scripts.put(`${user}@inner.test`, 'main', Buffer.from(script));
    await scripts.activate(`${user}@inner.test`, 'main');
  };
  await rules('ann', 'require ["fileinto", "imap4flags"]; fileinto :flags "\\\\Flagged" "Lists";');
  await rules('bob', 'require "fileinto"; fileinto "Junk Email";');
  await rules('cat', 'require "reject"; reject "Not to me";');
  await rules('nobody', 'require "fileinto"; fileinto "Lists";');
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO client.example.net');
  const send = (user: string): Promise<string> =>
    smtp.send({
      from: 'out@example.net',
      to: [`${user}@inner.test`],
      body: 'X-Sieve-Mailbox: Forged\r\nSubject: hello\r\n\r\ntext\r\n',
    });
  t.match(await send('ann'), /^250 /);
  t.match(peer.bodies[0], /^X-Sieve-Mailbox: Lists\r\nX-Sieve-Flags: \\Flagged\r\nReceived: /);
  t.notMatch(peer.bodies[0], /Forged/);
  t.match(peer.commands.join('\n'), /RCPT TO:<ann\+Lists@inner\.test>/);
  t.match(await send('bob'), /^250 /);
  t.match(peer.bodies[1], /^X-Sieve-Mailbox: Junk Email\r\nX-Spam-Flag: YES\r\n/);
  t.match(peer.commands.join('\n'), /RCPT TO:<bob@inner\.test>/, 'no address can hold that name');
  t.equal(await send('cat'), '550 5.7.1 Not to me\r\n');
  t.match(await send('dan'), /^250 /, 'without rules');
  t.match(await send('nobody'), /^550 5\.1\.1 /, 'what the next hop says reaches the client');
  t.equal(peer.bodies.length, 3);
});

t.test('a redirect under a sender of our own (SRS), with its ARC seal intact; its bounce comes back', async t => {
  const key = makeKey('rsa');
  const dns = await startDnsServer({
    'arc._domainkey.example.org': { TXT: [`v=DKIM1; k=rsa; p=${key.published}`.match(/.{1,255}/g) ?? []] },
  });
  t.teardown(() => dns.close());
  const peer = await startPeer(t);
  const folder = t.testdir({
    'srs.secret': 'not a secret',
    'arc.pem': key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  });
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
dns: { servers: ['${dns.address}'] }
chain:
  - relay-policy
  - srs: { domain: example.org, secrets: [{ file: srs.secret }] }
  - recipients
  - mail-auth
  - arc-seal: { domain: example.org, selector: arc, key: arc.pem, when: always }
  - sieve
routes: [{ domain: elsewhere.test, hosts: ['127.0.0.1:${peer.port}'] }, { domain: example.net, hosts: ['127.0.0.1:${peer.port}'] }]
`;
  const gateway = await startTestGateway({ folder, yaml, listeners });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  await gateway.gateway.scripts.put('ann@example.org', 'main', Buffer.from('redirect "ann@elsewhere.test";'));
  await gateway.gateway.scripts.activate('ann@example.org', 'main');
  const smtp = await SmtpClient.open(gateway.port('smtp'));
  t.teardown(() => smtp.close());
  await smtp.command('EHLO client.example.net');
  const body =
    'From: Out <out@example.net>\r\nTo: ann@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.net>\r\n\r\ntext\r\n';
  t.match(await smtp.send({ from: 'out@example.net', to: ['ann@example.org'], body }), /^250 /);
  const from = /^MAIL FROM:<(SRS0=[^>]*=example\.net=out@example\.org)>/m.exec(peer.commands.join('\n'))?.[1] ?? '';
  t.not(from, '', peer.commands.join('\n'));
  t.match(peer.commands.join('\n'), /^RCPT TO:<ann@elsewhere\.test>/m);
  const [sent = ''] = peer.bodies;
  t.match(sent, /^X-Sieve-Redirected-From: <ann@example\.org>\r\n/);
  const verifier = await plugin(
    mailAuth,
    {},
    { dns: { 'arc._domainkey.example.org': { TXT: [`v=DKIM1; k=rsa; p=${key.published}`.match(/.{1,255}/g) ?? []] } } },
  );
  t.teardown(() => verifier.close());
  await verifier.connect();
  await verifier.mail('x@nowhere.test');
  await verifier.rcpt('ann@elsewhere.test');
  const { evidence } = await verifier.message(Buffer.from(sent));
  t.match(evidence?.['arc'], { result: 'pass', instance: 1, sealer: 'example.org' });

  t.match(await smtp.send({ from: '', to: [from], body: 'Subject: bounce\r\n\r\nno\r\n' }), /^250 /);
  t.match(peer.commands.join('\n'), /^RCPT TO:<out@example\.net>/m, 'the bounce goes on to the sender');
  t.match(peer.bodies[1], /^Subject: bounce/m);
});

t.test('PRDR: each recipient hears what the rules say', async t => {
  const at = await setUp(t);
  await at.rules('ann', 'require "ereject"; ereject "Not to me";');
  const smtp = await SmtpClient.open(at.gateway.port('prdr'));
  t.teardown(() => smtp.close());
  t.match(await smtp.command('EHLO client.example.net'), /PRDR/);
  await smtp.command('MAIL FROM:<out@example.net> PRDR');
  for (const name of ['ann', 'bob']) await smtp.command(`RCPT TO:<${name}@example.org>`);
  t.match(await smtp.command('DATA'), /^354 /);
  t.match(await smtp.command('Subject: x\r\n\r\nx\r\n.'), /^353 /);
  t.match(await smtp.reply(), /^550 5\.7\.1 Not to me/);
  t.match(await smtp.reply(), /^250 /);
  await smtp.reply();
  t.equal(at.texts('bob').length, 1);
  t.equal(at.texts('ann').length, 0);
});

t.test('notify by mail, a copy of what vacation sent, duplicates, a named handle', async t => {
  const at = await setUp(t);
  await at.rules(
    'ann',
    `require ["enotify", "vacation", "fcc", "mailbox", "duplicate", "fileinto", "variables"];
     if duplicate { fileinto :create "Again"; stop; }
     if header :matches "subject" "*urgent*" { notify :message "About \${0}" "mailto:cat@example.org"; }
     vacation :fcc "Sent" :create "I am away";`,
  );
  const mail = { from: 'bob@example.org', headers: 'Subject: urgent matter\r\nMessage-ID: <1@example.net>\r\n' };
  for (const _ of [1, 2]) t.match(await at.send('ann', mail), /^250 /);
  t.equal(at.texts('ann').length, 1);
  t.equal(at.texts('ann', '.Again').length, 1, 'the second copy');
  t.match(at.texts('cat'), [/^Subject: About urgent matter\r$/m], 'one notification');
  t.match(at.texts('cat')[0], /^Auto-Submitted: auto-notified/m);
  t.match(at.texts('bob'), [/^Auto-Submitted: auto-replied/m]);
  t.match(at.texts('ann', '.Sent'), [/^Auto-Submitted: auto-replied/m]);
});
