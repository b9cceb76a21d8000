import t from 'tap';
import { authLimits } from '../../../core/accounts/auth-limits.ts';
import type { Account, Lookup } from '../../../core/accounts/directory.ts';
import { createTokenVerifier, type TokenVerifierOptions } from '../../../core/accounts/token-verifier.ts';
import { heldClock } from '../../harness/held-clock.ts';

const from = { address: '192.0.2.1', service: 'imap' } as const;
const clock = heldClock();
const now = clock.now() / 1000;
const accounts: Readonly<Record<string, Account>> = {
  'ann@example.org': { name: 'ann@example.org', disabled: false },
  ann: { name: 'ann@example.org', disabled: false },
  'ben@example.org': { name: 'ben@example.org', disabled: false },
  'old@example.org': { name: 'old@example.org', disabled: true },
};
const find = async (name: string): Promise<Lookup<Account>> => {
  if (name.startsWith('down')) return { kind: 'unavailable', why: 'disk' };
  const value = accounts[name];
  return value ? { kind: 'found', value } : { kind: 'none' };
};

const verifier = (claims: Readonly<Record<string, unknown>>, options: Partial<TokenVerifierOptions> = {}) =>
  createTokenVerifier({
    introspect: async () => ({ kind: 'answer', claims }),
    directory: { find },
    limits: authLimits({ clock }),
    clock,
    account: 'email',
    ...options,
  });
const good = { active: true, email: 'ann@example.org', iss: 'https://issuer', aud: ['mail', 'x'], scope: 'a mail' };
const expected = { issuer: 'https://issuer', audience: 'mail', scope: 'mail' };

t.test('a token holds where the issuer says so and everything is as it shall be', async t => {
  const ok = { kind: 'ok', account: { name: 'ann@example.org' } };
  t.match(await verifier(good, expected)('x', '', from), ok);
  t.match(await verifier({ ...good, aud: 'mail', exp: now + 1, nbf: now - 1 }, expected)('x', 'ann', from), ok);
  t.match(await verifier({ ...good, email: 1, username: 'ann' }, { account: 'username' })('x', '', from), ok);
  for (const [claims, why] of [
    [{ active: false }, /not active/],
    [{ active: 'true' }, /not active/],
    [{ active: undefined }, /not active/],
    [{ exp: now }, /expired/],
    [{ nbf: now + 1 }, /not hold yet/],
    [{ iss: 'https://issuer/' }, /another issuer/],
    [{ iss: undefined }, /another issuer/],
    [{ aud: 'mailer' }, /audience/],
    [{ aud: undefined }, /audience/],
    [{ scope: 'mails' }, /scope/],
    [{ scope: undefined }, /scope/],
    [{ email: '' }, /no claim 'email'/],
    [{ email: ['ann@example.org'] }, /no claim/],
    [{ email: 'eve@example.org' }, /no such account/],
    [{ email: 'old@example.org' }, /disabled/],
  ] as const)
    t.match(await verifier({ ...good, ...claims }, expected)('x', '', from), { kind: 'refused', why });
});

t.test('a token logs its owner in and nobody else', async t => {
  for (const name of ['ben@example.org', 'eve@example.org'])
    t.match(await verifier(good)('x', name, from), { kind: 'refused', why: /another account/ });
});

t.test('what cannot be known is no refusal, and counts for nothing', async t => {
  const limits = authLimits({ clock, perAddress: 1 });
  const down = async () => ({ kind: 'unavailable', why: 'issuer' }) as const;
  t.match(await verifier(good, { introspect: down, limits })('x', '', from), { kind: 'unavailable', why: 'issuer' });
  const broken = () => Promise.reject(new Error('bug'));
  t.match(await verifier(good, { introspect: broken, limits })('x', '', from), { kind: 'unavailable', why: 'bug' });
  t.match(await verifier({ ...good, email: 'down' }, { limits })('x', '', from), { kind: 'unavailable' });
  t.match(await verifier(good, { limits })('x', 'down', from), { kind: 'unavailable' });
  t.match(await verifier(good, { limits })('x', '', from), { kind: 'ok' });
});

t.test('after so many wrong tokens the issuer is not asked any more', async t => {
  const limits = authLimits({ clock, perAddress: 3 });
  let asked = 0;
  const introspect = async () => {
    asked++;
    return { kind: 'answer', claims: { active: false } } as const;
  };
  const verify = verifier({}, { introspect, limits });
  for (let i = 0; i < 5; i++)
    t.match(await verify('expired', 'ann', from), { kind: 'refused' }, 'a program with an old token counts once');
  for (const token of ['1', '2']) t.match(await verify(token, '', from), { kind: 'refused' });
  t.match(await verify('3', '', from), { kind: 'unavailable', why: /too many/ });
  t.equal(asked, 7);
});
