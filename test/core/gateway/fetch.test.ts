// Mail of accounts at another provider, which is a real Dovecot: POP3 and IMAP, with TLS, through the chain, once each,
// also when the gateway is killed in between.
import { randomInt } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { askGateway } from '../../../core/control/client.ts';
import { controlSocketPath } from '../../../core/control/protocol.ts';
import { type Dovecot, startDovecot } from '../../harness/dovecot.ts';
import { requireEngines } from '../../harness/engine.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { until } from '../../harness/gateway-files.ts';
import {
  addUsers,
  freePort,
  runPostern,
  startGatewayProcess,
  writeConfig,
  writeSmtpConfig,
} from '../../harness/gateway-process.ts';
import { guardedLogger } from '../../harness/log-guard.ts';
import { startTokenIssuer } from '../../harness/token-issuer.ts';

const listeners = '\n  - { name: smtp, role: smtp, port: 0, tls: none }';
const messageOf = (mark: string, more = ''): string =>
  `Return-Path: <sender@example.net>\nReceived: from mx.provider.test (localhost [127.0.0.1]) by store.provider.test; Sat, 28 Nov 2026 08:00:00 +0000\nReceived: from client.example.net (unknown [192.0.2.77])\n by mx.provider.test; Sat, 28 Nov 2026 08:00:00 +0000\n${more}From: a@example.net\nSubject: ${mark}\n\n.dot ${mark}\n`;

function ready(t: Test): boolean {
  if (!requireEngines(t, 'fetching from Dovecot', 'dovecot', 'dovecot-pop3')) return false;
  if (process.getuid?.() === 0) return true;
  t.plan(0, 'Dovecot needs root');
  return false;
}

const mailbox = (folder: string, user: string): readonly string[] => {
  const box = path.join(folder, 'data/mail/example.org', user, 'new');
  return existsSync(box) ? readdirSync(box).map(name => readFileSync(path.join(box, name), 'utf8')) : [];
};

const account = (dovecot: Dovecot, name: string, user: string, more: string): string =>
  `{ name: ${name}, host: localhost, username: ${user}, password: { file: secret }, ca: ${dovecot.certificateFile}, interval: 1h, ${more} }`;

/** Messages that the provider has. */
const there = (dovecot: Dovecot, user: string): number =>
  ['new', 'cur'].reduce((sum, name) => sum + readdirSync(path.join(dovecot.maildir(user), name)).length, 0);

