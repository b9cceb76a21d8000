import t from 'tap';
import { auth } from '../../plugins/auth/index.ts';
import { plugin } from '../harness/plugin.ts';

const accounts = { local: ['example.org'], users: { 'bob@example.org': 'right', 'alice@example.org': 'right' } };
const locked = { kind: 'defer', reply: { code: 454, enhanced: '4.7.0' } };

t.test('right, wrong, unknown, and accounts that cannot answer', async t => {
  const p = await plugin(auth, {}, { accounts });
  t.teardown(() => p.close());
  await p.connect();
  t.match(await p.auth('Bob@example.org', 'right'), {
    kind: 'accept',
    outcome: { kind: 'ok', identity: { name: 'bob@example.org', mechanism: 'PLAIN' } },
  });
  for (const [user, password] of [
    ['bob@example.org', 'wrong'],
    ['eve@example.org', 'right'],
    ['', ''],
    ['bob@example.org', ''],
  ] as const)
    t.match(await p.auth(user, password), {
      kind: 'continue',
      outcome: { kind: 'refused', reply: { code: 535, enhanced: '5.7.8' } },
    });
  t.notMatch(JSON.stringify(p.steps()), /wrong"|right"/, 'no password in the trace');
  p.host.setUnavailable('disk');
  t.match(await p.auth('bob@example.org', 'right'), { kind: 'defer', reply: { code: 454, enhanced: '4.7.0' } });
});

t.test('guessing ends after so many failures, by network and by account', async t => {
  const p = await plugin(auth, { failuresPerAddress: 3, failuresPerAccount: 5 }, { accounts });
  t.teardown(() => p.close());
  await p.connect({ remote: '198.51.100.1' });
  await p.auth('bob@example.org', 'right');
  await p.connect({ remote: '2001:db8::1' });
  for (let i = 0; i < 3; i++) t.match(await p.auth('bob@example.org', `guess ${i}`), { kind: 'continue' });
  t.match(
    await p.auth('bob@example.org', 'right'),
    { ...locked, why: /2001|0db8/ },
    'not even with the right password',
  );
  await p.connect({ remote: '2001:db8::ffff' });
  t.match(await p.auth('alice@example.org', 'right'), locked, 'the whole /64');
  await p.connect({ remote: '192.0.2.9' });
  for (let i = 0; i < 2; i++) t.match(await p.auth('bob@example.org', `guess ${i}`), { kind: 'continue' });
  t.match(await p.auth('bob@example.org', 'right'), { ...locked, why: /bob/ }, 'account full');
  await p.connect({ remote: '198.51.100.1' });
  t.match(await p.auth('bob@example.org', 'right'), { kind: 'accept' }, 'the owner comes from where he came before');
  await p.connect({ remote: '203.0.113.5' });
  t.match(await p.auth('bob@example.org', 'right'), { kind: 'accept' }, 'a success clears the account');
});

t.test('guesses at once learn no more than one after the other', async t => {
  const p = await plugin(auth, { failuresPerAddress: 3, failuresPerAccount: 5 }, { accounts });
  t.teardown(() => p.close());
  const guess = async (passwords: readonly string[]) => {
    const logins = await Promise.all(passwords.map(password => p.auth('bob@example.org', password)));
    return logins.map(({ outcome }) => (outcome.kind === 'refused' ? outcome.reply?.code : 235));
  };
  const many = Array.from({ length: 20 }, (_, n) => `guess ${n}`);
  await p.connect({ remote: '192.0.2.1' });
  t.same(await guess([...many, 'right']), [535, 535, 535, ...Array(18).fill(454)]);
  await p.connect({ remote: '192.0.2.2' });
  t.same(await guess(['a', 'b', 'c', 'right']), [535, 535, 454, 454], 'the account: five in all');
});

