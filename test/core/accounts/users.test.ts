import { rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { parseAccountName } from '../../../core/accounts/account-name.ts';
import { addressKey, authLimits } from '../../../core/accounts/auth-limits.ts';
import { openPasswdFile, parsePasswdLine } from '../../../core/accounts/passwd-file.ts';
import { openPasswords } from '../../../core/accounts/passwords.ts';
import { openUsers } from '../../../core/accounts/users.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { StateError } from '../../../core/state/state.ts';

const from = { address: '192.0.2.1', service: 'imap' } as const;

async function open(t: Test) {
  const state = await openSqliteState(path.join(t.testdir(), 'state.db'));
  const passwords = openPasswords({ scryptLn: 12, scramIterations: 4096 });
  const limits = authLimits({ clock: systemClock });
  const warnings: string[] = [];
  const options = {
    state,
    passwords,
    limits,
    clock: systemClock,
    refusalAfterMs: 0,
    warn: (m: string) => warnings.push(m),
  };
  const users = await openUsers(options);
  t.teardown(async () => {
    await passwords.close();
    await state.close();
  });
  return { state, users, passwords, limits, options, warnings };
}

t.test('the life of a user', async t => {
  const { users, options } = await open(t);
  t.same(await users.domains(), { kind: 'found', value: [] });
  t.same(await users.add('Alice@Example.ORG', { password: 'one', quotaBytes: 5000 }), {
    name: 'alice@example.org',
    quotaBytes: 5000,
    disabled: false,
  });
  await t.rejects(users.add('alice@example.org', { password: 'x' }), { name: 'AccountError', code: 'exists' });
  await t.rejects(users.add('alice', { password: 'x' }), { code: 'invalid', message: /full address/ });
  await t.rejects(users.setPassword('nobody@example.org', 'x'), { code: 'unknown' });
  t.match(await users.find('ALICE@example.org'), {
    kind: 'found',
    value: { name: 'alice@example.org', quotaBytes: 5000 },
  });
  t.match(await users.find('alice'), { kind: 'found' });
  t.same(await users.find('bob@example.org'), { kind: 'none' });
  t.same(await users.find('alice@example.org/../x'), { kind: 'none' });
  await users.add('alice@münchen.example', { password: 'two' });
  const second = await openUsers(options);
  t.same(await second.find('alice'), { kind: 'none' }, 'ambiguous now');
  t.same(await users.domains(), { kind: 'found', value: ['example.org', 'xn--mnchen-3ya.example'] });

  t.match(await users.authenticate('alice@example.org', 'one', from), { kind: 'ok', account: { quotaBytes: 5000 } });
  t.match(await users.authenticate('alice@example.org', 'two', from), { kind: 'refused', why: 'wrong password' });
  t.match(await users.authenticate('nobody@example.org', 'two', from), { kind: 'refused', why: 'no such account' });
  await users.setPassword('alice@example.org', 'three');
  t.match(await users.authenticate('alice@example.org', 'one', from), { kind: 'refused' }, 'not from the cache');
  t.match(await users.authenticate('alice@example.org', 'three', from), { kind: 'ok' });
  await users.setDisabled('alice@example.org', true);
  t.match(await users.find('alice@example.org'), { value: { disabled: true } }, 'seen at once in this process');
  t.match(await users.authenticate('alice@example.org', 'three', from), {
    kind: 'refused',
    why: 'account is disabled',
  });
  await users.setQuota('alice@example.org', undefined);
  t.match(await users.list(), [
    { name: 'alice@example.org', disabled: true, quotaBytes: undefined, passwordScheme: 'SCRYPT' },
    { name: 'alice@xn--mnchen-3ya.example' },
  ]);
  t.equal((await users.list('Example.org')).length, 1);
  await users.remove('alice@example.org');
  t.same(await users.find('alice@example.org'), { kind: 'none' });
  await t.rejects(users.remove('alice@example.org'), { code: 'unknown' });
});

t.test('an account that is changed while it is looked up is not kept as it was', async t => {
  const { state, options } = await open(t);
  let hold: Promise<void> | undefined;
  let read = (): void => undefined;
  const slow: typeof state = {
    migrate: (...given) => state.migrate(...given),
    write: statements => state.write(statements),
    async query(...given) {
      const rows = await state.query(...given);
      read();
      await hold;
      return rows;
    },
    close: () => state.close(),
  };
  const users = await openUsers({ ...options, state: slow });
  await users.add('alice@example.org', { password: 'one' });
  const isRead = new Promise<void>(resolve => {
    read = resolve;
  });
  let proceed = (): void => undefined;
  hold = new Promise(resolve => {
    proceed = resolve;
  });
  const before = users.find('alice@example.org');
  await isRead;
  await users.setDisabled('alice@example.org', true);
  proceed();
  t.match(await before, { value: { disabled: false } });
  t.match(await users.find('alice@example.org'), { value: { disabled: true } });
});

t.test('a migrated hash is renewed at the first login, a strange one is said to be strange', async t => {
  const { users, warnings } = await open(t);
  await users.add('old@example.org', { passwordHash: '{SSHA}aHXy4pF7mECp30DXQaYWDBkqWNVO4hSa' });
  await users.add('odd@example.org', { passwordHash: '{DES-CRYPT}abcdefghijk' });
  await users.add('none@example.org', {});
  t.match(await users.startScram?.('old@example.org', 'SHA-256', from), { kind: 'verifier' }, 'made up');
  t.match(await users.authenticate('old@example.org', 'Grüße 1', from), { kind: 'ok' });
  // The new hash is stored after the answer: logging in does not wait for it, the test does.
  let schemes: readonly (string | undefined)[] = [];
  while (!schemes.includes('SCRYPT')) schemes = (await users.list()).map(user => user.passwordScheme);
  t.match(await users.authenticate('old@example.org', 'Grüße 1', from), { kind: 'ok' });
  t.match(await users.authenticate('odd@example.org', 'x', from), { kind: 'refused', why: /DES-CRYPT/ });
  t.match(await users.authenticate('none@example.org', '', from), { kind: 'refused', why: /without a password/ });
  t.same(warnings, ['Password scheme cannot be verified']);
  t.match(await users.authenticate('old@example.org', 'x'.repeat(2000), from), { kind: 'refused', why: /too long/ });
});

t.test('a store that fails is "unavailable", never "no such account"', async t => {
  const { options } = await open(t);
  const broken = {
    ...options.state,
    migrate: async () => undefined,
    query: () => Promise.reject(new StateError('busy', 'Locked')),
  };
  const users = await openUsers({ ...options, state: broken });
  t.match(await users.find('alice@example.org'), { kind: 'unavailable', why: 'Locked' });
  t.match(await users.authenticate('alice@example.org', 'x', from), { kind: 'unavailable' });
  t.match(await users.startScram?.('alice@example.org', 'SHA-256', from), { kind: 'unavailable' });
  t.match(await users.domains(), { kind: 'unavailable' });
});

t.test('guessing is limited per address, per account from it, per account from everywhere', async t => {
  const limits = authLimits({
    clock: systemClock,
    perAddress: 5,
    perAccountAndAddress: 3,
    perAccount: 6,
    exempt: ['10.0.0.0/8', '::1'],
  });
  const fail = async (address: string, account: string, password?: string) => {
    const attempt = { address, account, ...(password !== undefined && { password }) };
    return (await limits.within(attempt, async () => ({ kind: 'refused', why: 'wrong' }))) as { why: string };
  };
  const [wrong, thisAccount, thisAddress] = [/^wrong$/, /of this account$/, /of this address$/].map(why => ({ why }));
  for (let n = 0; n < 10; n++)
    t.match(await fail('192.0.2.1', 'a', 'same'), wrong, 'the same wrong password counts once');
  t.match(await fail('192.0.2.1', 'a', 'second'), wrong);
  t.match(await fail('::ffff:192.0.2.1', 'a', 'third'), wrong);
  t.match(await fail('192.0.2.1', 'a', 'fourth'), thisAccount);
  t.equal(limits.blocked({ address: '192.0.2.1', account: 'b' }), undefined);
  for (const account of ['b', 'c']) await fail('192.0.2.1', account);
  t.match(await fail('192.0.2.1', 'd'), thisAddress);
  t.equal(limits.blocked({ address: '192.0.2.2', account: 'a' }), undefined, 'others go on');
  await limits.within({ address: '198.51.100.7', account: 'a' }, async () => ({
    kind: 'ok',
    account: { name: 'a', disabled: false },
  }));
  for (let n = 0; n < 3; n++) await fail(`203.0.113.${n}`, 'a');
  t.match(await fail('203.0.113.9', 'a'), thisAccount, 'from everywhere');
  t.equal(limits.blocked({ address: '198.51.100.7', account: 'a' }), undefined, 'but the owner gets in');
  t.equal(limits.blocked({ address: '10.9.9.9', account: 'a' }), undefined);
  t.equal(addressKey('2001:db8:0:1::5'), addressKey('2001:DB8::1:ffff:0:0:9'));
  t.not(addressKey('2001:db8:0:1::5'), addressKey('2001:db8:0:2::5'));
});

t.test('too many failures are a temporary failure, whatever the password', async t => {
  const { users } = await open(t);
  await users.add('alice@example.org', { password: 'one' });
  for (let n = 0; n < 10; n++) await users.authenticate('alice', `guess ${n}`, from);
  t.match(await users.authenticate('alice@example.org', 'one', from), { kind: 'unavailable', why: /too many/ });
  t.match(await users.authenticate('alice@example.org', 'one', { ...from, address: '192.0.2.2' }), { kind: 'ok' });
});

t.test('names', async t => {
  for (const [given, name] of [
    ['Postmaster@Example.ORG.', 'postmaster@example.org'],
    ["o'neil+x@example.org", "o'neil+x@example.org"],
    ['grüße@münchen.example', 'grüße@xn--mnchen-3ya.example'],
  ] as const)
    t.match(parseAccountName(given), { kind: 'ok', name });
  for (const bad of [
    '',
    'a',
    '@b',
    'a@',
    'a..b@c',
    '.a@c',
    'a/b@c',
    'a b@c',
    'a\0@c',
    '"a"@c',
    'a@b c',
    'a@-b',
    `${'a'.repeat(65)}@c`,
    'a@..',
    '../..@c',
    'a@b/c',
  ])
    t.match(parseAccountName(bad), { kind: 'invalid' }, bad);
});

t.test('a passwd-file is read, read again when it changes, and its loss is no empty directory', async t => {
  const folder = t.testdir();
  const file = path.join(folder, 'passwd');
  const lines = [
    '# comment',
    'alice@example.org:{PLAIN}one:1000:1000::/home/a::userdb_quota_rule=*:storage=2M userdb_mail=x',
    'bob:{SHA512-CRYPT}$6$abc$XdYVWINHFqAPqCkQNpBc64k/whmYeD3VETO0Hk79c4aGoQEvgiYKd/03lbc/XloI0fcMwRw.Rj.dZbn3LdPVz.::::::',
    'carl@example.org:{PLAIN}x::::::nologin userdb_quota_storage_size=1024',
    'bad name:x',
  ];
  writeFileSync(file, lines.join('\n'));
  let now = 0;
  const clock = { ...systemClock, monotonic: () => now };
  const passwords = openPasswords({ scryptLn: 12 });
  t.teardown(() => passwords.close());
  const warnings: unknown[] = [];
  const directory = openPasswdFile({
    file,
    defaultDomain: 'example.org',
    passwords,
    limits: authLimits({ clock }),
    clock,
    refusalAfterMs: 0,
    warn: (message, details) => warnings.push([message, details]),
  });
  t.same(await directory.find('alice'), {
    kind: 'found',
    value: { name: 'alice@example.org', disabled: false, quotaBytes: 2 * 1024 * 1024 },
  });
  t.match(await directory.authenticate('bob', 'test', from), { kind: 'ok', account: { name: 'bob@example.org' } });
  t.match(await directory.authenticate('carl', 'x', from), { kind: 'refused', why: /disabled/ });
  t.match(await directory.find('carl'), { value: { quotaBytes: 1024, disabled: true } });
  t.same(await directory.domains(), { kind: 'found', value: ['example.org'] });
  t.match(warnings, [['Line of the password file ignored', { line: 5 }]]);
  writeFileSync(file, 'dora@example.net:{PLAIN}y\n');
  utimesSync(file, 1, 1);
  t.match(await directory.find('alice'), { kind: 'found' }, 'not looked at twice in a second');
  now = 1500;
  t.same(await directory.find('alice'), { kind: 'none' });
  t.match(await directory.find('dora'), { kind: 'found' });
  rmSync(file);
  now = 3000;
  t.match(await directory.find('dora'), { kind: 'unavailable', why: /ENOENT/ });
  t.match(await directory.authenticate('dora', 'y', from), { kind: 'unavailable' });
  t.equal(parsePasswdLine('nodomain:x'), undefined);
});