t.test('POP3 and IMAP, each with TLS in both forms', { timeout: 240_000 }, async t => {
  if (!ready(t)) return;
  const dovecot = await startDovecot(t, {
    one: 'secret',
    two: 'secret',
    three: 'secret',
    four: 'secret',
    five: 'secret',
    six: 'secret',
  });
  const folder = t.testdir({ secret: 'secret\n', wrong: 'wrong\n' });
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [{ limits: { hops: 10 } }, relay-policy, recipients]
fetch:
  - ${account(dovecot, 'one', 'one', `protocol: pop3, port: ${dovecot.pop3s}, recipient: ann@example.org`)}
  - ${account(dovecot, 'two', 'two', `protocol: pop3, tls: starttls, port: ${dovecot.pop3}, recipient: ann@example.org, delete: false`)}
  - ${account(dovecot, 'three', 'three', `protocol: imap, port: ${dovecot.imaps}, recipient: ann@example.org, recipientFields: [Delivered-To], recipientPrefix: box-`)}
  - ${account(dovecot, 'four', 'four', `protocol: imap, tls: starttls, port: ${dovecot.imap}, recipient: ann@example.org`)}
  - ${account(dovecot, 'six', 'six', `protocol: pop3, port: ${dovecot.pop3s}, recipient: nobody@example.org`)}
  - ${account(dovecot, 'wrong', 'five', `protocol: imap, port: ${dovecot.imaps}, recipient: ann@example.org`).replace('file: secret', 'file: wrong')}
  - { name: untrusted, protocol: imap, host: localhost, port: ${dovecot.imaps}, username: five, password: { file: secret }, recipient: ann@example.org, interval: 1h }
`;
  await dovecot.deliver('six', messageOf('six'));
  const hops = 'Received: by relay.example.net; Sat, 28 Nov 2026 08:00:00 +0000\n'.repeat(10);
  for (const user of ['one', 'two', 'three', 'four', 'five'])
    for (const n of [1, 2]) await dovecot.deliver(user, messageOf(`${user}-${n}`, user === 'four' ? hops : ''));
  await dovecot.deliver('three', messageOf('for-ben', 'Delivered-To: box-ben@example.org\n'));
  await dovecot.deliver('three', messageOf('unknown', 'Delivered-To: box-zoe@example.org\n'));
  await dovecot.deliver('three', messageOf('foreign', 'Delivered-To: ann@elsewhere.test\n'));
  await dovecot.deliver('one', messageOf(`large ${'x'.repeat(10)}`).concat('y'.repeat(70).concat('\n').repeat(30_000)));

  const log = guardedLogger({ expected: [/could not be fetched/, /Fetched mail was (?:refused|deferred)/] });
  await addUsers(
    writeConfig(
      folder,
      `dataDir: data
domains: [{ name: example.org }]
chain: []
listeners:${listeners}
`,
    ),
    'ann@example.org',
    'ben@example.org',
  );
  const gateway = await startTestGateway({ folder, yaml, listeners, log });
  t.teardown(() => gateway.stop());
  const control = async (...args: readonly string[]) =>
    runPostern(['--config', path.join(folder, 'postern.yaml'), ...args]);

  const fetch = (argument: string) =>
    askGateway(controlSocketPath(path.join(folder, 'data')), { command: 'fetch', argument });
  const result = await control('--json', 'fetch');
  t.equal(result.code, 1, 'three accounts fail');
  const byName = new Map(
    (JSON.parse(result.stdout) as { name: string; taken: number; refused: number; error?: string }[]).map(each => [
      each.name,
      each,
    ]),
  );
  // The first poll begins by itself: the two together fetch each message once.
  const { intake } = await gateway.gateway.status();
  const totals = Object.fromEntries(intake.fetch.map(each => [each.name, [each.taken, each.refused]]));
  t.same(totals, {
    one: [3, 0],
    two: [2, 0],
    three: [5, 0],
    four: [0, 2],
    six: [0, 0],
    wrong: [0, 0],
    untrusted: [0, 0],
  });
  t.match(byName.get('wrong')?.error, /login was refused/);
  t.match(byName.get('six')?.error, /'nobody@example\.org'.*No mailbox/, 'a mistake of ours refuses nothing');
  t.match(byName.get('untrusted')?.error, /self-signed/);

  await until(() => mailbox(folder, 'ann').length === 9 && mailbox(folder, 'ben').length === 1, 'all mail');
  const text = mailbox(folder, 'ann').find(each => each.includes('Subject: one-1')) ?? '';
  t.match(
    text,
    /^Return-Path: <sender@example\.net>\r\nReceived: from localhost \(account one\)\r\n\tby mx\.example\.org with POP3S id \S+\r\n\tfor <ann@example\.org>;/,
  );
  t.equal(text.match(/^Return-Path:/gm)?.length, 1);
  t.ok(text.endsWith('Subject: one-1\r\n\r\n.dot one-1\r\n'), 'byte for byte');
  const trace = gateway.traces.find(each => each.subject === 'two-1');
  t.match(trace, { listener: 'fetch:two', client: { address: '192.0.2.77', helo: 'client.example.net' } });
  t.match(mailbox(folder, 'ben')[0], /Subject: for-ben/);
  t.match(mailbox(folder, 'ann').join('\n'), /Subject: unknown/);
  t.match(mailbox(folder, 'ann').join('\n'), /Subject: foreign/);

  t.same(
    ['one', 'two', 'three', 'four'].map(user => there(dovecot, user)),
    [0, 2, 0, 2],
    'taken is removed, kept is kept, refused is left',
  );
  t.match(await fetch('two'), [{ taken: 0, refused: 0 }]);
  t.match(await fetch('four'), [{ taken: 0, refused: 0 }]);
  await dovecot.deliver('two', messageOf('two-3'));
  t.match((await control('fetch', 'two')).stdout, 'two: 1 messages taken, 0 refused');
  t.match((await control('status')).stdout, /FETCH +HOST +TAKEN[^\n]*\none +localhost +3/);
  await t.rejects(fetch('nobody'), /No account 'nobody'/);

  // A reload with another setting takes the account over, and its memory.
  const file = path.join(folder, 'postern.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replace(', delete: false', ', delete: true'));
  t.equal((await control('reload')).code, 0);
  t.match(await fetch('two'), [{ taken: 0, refused: 0 }]);
  t.equal(there(dovecot, 'two'), 0, 'what was taken before is removed now');
});

t.test('XOAUTH2 with a token that is renewed; taken mail stays for a time', { timeout: 240_000 }, async t => {
  if (!ready(t)) return;
  const issuer = await startTokenIssuer();
  t.teardown(() => issuer.close());
  issuer.tokens.set('token-of-pop', { email: 'pop' });
  issuer.tokens.set('token-of-imap', { email: 'imap' });
  const dovecot = await startDovecot(t, {}, { introspection: issuer.url });
  for (const user of ['pop', 'imap']) await dovecot.deliver(user, messageOf(user));
  const folder = t.testdir({ pop: 'token-of-pop\n', imap: 'outdated\n' });
  const xoauth2 = (user: string, more: string): string =>
    account(dovecot, user, user, `login: xoauth2, keepFor: 1h, recipient: ann@example.org, ${more}`).replace(
      'file: secret',
      `file: ${user}`,
    );
  const yaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [relay-policy, recipients]
fetch:
  - ${xoauth2('pop', `protocol: pop3, port: ${dovecot.pop3s}`)}
  - ${xoauth2('imap', `protocol: imap, port: ${dovecot.imaps}`)}
`;
  await addUsers(
    writeConfig(folder, `dataDir: data\ndomains: [{ name: example.org }]\nchain: []\nlisteners:${listeners}\n`),
    'ann@example.org',
  );
  const log = guardedLogger({ expected: [/could not be fetched/] });
  const gateway = await startTestGateway({ folder, yaml, listeners, log });
  t.teardown(() => gateway.stop());
  const ask = (command: 'fetch' | 'reload', argument: string) =>
    askGateway(controlSocketPath(path.join(folder, 'data')), { command, argument });

  await ask('fetch', 'pop');
  t.match(await ask('fetch', 'imap'), [{ error: /login was refused/ }], 'a token that holds no more');
  writeFileSync(path.join(folder, 'imap'), 'token-of-imap\n');
  await ask('fetch', 'imap');
  await until(() => mailbox(folder, 'ann').length === 2, 'all mail');
  const total = async () => (await gateway.gateway.status()).intake.fetch.map(({ name, taken }) => [name, taken]);
  const once = [
    ['pop', 1],
    ['imap', 1],
  ];
  t.same(await total(), once);
  t.same([there(dovecot, 'pop'), there(dovecot, 'imap')], [1, 1], 'taken, and still there');

  const file = path.join(folder, 'postern.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll('keepFor: 1h', 'keepFor: 1s'));
  await ask('reload', '');
  for (const user of ['pop', 'imap'])
    await until(async () => {
      await ask('fetch', user);
      return there(dovecot, user) === 0;
    }, `${user} to be removed`);
  t.same(
    await total(),
    [
      ['pop', 0],
      ['imap', 0],
    ],
    'by pollers that are new, and take nothing twice',
  );
  t.equal(mailbox(folder, 'ann').length, 2);
});

t.test('kill -9 while fetching: nothing lost, nothing fetched twice', { timeout: 300_000 }, async t => {
  if (!ready(t)) return;
  const wanted = 60;
  const dovecot = await startDovecot(t, { pop: 'secret', imap: 'secret' });
  for (let n = 0; n < wanted; n++) {
    await dovecot.deliver('pop', messageOf(`pop-${n}.`));
    await dovecot.deliver('imap', messageOf(`imap-${n}.`));
  }
  const folder = t.testdir({ secret: 'secret' });
  const port = await freePort();
  const config = writeSmtpConfig(
    folder,
    port,
    `chain: [relay-policy, recipients]
log: { level: warn, format: json }
fetch:
  - ${account(dovecot, 'pop', 'pop', `protocol: pop3, port: ${dovecot.pop3s}, recipient: ann@example.org`).replace('1h', '1s')}
  - ${account(dovecot, 'imap', 'imap', `protocol: imap, port: ${dovecot.imaps}, recipient: ann@example.org`).replace('1h', '1s')}
`,
  );
  await addUsers(config, 'ann@example.org');
  let gateway = await startGatewayProcess(config, port);
  t.teardown(() => gateway.end('SIGKILL'));
  let kills = 0;
  const left = (): number => there(dovecot, 'pop') + there(dovecot, 'imap');
  while (left() > 0 && kills < 3) {
    const before = left();
    await until(() => left() < before || mailbox(folder, 'ann').length > kills * 10, 'some mail to come');
    await new Promise(resolve => setTimeout(resolve, randomInt(20, 300)));
    await gateway.end('SIGKILL');
    kills++;
    gateway = await startGatewayProcess(config, port);
  }
  await until(() => left() === 0, 'the provider to be empty').catch((error: unknown) => {
    t.comment(gateway.output());
    throw error;
  });
  const marks = (): readonly string[] =>
    mailbox(folder, 'ann').map(text => /^Subject: (\S+)\.\r/m.exec(text)?.[1] ?? '');
  await until(() => new Set(marks()).size === 2 * wanted, 'all mail');
  const queued = await runPostern(['--config', config, '--json', 'status']);
  t.equal(queued.code, 0);
  // A second copy of a message may come from the queue (delivered, then killed before that was noted), with the queue id
  // of the first; what is fetched twice would have an id of its own.
  const ids = new Map<string, Set<string>>();
  for (const text of mailbox(folder, 'ann')) {
    const mark = /^Subject: (\S+)\.\r/m.exec(text)?.[1] ?? '';
    const id = /with \S+ id (\S+)/.exec(text)?.[1] ?? '';
    ids.set(mark, (ids.get(mark) ?? new Set()).add(id));
  }
  const twice = [...ids.values()].filter(each => each.size > 1).length;
  t.comment(`${kills} kills, ${marks().length - 2 * wanted} copies too many from the queue`);
  t.equal(twice, 0, 'nothing was fetched twice');
  t.ok(kills > 0);
  t.equal(await gateway.end('SIGTERM'), 0);
});