t.test('right passwords at once all get in, also with one failure left', async t => {
  const p = await plugin(auth, { failuresPerAddress: 3, failuresPerAccount: 3 }, { accounts });
  t.teardown(() => p.close());
  await p.connect();
  await p.auth('bob@example.org', 'typo');
  await p.auth('bob@example.org', 'typo');
  const many = Array.from({ length: 20 }, () => p.auth('bob@example.org', 'right'));
  for (const { outcome } of await Promise.all(many)) t.equal(outcome.kind, 'ok');
});

t.test('proofs are counted as passwords are, and by the network alone where no name is given', async t => {
  const p = await plugin(auth, { failuresPerAddress: 3, failuresPerAccount: 2 }, { accounts });
  t.teardown(() => p.close());
  await p.connect({ remote: '192.0.2.1' });
  t.match(await p.sasl('Bob@example.org', true), {
    kind: 'accept',
    outcome: { kind: 'ok', identity: { name: 'bob@example.org', mechanism: 'SCRAM-SHA-256' } },
  });
  t.match(await p.sasl('eve@example.org', true), {
    kind: 'continue',
    evidence: { account: 'eve@example.org' },
    outcome: { kind: 'refused', reply: { code: 535, enhanced: '5.7.8' } },
  });
  p.host.setUnavailable('disk');
  t.match(await p.sasl('bob@example.org', true), { kind: 'defer', reply: { code: 454, enhanced: '4.7.0' } });
  p.host.setUnavailable(undefined);
  await p.connect({ remote: '192.0.2.2' });
  t.match(await p.sasl('alice@example.org', false), { kind: 'continue' });
  t.match(await p.auth('alice@example.org', 'wrong'), { kind: 'continue' });
  await p.connect({ remote: '192.0.2.3' });
  t.match(await p.sasl('alice@example.org', true), { ...locked, why: /alice/ }, 'by proof and by password: one count');
  await p.connect({ remote: '192.0.2.4' });
  for (let i = 0; i < 3; i++)
    t.match(await p.sasl('', false, 'OAUTHBEARER'), { kind: 'continue' }, 'no account to be full');
  t.match(await p.sasl('', true, 'OAUTHBEARER'), { ...locked, why: /192\.0\.2\.4/ });
  const off = await plugin(auth, { passwordsOnly: true }, { accounts });
  t.teardown(() => off.close());
  await off.connect();
  t.match(await off.sasl('bob@example.org', true), { kind: 'not asked', outcome: { reply: { code: 535 } } });
});

t.test('Authentication-Results: forged ones in our name go, ours tells of a login without the login name', async t => {
  const p = await plugin(auth, {}, { accounts });
  t.teardown(() => p.close());
  const text = `Authentication-Results: ${p.host.hostname}; spf=pass smtp.mailfrom=bank.test\nAuthentication-Results: other.test; spf=pass\nFrom: a@b.test\nSubject: x\n\nbody\n`;
  const resultsIn = async (driven: typeof p, message: string): Promise<readonly string[]> => {
    const { outcome } = await driven.message(message);
    if (outcome.kind !== 'deliver') throw new Error(outcome.kind);
    return outcome.message.headers.all('authentication-results').map(field => field.value.replace(/\s+/g, ' '));
  };
  await p.connect();
  await p.mail('a@b.test');
  await p.rcpt('c@example.org');
  t.same(await resultsIn(p, text), ['other.test; spf=pass']);
  t.match(p.steps().at(-1), { plugin: 'auth', evidence: { forgedResults: 1 } });
  t.same(await resultsIn(p, 'From: a@b.test\n\nbody\n'), []);
  await p.auth('bob@example.org', 'right');
  await p.mail('bob@example.org');
  await p.rcpt('c@example.org');
  t.same(await resultsIn(p, 'From: bob@example.org\n\nbody\n'), [
    `${p.host.hostname}; auth=pass smtp.mailfrom=bob@example.org`,
  ]);
  const off = await plugin(auth, { authenticationResults: false }, { accounts });
  t.teardown(() => off.close());
  await off.mail('a@b.test');
  await off.rcpt('c@example.org');
  t.equal((await resultsIn(off, text)).length, 2);
});
