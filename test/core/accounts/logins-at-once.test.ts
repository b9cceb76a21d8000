// Logins side by side: they are no more guesses than logins one after the other, and the owner's many connections get in.
import t, { type Test } from 'tap';
import { authLimits } from '../../../core/accounts/auth-limits.ts';
import type { AuthResult } from '../../../core/accounts/directory.ts';
import { openPasswords } from '../../../core/accounts/passwords.ts';
import { createTokenVerifier } from '../../../core/accounts/token-verifier.ts';
import { openUsers } from '../../../core/accounts/users.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { heldClock } from '../../harness/held-clock.ts';

const from = { address: '192.0.2.1', service: 'imap' } as const;
const many = Array.from({ length: 40 }, (_, n) => n);
const count = (results: readonly AuthResult[], kind: AuthResult['kind']): number =>
  results.filter(result => result.kind === kind).length;
const ok = { kind: 'ok', account: { name: 'a', disabled: false } } as const;
const refused = { kind: 'refused', why: 'wrong' } as const;

async function open(t: Test) {
  const state = await openSqliteState(':memory:');
  const passwords = openPasswords({ scryptLn: 8, scramIterations: 4096 });
  t.teardown(async () => {
    await passwords.close();
    await state.close();
  });
  const verified: string[] = [];
  const users = await openUsers({
    state,
    passwords: {
      ...passwords,
      verify(stored, password) {
        verified.push(password);
        return passwords.verify(stored, password);
      },
    },
    limits: authLimits({ clock: systemClock }),
    clock: systemClock,
    refusalAfterMs: 0,
    warn: t.fail,
  });
  await users.add('alice@example.org', { password: 'right' });
  return { users, passwords, verified };
}

t.test('wrong passwords at once: no more are looked at than the limit lets pass', async t => {
  const { users, verified } = await open(t);
  const results = await Promise.all(many.map(n => users.authenticate('alice', `guess ${n}`, from)));
  t.equal(verified.length, 10);
  t.equal(count(results, 'refused'), 10);
  t.match(results.at(-1), { kind: 'unavailable', why: 'too many failed logins of this account' });
  t.match(await users.authenticate('alice', 'right', from), { kind: 'unavailable' });
});

t.test('right passwords at once: all get in, also with one failure left', async t => {
  const { users } = await open(t);
  const logIn = () => Promise.all(many.map(() => users.authenticate('alice', 'right', from)));
  t.equal(count(await logIn(), 'ok'), many.length);
  for (let n = 0; n < 9; n++) t.match(await users.authenticate('alice', `typo ${n}`, from), { kind: 'refused' });
  t.equal(count(await logIn(), 'ok'), many.length);
});

t.test('a password that could not be looked at counts for nothing', async t => {
  const { users, passwords } = await open(t);
  await passwords.close();
  for (let round = 0; round < 2; round++) {
    const results = await Promise.all(many.map(n => users.authenticate('alice', `guess ${n}`, from)));
    t.ok(results.every(result => result.kind === 'unavailable' && !/too many/.test(result.why)));
  }
});

t.test('SCRAM: exchanges that are begun hold nobody up, and only so many proofs are told from wrong ones', async t => {
  const { users } = await open(t);
  const started = await Promise.all(many.map(() => users.startScram?.('alice', 'SHA-256', from)));
  t.match(await users.authenticate('alice', 'right', from), { kind: 'ok' });
  const proofs = many.map(n => n === many.length - 1);
  const results = await Promise.all(
    started.map((one, n) => (one?.kind === 'verifier' ? one.finish(proofs[n] === true) : { ...refused, why: 'none' })),
  );
  t.equal(count(results, 'refused'), 10);
  t.match(results.at(-1), { kind: 'unavailable', why: /too many/ }, 'not even the right one');
});

t.test('tokens at once: the issuer is asked no more than the limit lets pass', async t => {
  let asked = 0;
  const verify = createTokenVerifier({
    async introspect() {
      asked++;
      return { kind: 'answer', claims: { active: false } };
    },
    directory: { find: async () => ({ kind: 'none' }) },
    limits: authLimits({ clock: heldClock(), perAddress: 3 }),
    clock: heldClock(),
    account: 'email',
  });
  const results = await Promise.all(many.map(n => verify(`token ${n}`, '', from)));
  t.equal(asked, 3);
  t.equal(count(results, 'refused'), 3);
});

/** Attempts that are decided by hand. */
function held(options: Parameters<typeof authLimits>[0]) {
  const limits = authLimits(options);
  const judged: string[] = [];
  const deciders = new Map<string, (result: AuthResult | Error) => void>();
  return {
    limits,
    judged,
    begin(account: string, address = '192.0.2.1'): Promise<AuthResult> {
      return limits
        .within({ address, account }, () => {
          judged.push(account);
          return new Promise((resolve, reject) =>
            deciders.set(account, result => (result instanceof Error ? reject(result) : resolve(result))),
          );
        })
        .catch((error: unknown) => ({ kind: 'unavailable', why: String(error) }));
    },
    decide: (account: string, result: AuthResult | Error) => deciders.get(account)?.(result),
  };
}

t.test('who waits takes the place of what is given back, in turn', async t => {
  const { begin, decide, judged, limits } = held({ clock: heldClock(), perAddress: 2 });
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(account => begin(account));
  const elsewhere = begin('e', '198.51.100.1');
  await null;
  t.same(judged, ['a', 'b', 'e'], 'another network does not wait');
  decide('e', ok);
  t.match(await elsewhere, ok);
  decide('a', { kind: 'unavailable', why: 'store' });
  t.match(await a, { why: 'store' });
  decide('b', new Error('broken'));
  t.match(await b, { why: /broken/ });
  t.same(judged, ['a', 'b', 'e', 'c', 'd']);
  decide('c', refused);
  t.match(await c, refused);
  t.equal(limits.blocked({ address: '192.0.2.1', account: 'x' }), undefined, 'one failure, one under way');
  const waiting = begin('f');
  decide('d', refused);
  t.match(await d, refused);
  t.match(await waiting, { kind: 'unavailable', why: 'too many failed logins of this address' });
  t.equal(judged.includes('f'), false);
});

t.test('no more than so many wait', async t => {
  const { begin, decide, judged } = held({ clock: heldClock(), perAddress: 1 });
  const first = begin('a');
  const waiting = Array.from({ length: 1000 }, () => begin('b'));
  t.match(await begin('c'), { kind: 'unavailable', why: 'too many logins are waiting' });
  decide('a', refused);
  t.match(await first, refused);
  t.equal(count(await Promise.all(waiting), 'unavailable'), 1000);
  t.same(judged, ['a']);
});

t.test('failures are forgotten when the window ends', async t => {
  const clock = heldClock();
  const limits = authLimits({ clock, perAccountAndAddress: 2, windowSeconds: 60 });
  const attempt = { address: '192.0.2.1', account: 'a' };
  const fail = () => limits.within(attempt, async () => refused);
  await fail();
  clock.move(59_000);
  await fail();
  t.match(limits.blocked(attempt), /account/);
  clock.move(1000);
  t.equal(limits.blocked(attempt), undefined, 'it begins with the first failure');
  t.match(await fail(), refused);
});
