import path from 'node:path';
import t, { type Test } from 'tap';
import { authLimits } from '../../../core/accounts/auth-limits.ts';
import type { AuthResult, Directory } from '../../../core/accounts/directory.ts';
import { openPasswords } from '../../../core/accounts/passwords.ts';
import type { SaslExchange, SaslMechanism, SaslStep } from '../../../core/accounts/sasl/mechanism.ts';
import { offeredMechanisms } from '../../../core/accounts/sasl/mechanisms.ts';
import { openUsers } from '../../../core/accounts/users.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { fc } from '../../harness/fuzz.ts';
import { scramClient } from '../../harness/scram-client.ts';

const from = { address: '192.0.2.1', service: 'pop3' } as const;
const verifyToken = async (token: string): Promise<AuthResult> =>
  token === 'good'
    ? { kind: 'ok', account: { name: 'alice@example.org', disabled: false } }
    : { kind: 'refused', why: 'bad token' };

async function setUp(t: Test) {
  const state = await openSqliteState(path.join(t.testdir(), 'state.db'));
  const passwords = openPasswords({ scryptLn: 8, scramIterations: 4096 });
  t.teardown(async () => {
    await passwords.close();
    await state.close();
  });
  const limits = authLimits({ clock: systemClock, perAddress: 1000, perAccountAndAddress: 1000, perAccount: 1000 });
  const directory = await openUsers({
    state,
    passwords,
    limits,
    clock: systemClock,
    refusalAfterMs: 0,
    scramSha1: true,
    warn: t.fail,
  });
  await directory.add('alice@example.org', { password: 'pencil\u00aa' });
  await directory.add('a=b@example.org', { password: 'x' });
  return directory;
}

const begin = (directory: Directory, name: string, successData = false): SaslExchange => {
  const found = offeredMechanisms({ directory, verifyToken }, { plaintextAllowed: true, scramSha1: true }).find(
    one => one.name === name,
  );
  return (found as SaslMechanism).start({ directory, from, successData, verifyToken });
};
const say = (exchange: SaslExchange, text?: string): Promise<SaslStep> =>
  exchange.step(text === undefined ? undefined : Buffer.from(text));
const text = (step: SaslStep): string => ('data' in step ? (step.data?.toString() ?? '') : step.kind);

t.test('what is offered depends on TLS and on what the directory has', async t => {
  const directory = await setUp(t);
  const names = (list: readonly SaslMechanism[]) => list.map(({ name }) => name);
  t.same(names(offeredMechanisms({ directory, verifyToken }, { plaintextAllowed: true, scramSha1: true })), [
    'SCRAM-SHA-256',
    'SCRAM-SHA-1',
    'OAUTHBEARER',
    'XOAUTH2',
    'PLAIN',
    'LOGIN',
  ]);
  t.same(names(offeredMechanisms({ directory, verifyToken }, { plaintextAllowed: false })), ['SCRAM-SHA-256']);
  const { startScram: _, ...plainOnly } = directory;
  t.same(names(offeredMechanisms({ directory: plainOnly }, { plaintextAllowed: true })), ['PLAIN', 'LOGIN']);
});

t.test('PLAIN and LOGIN', async t => {
  const directory = await setUp(t);
  const exchange = begin(directory, 'PLAIN');
  t.match(await say(exchange), { kind: 'challenge', data: { length: 0 } });
  t.match(await say(exchange, '\0alice\0pencil\u00aa'), { kind: 'ok', account: { name: 'alice@example.org' } });
  const plain = (message: string) => say(begin(directory, 'PLAIN'), message);
  t.match(await plain('alice@example.org\0alice\0pencil\u00aa'), { kind: 'ok' });
  t.match(await plain('root@example.org\0alice\0pencil\u00aa'), { kind: 'refused', why: /may not act/ });
  t.match(await plain('\0alice\0wrong'), { kind: 'refused', username: 'alice' });
  for (const bad of ['', 'alice', '\0alice', '\0\0x', '\0a\0b\0c', '\0alice\0\xff'])
    t.match(await begin(directory, 'PLAIN').step(Buffer.from(bad, 'latin1')), { kind: 'malformed' });
  t.match(await plain(`\0a\0${'x'.repeat(9000)}`), { kind: 'malformed' });

  const login = begin(directory, 'LOGIN');
  t.equal(text(await say(login)), 'Username:');
  t.equal(text(await say(login, 'alice')), 'Password:');
  t.match(await say(login, 'pencil\u00aa'), { kind: 'ok' });
  const direct = begin(directory, 'LOGIN');
  t.equal(text(await say(direct, 'alice')), 'Password:', 'name as initial response');
  t.match(await say(direct, 'wrong'), { kind: 'refused', username: 'alice' });
  t.match(await say(begin(directory, 'LOGIN'), ''), { kind: 'malformed' });
});

