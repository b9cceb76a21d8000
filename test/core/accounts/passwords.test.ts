import { execFileSync } from 'node:child_process';
import t from 'tap';
import { openPasswords } from '../../../core/accounts/passwords.ts';
import { makeVerify } from '../../../core/accounts/schemes/verify.ts';
import { requireEngines } from '../../harness/engine.ts';

const verify = makeVerify();
const password = 'Grüße 1';

t.test('hashes of other systems verify, wrong passwords and damaged hashes do not', t => {
  // Made with Dovecot 2.4's `doveadm pw`.
  const stored = [
    '{BLF-CRYPT}$2y$05$.4bW2Lhio/4Ji8Roik46FO0CBMTnnnKP6cxPiNx8XpaD5UPGtKDXq',
    '{SHA512-CRYPT}$6$g6ffJoiefTi2QliL$fJ99TXBlfWPBkbYam.b.pReOX4VI/MSUj3RNSBBKXL3EaXUTfpb1yjU8Pxj7s0c4mzR1duZLGrO3atDFnJAPB/',
    '{SHA256-CRYPT}$5$I/M4P6ZnNWxuo2Hl$jSR9YIexVOuT0uKPdnGjLdTmXwNgvulJVCAIHaeoYdC',
    '$5$I/M4P6ZnNWxuo2Hl$jSR9YIexVOuT0uKPdnGjLdTmXwNgvulJVCAIHaeoYdC',
    '{CRYPT}$2y$05$.4bW2Lhio/4Ji8Roik46FO0CBMTnnnKP6cxPiNx8XpaD5UPGtKDXq',
    '{SSHA}aHXy4pF7mECp30DXQaYWDBkqWNVO4hSa',
    '{SSHA256}xPsgrSmUYkQWBexBvbCxLgque+oVzk0GtU/hiFaiBax2BfEI',
    '{ssha512.b64}TYjwGfSGHB4WuX7j9uIg4JaCSTMBXawXbatVe5nSR8LyLvyUbY/hsbxnslyFSSX/vOVtAnf1v5nQh0VVEBQ1vrd9JCM=',
    '{PBKDF2}$1$HYcSXnEJLvVv1u9i$5000$78e93c085e76a7bc9c1310c626753d3a58ff6a89',
    '{SCRAM-SHA-256}4096,bP2uLJRac0nJ9FKQE6gHgA==,9knfKh0dMuvRhJIWxef7wH0EG/GdE1tJbh+1d4q5IzY=,4+45mPpPW1FXqo/72NrYQJCfNTBNdgf5e4nT1qqjA2s=',
    '{SCRAM-SHA-1}4096,Lix6h5RQCZ7FVIrkN6KENg==,Ax+bSfLh8HqAjOQWRgTF+B3XQpI=,kQns+QrKco9OTP/+cFhp/FlozFc=',
    '{SHA512.HEX}649ce9007c09577715fee6deb380a7ec9736f9cc41d46881c96aadb23c905db1515d0eb4ce071833410a0a12dc93a266d27b258f06a06382f0ddb5f7608a6797',
    '{SMD5}wmBG0QmBjbGNNS3iKSkYQegGp6I=',
    '{PLAIN}Grüße 1',
  ];
  for (const hash of stored) {
    t.equal(verify(hash, password), 'match', hash.slice(0, 20));
    t.equal(verify(hash, `${password} `), 'mismatch');
    t.equal(verify(hash, ''), 'mismatch');
    t.not(verify(hash.slice(0, -4), password), 'match', 'cut off');
  }
  for (const hash of [
    '',
    '{SSHA}',
    '{SSHA}AAAA',
    '{NOPE}x',
    '{SCRYPT}ln=40,r=8,p=1$AAAA$AAAA',
    '$6$rounds=999999999$a$b',
    '$2y$31$.4bW2Lhio/4Ji8Roik46FO0CBMTnnnKP6cxPiNx8XpaD5UPGtKDXq',
    '!',
    '*',
  ])
    t.equal(verify(hash, password), 'unsupported', `${hash} is refused without work`);
  t.end();
});

t.test('crypt texts of other tools: rounds, long passwords, bcrypt variants', t => {
  // `openssl passwd -5 -salt 'rounds=1000$abc' test` and its kin; the test vectors of the SHA-crypt text and of bcrypt's authors.
  t.equal(verify('$5$rounds=1000$abc$1/AFll5u1v/mco1s6gjlnMiJFg8Oj19yltzAO/MaIS/', 'test'), 'match');
  t.equal(
    verify('$6$abc$XdYVWINHFqAPqCkQNpBc64k/whmYeD3VETO0Hk79c4aGoQEvgiYKd/03lbc/XloI0fcMwRw.Rj.dZbn3LdPVz.', 'test'),
    'match',
  );
  t.equal(
    verify(
      '$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1',
      'a very much longer text to encrypt.  This one even stretches over morethan one line.',
    ),
    'match',
  );
  t.equal(verify('$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW', 'U*U'), 'match');
  t.equal(verify('$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a', 'U*U*U'), 'match');
  t.end();
});

t.test('against a real Dovecot, random passwords', async t => {
  if (!requireEngines(t, 'password schemes against doveadm', 'dovecot')) return;
  for (const scheme of ['SHA512-CRYPT', 'SHA256-CRYPT', 'BLF-CRYPT', 'SSHA512', 'PBKDF2', 'SCRAM-SHA-256'])
    for (const text of ['x', 'fünf', 'a'.repeat(70), 'p'.repeat(130), "q'uo te$"]) {
      const hash = execFileSync('doveadm', ['pw', '-s', scheme, '-p', text], { encoding: 'utf8' }).trim();
      t.equal(verify(hash, text), 'match', `${scheme} ${text.length}`);
      t.equal(verify(hash, `_${text.slice(1)}`), 'mismatch');
    }
});

t.test('argon2 where this Node can compute it, else a clear "unsupported"', t => {
  const hash =
    '{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$3sKfr/0BqHVvXHieI/aW2Q$FJjJGYl3VWzv9rNWgDlN+oqiPeyvyl6JDwSeV4FQF90';
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const expected = major > 24 || (major === 24 && minor >= 7) ? 'match' : 'unsupported';
  t.equal(verify(hash, password), expected);
  t.end();
});

t.test('threads: hashes are salted, verify off the event loop, and a flood is refused', async t => {
  const passwords = openPasswords({ scryptLn: 12, maxWaiting: 3, threads: 1 });
  const [one, two] = await Promise.all([passwords.hash(password), passwords.hash(password)]);
  t.not(one, two);
  t.ok(passwords.isCurrent(one));
  t.notOk(passwords.isCurrent('{PLAIN}x'));
  t.equal(await passwords.verify(one, 'Gru\u0308\u00dfe\u00a01'), 'match', 'NFC, and any space is a space');
  t.equal(await passwords.verify(one, 'Grüße 2'), 'mismatch');
  t.equal(
    await passwords.verify(`{SCRAM-SHA-256}${await passwords.scramVerifier(password, 'SHA-256')}`, password),
    'match',
  );
  await passwords.waste('x');
  const flood = await Promise.allSettled(Array.from({ length: 6 }, () => passwords.waste('x')));
  t.match(
    flood.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'],
  );
  const pending = passwords.verify(one, password);
  const closing = passwords.close();
  await t.rejects(pending);
  await closing;
  await t.rejects(passwords.hash('x'), { message: /closed/ });
});
