import t from 'tap';
import { relayPolicy } from '../../plugins/relay-policy/index.ts';
import { plugin } from '../harness/plugin.ts';

const accounts = { local: ['example.org'], virtual: ['shop.example'], relay: ['inner.example'] };
const setup = { accounts, relayNetworks: ['198.51.100.0/24', '2001:db8::/32'] };
const denied = { kind: 'reject', reply: { code: 554, enhanced: '5.7.1', text: 'Relay access denied' } };

/** Spellings of "take this to there.example for me", as strangers have tried them for decades. */
const attempts = [
  'user@there.example',
  'USER@THERE.EXAMPLE',
  'user%there.example@example.org',
  'user%there.example@inner.example',
  'user%there.example@[127.0.0.1]',
  'user@[127.0.0.1]',
  'user@[192.0.2.7]',
  'user@[IPv6:::1]',
  'user@127.0.0.1',
  'user@localhost',
  'there.example!user@example.org',
  'there.example!user@shop.example',
  'there.example!user@there.example',
  '"user@there.example"@example.org',
  '"user@there.example"@inner.example',
  '"user%there.example"@example.org',
  '"there.example!user"@example.org',
  '"@there.example:user"@example.org',
  '"@example.org,@there.example:user"@example.org',
  'user@example.org.there.example',
  'user@sub.example.org',
  'user@example.orgx',
  'user@xexample.org',
  'user%example.org@there.example',
  '""@there.example',
  'postmaster@there.example',
  'postmaster%there.example@example.org',
  'a!b!c@example.org',
  'user%a%b@example.org',
];

t.test('strangers relay nowhere, however they spell it', async t => {
  const p = await plugin(relayPolicy, {}, setup);
  t.teardown(() => p.close());
  for (const role of ['smtp', 'lmtp'] as const) {
    await p.connect({ role });
    for (const sender of ['x@example.org', 'x@elsewhere.example', null]) {
      await p.mail(sender);
      for (const to of attempts) t.match(await p.rcpt(to), denied, `${role} <${sender ?? ''}> → ${to}`);
    }
  }
  for (const to of ['bob@example.org', 'BOB@Example.Org', 'a@shop.example', 'b@inner.example', 'postmaster'])
    t.match(
      await p.rcpt(to),
      { kind: 'continue', outcome: { kind: 'refused' } },
      'ours, but somebody else must accept',
    );
});

t.test('users and configured networks relay; submission without AUTH does not', async t => {
  const p = await plugin(relayPolicy, {}, setup);
  t.teardown(() => p.close());
  for (const client of [{ identity: 'bob@example.org' }, { remote: '198.51.100.7' }, { remote: '2001:db8::7' }]) {
    await p.connect(client);
    await p.mail('bob@example.org');
    t.match(await p.rcpt('user@there.example'), { kind: 'accept' });
    t.match(await p.rcpt('user%x@there.example'), { kind: 'accept' });
    t.match(await p.rcpt('alice@example.org'), { kind: 'continue' }, 'existence is asked for our own domains');
  }
  await p.connect({ remote: '198.51.100.7', role: 'lmtp' });
  await p.mail(null);
  t.match(await p.rcpt('user@there.example'), denied, 'LMTP never relays');
  await p.connect({ role: 'submission' });
  t.match(await p.mail('bob@example.org'), { kind: 'reject', reply: { code: 530, enhanced: '5.7.0' } });

  const strict = await plugin(relayPolicy, { authenticated: false, networks: false }, setup);
  t.teardown(() => strict.close());
  for (const client of [{ identity: 'bob@example.org' }, { remote: '198.51.100.7' }]) {
    await strict.connect(client);
    await strict.mail('bob@example.org');
    t.match(await strict.rcpt('user@there.example'), denied);
  }
});

t.test('rules about senders and routed local parts, where wanted', async t => {
  const p = await plugin(
    relayPolicy,
    { foreignSenders: 'refuse', ownSenders: 'refuse', routedLocalParts: 'allow' },
    setup,
  );
  t.teardown(() => p.close());
  await p.connect({ identity: 'bob@example.org' });
  t.match(await p.mail('bob@elsewhere.example'), { kind: 'reject', reply: { code: 550, enhanced: '5.7.1' } });
  t.match(await p.mail('bob@shop.example'), { kind: 'continue' });
  t.match(await p.mail(null), { kind: 'continue' }, 'the null sender is nobody’s');
  await p.connect();
  t.match(await p.mail('boss@example.org'), { kind: 'reject' });
  t.match(await p.mail(null), { kind: 'continue' });
  await p.mail('x@elsewhere.example');
  t.match(await p.rcpt('a%b@example.org'), { kind: 'continue' });
  t.match(await p.rcpt('user@there.example'), denied);
  await p.connect({ role: 'lmtp' });
  t.match(await p.mail('bob@example.org'), { kind: 'continue' }, 'a local MTA hands over mail of ours');
});
