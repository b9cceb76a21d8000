// Accounts that cannot be read while somebody logs in: a temporary failure at every step, never "wrong" (invariant I4).
import { renameSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { authLimits } from '../../../core/accounts/auth-limits.ts';
import type { AuthResult } from '../../../core/accounts/directory.ts';
import { openPasswdFile } from '../../../core/accounts/passwd-file.ts';
import { openPasswords } from '../../../core/accounts/passwords.ts';
import { scramClient } from '../../harness/scram-client.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';
import { heldClock, startFixture } from './fixture.ts';

const encode = (text: string): string => Buffer.from(text).toString('base64');

t.test('the store goes away before and during an exchange, and a client does so', async t => {
  const folder = t.testdir({ passwd: 'ann@example.org:{PLAIN}secret\n' });
  const file = path.join(folder, 'passwd');
  const clock = heldClock();
  const passwords = openPasswords({ scryptLn: 8, threads: 1 });
  t.teardown(() => passwords.close());
  const directory = openPasswdFile({
    file,
    passwords,
    limits: authLimits({ clock }),
    clock,
    refusalAfterMs: 0,
    warn: () => undefined,
  });
  let tokenAsked = (): void => undefined;
  let answerToken = (_: AuthResult): void => undefined;
  const asked = new Promise<void>(resolve => {
    tokenAsked = resolve;
  });
  const verifyToken = (): Promise<AuthResult> => {
    tokenAsked();
    return new Promise(resolve => {
      answerToken = resolve;
    });
  };
  const fixture = await startFixture({
    listener: { role: 'submission', allowPlaintextAuth: true, limits: { authFailureDelayMs: 0 } },
    clock,
    sasl: { directory, verifyToken },
  });
  t.teardown(() => fixture.close());
  const client = await SmtpClient.open(fixture.server.address.port);
  t.teardown(() => client.close());
  await client.command('EHLO c');
  const scram = scramClient({ name: 'ann@example.org', password: 'secret' });
  const first = `AUTH SCRAM-SHA-256 ${encode(scram.first)}`;

  renameSync(file, `${file}.away`);
  clock.move(2000);
  await client.command(first, /^454 4\.7\.0 Temporary authentication failure\r\n$/);
  renameSync(`${file}.away`, file);
  clock.move(2000);
  const challenge = await client.command(first, /^334 /);
  renameSync(file, `${file}.away`);
  clock.move(2000);
  const { message, serverFinal } = scram.final(Buffer.from(challenge.slice(4), 'base64').toString());
  // What was read at the beginning of the exchange decides at its end.
  t.equal(await client.command(encode(message), /^334 /), `334 ${encode(serverFinal)}\r\n`);
  await client.command('', /^235 /);

  const gone = await SmtpClient.open(fixture.server.address.port);
  await gone.command('EHLO c');
  gone.write(`AUTH XOAUTH2 ${encode('user=ann@example.org\x01auth=Bearer x\x01\x01')}\r\n`);
  await asked;
  gone.close();
  await fixture.server.close(10_000);
  answerToken({ kind: 'ok', account: { name: 'ann@example.org', disabled: false } });
  t.equal(fixture.chain.live, 0);
  t.notOk(fixture.logged.some(({ level }) => level === 'error'));
});
