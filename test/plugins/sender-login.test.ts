import t from 'tap';
import { senderLogin } from '../../plugins/sender-login/index.ts';
import { plugin } from '../harness/plugin.ts';

const folder = t.testdir({
  logins:
    'sales@example.org  bob@example.org, Carol@example.org\n@shop.example  carol@example.org\nnews  dave@example.org\n',
});
const accounts = { local: ['example.org'], users: { 'bob@example.org': 'x', 'eve@example.org': 'x' } };
const maps = ['hash:logins', { pattern: '/^team-.*@example\\.org$/', to: 'bob@example.org' }];
const open = async (options: object = {}) => {
  const p = await plugin(
    senderLogin,
    { maps, ...options },
    { accounts, configFolder: folder, relayNetworks: ['198.51.100.0/24'] },
  );
  t.teardown(() => p.close());
  return p;
};

async function mail(
  options: object,
  who: { readonly identity?: string; readonly remote?: string },
  sender: string | null,
): Promise<string> {
  const p = await open(options);
  await p.connect(who);
  const { kind, reply } = await p.mail(sender);
  return `${kind} ${reply?.code ?? ''}`.trim();
}
async function from(options: object, identity: string | undefined, text: string) {
  const p = await open(options);
  await p.connect(identity === undefined ? {} : { identity });
  await p.mail(null);
  await p.rcpt('x@far.test');
  const { kind, reply, outcome } = await p.message(`${text}\n\nx\n`);
  const made = outcome as { readonly message?: { bytes(): Promise<Buffer> } };
  return { kind, code: reply?.code, text: (await made.message?.bytes())?.toString() ?? '' };
}
const bob = { identity: 'Bob@example.org' };

t.test('the envelope of an authenticated client', async t => {
  for (const [sender, wanted] of [
    ['bob@example.org', 'continue'],
    ['BOB@Example.ORG', 'continue'],
    ['bob+x@example.org', 'continue'],
    ['sales@example.org', 'continue'],
    ['sales+x@example.org', 'continue'],
    ['team-a@example.org', 'continue'],
    ['eve@example.org', 'reject 553'],
    ['x@shop.example', 'reject 553'],
    ['news@example.org', 'reject 553'],
    ['anybody@far.test', 'reject 553'],
    [null, 'continue'],
  ] as const)
    t.equal(await mail({}, bob, sender), wanted, String(sender));
  t.equal(await mail({}, { identity: 'carol@example.org' }, 'x@shop.example'), 'continue');
  t.equal(
    await mail({}, { identity: 'dave@example.org' }, 'news@example.org'),
    'continue',
    'a bare name in a local domain',
  );
  t.equal(await mail({ own: false }, bob, 'bob@example.org'), 'reject 553');
  t.equal(await mail({ delimiter: '' }, bob, 'bob+x@example.org'), 'reject 553');
  t.equal(await mail({ envelope: 'refuse-owned' }, bob, 'anybody@far.test'), 'continue');
  t.equal(await mail({ envelope: 'refuse-owned' }, bob, 'eve@example.org'), 'reject 553', 'a mailbox has an owner');
  t.equal(await mail({ envelope: 'refuse-owned' }, bob, 'nobody@example.org'), 'continue');
  t.equal(await mail({ envelope: 'refuse-owned' }, bob, 'x@shop.example'), 'reject 553');
  t.equal(await mail({ envelope: 'ignore' }, bob, 'eve@example.org'), 'continue');
  t.equal(await mail({ exempt: ['bob@*'] }, bob, 'eve@example.org'), 'continue');
});

t.test('clients that did not log in', async t => {
  t.equal(await mail({}, {}, 'bob@example.org'), 'continue');
  const options = { strangers: 'refuse-owned' };
  t.equal(await mail(options, {}, 'bob@example.org'), 'reject 553');
  t.equal(await mail(options, {}, 'x@shop.example'), 'reject 553');
  t.equal(await mail(options, {}, 'x@far.test'), 'continue');
  t.equal(await mail(options, { remote: '198.51.100.7' }, 'bob@example.org'), 'continue');
});

t.test('From and Sender', async t => {
  for (const [text, kind] of [
    ['From: Bob <bob@example.org>', 'continue'],
    ['From: "Sales" <sales@example.org>\nSender: bob@example.org', 'continue'],
    ['From: eve@example.org', 'reject'],
    ['From: "bob@example.org" <eve@example.org>', 'reject'],
    ['From: bob@example.org, eve@example.org', 'reject'],
    ['From: bob@example.org\nFrom: eve@example.org', 'reject'],
    ['From: bob@example.org\nSender: eve@example.org', 'reject'],
    ['From: g: bob@example.org, eve@example.org;', 'reject'],
    ['From: nonsense', 'reject'],
    ['From: "a b"@example.org', 'reject'],
    ['Subject: no author', 'continue'],
  ] as const)
    t.equal((await from({}, 'bob@example.org', text)).kind, kind, text);
  t.equal((await from({}, undefined, 'From: bob@example.org')).kind, 'continue', 'who did not log in');
  t.equal((await from({ from: 'ignore' }, 'bob@example.org', 'From: eve@example.org')).kind, 'continue');
  t.equal((await from({ from: 'refuse-owned' }, 'bob@example.org', 'From: x@far.test')).kind, 'continue');
  t.equal((await from({ from: 'refuse-owned' }, 'bob@example.org', 'From: eve@example.org')).kind, 'reject');
  const tagged = await from(
    { from: 'tag' },
    'bob@example.org',
    'X-Authenticated-Sender: forged\nFrom: eve@example.org',
  );
  t.match(tagged.text, /^X-Authenticated-Sender: bob@example\.org\r\nFrom: eve/);
  t.match((await from({ from: 'tag' }, undefined, 'X-Authenticated-Sender: forged\nFrom: a@b.test')).text, /^From: a/);
});

t.test('a directory that cannot answer: nobody gets away with it', async t => {
  const p = await open({ strangers: 'refuse-owned' });
  p.host.setUnavailable('down');
  await p.connect({});
  t.equal((await p.mail('bob@example.org')).kind, 'defer');
});