interface Client {
  readonly name?: string;
  readonly password: string;
  readonly hash?: 'SHA-1' | 'SHA-256';
  readonly header?: string;
  readonly successData?: boolean;
  readonly spoil?: (final: string) => string;
}

async function scramLogin(directory: Directory, client: Client) {
  const { name = 'alice', hash = 'SHA-256', spoil = (final: string) => final } = client;
  const exchange = begin(directory, `SCRAM-${hash}`, client.successData ?? false);
  const scram = scramClient({ ...client, name });
  const first = await say(exchange, scram.first);
  if (first.kind !== 'challenge') return { step: first, proven: false };
  const { message, serverFinal } = scram.final(text(first));
  const step = await say(exchange, spoil(message));
  return {
    step: step.kind === 'challenge' ? await say(exchange, '') : step,
    proven: text(step) === serverFinal,
  };
}

t.test('SCRAM proves both sides, and tells unknown accounts from wrong passwords to nobody', async t => {
  const directory = await setUp(t);
  const ok = { step: { kind: 'ok', account: { name: 'alice@example.org' } }, proven: true };
  t.match(await scramLogin(directory, { password: 'pencil\u00aa' }), ok);
  t.match(await scramLogin(directory, { password: 'pencila' }), ok, 'NFKC, RFC 4013');
  t.match(await scramLogin(directory, { password: 'pencila', hash: 'SHA-1' }), ok);
  t.match(
    await scramLogin(directory, { password: 'pencila', successData: true, header: 'y,a=alice@example.org,' }),
    ok,
  );
  t.match(await scramLogin(directory, { password: 'x', name: 'a=b@example.org' }), { step: { kind: 'ok' } });
  const refused = { step: { kind: 'refused' }, proven: false };
  t.match(await scramLogin(directory, { password: 'wrong' }), refused);
  t.match(await scramLogin(directory, { password: 'x', name: 'nobody' }), refused);
  t.match(
    await scramLogin(directory, { password: 'pencila', spoil: final => final.replace('c=biws', 'c=eSws') }),
    refused,
  );
  t.match(
    await scramLogin(directory, { password: 'pencila', spoil: final => final.replace(',p=', 'x,p=') }),
    refused,
    'nonce',
  );
  t.match(await scramLogin(directory, { password: 'pencila', header: 'n,a=root,' }), {
    step: { kind: 'refused', why: /act as/ },
  });
  t.match(await scramLogin(directory, { password: 'pencila', header: 'p=tls-unique,,' }), {
    step: { kind: 'malformed' },
  });
  t.match(await scramLogin(directory, { password: 'pencila', spoil: () => 'nonsense' }), {
    step: { kind: 'malformed' },
  });
  const salt = async (name: string) =>
    /s=([^,]+)/.exec(text(await say(begin(directory, 'SCRAM-SHA-256'), `n,,n=${name},r=x`)))?.[1];
  t.equal(await salt('nobody'), await salt('nobody'), 'a made-up salt stays the same');
  t.not(await salt('nobody'), await salt('somebody'));
});

t.test('bearer tokens', async t => {
  const directory = await setUp(t);
  t.match(await say(begin(directory, 'OAUTHBEARER'), 'n,a=alice,\x01host=x\x01port=1\x01auth=Bearer good\x01\x01'), {
    kind: 'ok',
  });
  t.match(await say(begin(directory, 'XOAUTH2'), 'user=alice\x01auth=Bearer good\x01\x01'), { kind: 'ok' });
  const bad = begin(directory, 'OAUTHBEARER');
  t.match(text(await say(bad, 'n,,\x01auth=Bearer bad\x01\x01')), 'invalid_token');
  t.match(await say(bad, '\x01'), { kind: 'refused', why: 'bad token' });
  t.match(await say(begin(directory, 'OAUTHBEARER'), 'n,,\x01\x01'), { kind: 'malformed' });
  t.match(await say(begin(directory, 'XOAUTH2'), ''), { kind: 'malformed' });
});

t.test('no bytes whatever crash an exchange or log anybody in', async t => {
  const directory = await setUp(t);
  const piece = fc.oneof(
    fc.constantFrom(
      'n,,',
      'n=alice',
      ',r=',
      'c=biws',
      ',p=',
      'auth=Bearer ',
      '\x01',
      '\0',
      'user=',
      'alice',
      'AAAA',
      ',',
      '=',
    ),
    fc.string({ maxLength: 8 }),
  );
  const message = fc.array(piece, { maxLength: 8 }).map(parts => parts.join(''));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('PLAIN', 'LOGIN', 'SCRAM-SHA-256', 'OAUTHBEARER', 'XOAUTH2'),
      fc.array(fc.option(message, { nil: undefined }), { minLength: 1, maxLength: 4 }),
      async (name, messages) => {
        const exchange = begin(directory, name);
        for (const one of messages) if ((await say(exchange, one)).kind === 'ok') return false;
        return true;
      },
    ),
    { numRuns: 80 },
  );
});
