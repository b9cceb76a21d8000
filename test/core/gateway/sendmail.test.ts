// `postern sendmail` as programs use it: by its links, as an unprivileged user, with and without a running gateway, and
// through a gateway that is killed.
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { dropMail, ensureMaildrop } from '../../../core/intake/maildrop-writer.ts';
import { makeAddress } from '../../../core/mail/address.ts';
import { until } from '../../harness/gateway-files.ts';
import {
  addUsers,
  freePort,
  mainFile,
  runPostern,
  startGatewayProcess,
  writeSmtpConfig,
} from '../../harness/gateway-process.ts';
import { plainNode } from '../../harness/plain-node.ts';

interface Fixture {
  readonly folder: string;
  readonly config: string;
  readonly port: number;
  /** Runs `name` (a link to postern) in the folder. */
  call(
    name: string,
    args: readonly string[],
    input?: string,
    as?: { readonly uid: number; readonly gid: number },
  ): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
  /** Files in the user's mailbox. */
  mailbox(user: string): readonly string[];
}

async function setUp(t: Test, more = ''): Promise<Fixture> {
  // Other users must get in: not below the folder of the project.
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-sendmail-'));
  chmodSync(folder, 0o755);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const port = await freePort();
  const config = writeSmtpConfig(
    folder,
    port,
    `chain: [relay-policy, recipients]
log: { level: error, format: json }
${more}`,
  );
  await addUsers(config, 'ann@example.org', 'ben@example.org');
  for (const name of ['sendmail', 'mailq', 'newaliases']) symlinkSync(mainFile, path.join(folder, name));
  return {
    folder,
    config,
    port,
    async call(name, args, input = '', as) {
      // Without the test runner's own preloads: another user may not write where those do.
      const child = spawn(...plainNode(path.join(folder, name), ...args), {
        cwd: folder,
        stdio: ['pipe', 'pipe', 'pipe'],
        env: { PATH: process.env['PATH'], POSTERN_CONFIG: config },
        ...as,
      });
      const out = { stdout: '', stderr: '' };
      child.stdout.on('data', (chunk: Buffer) => (out.stdout += chunk.toString()));
      child.stderr.on('data', (chunk: Buffer) => (out.stderr += chunk.toString()));
      child.stdin.on('error', () => undefined);
      child.stdin.end(input);
      const [code] = (await once(child, 'close')) as [number | null];
      return { code, ...out };
    },
    mailbox(user) {
      const box = path.join(folder, 'data/mail/example.org', user, 'new');
      return existsSync(box) ? readdirSync(box).map(name => readFileSync(path.join(box, name), 'utf8')) : [];
    },
  };
}

t.test('stopped, started, refused', { timeout: 240_000 }, async t => {
  const { config, port, call, mailbox } = await setUp(t);
  t.match(await call('mailq', []), { code: 0, stdout: 'Mail queue is empty\n' });
  const first = 'To: Ann <ann@example.org>\nBcc: ben@example.org\nSubject: while stopped\n\n.dot\n';
  t.match(await call('sendmail', ['-t', '-oi', '-fcron@example.org'], first), { code: 0, stdout: '', stderr: '' });
  t.match(await call('mailq', []), { code: 0, stdout: /\(maildrop\)\n\n-- 1 Kbytes in 1 Request\.\n$/ });
  t.match(await call('newaliases', []), { code: 0, stdout: /not running/ });

  const gateway = await startGatewayProcess(config, port);
  t.teardown(() => gateway.end('SIGKILL'));
  await until(() => mailbox('ann').length === 1 && mailbox('ben').length === 1, 'both copies');
  const [copy = ''] = mailbox('ben');
  t.match(copy, /^Return-Path: <cron@example\.org>\r\nReceived: by mx\.example\.org \(Postern, from userid /);
  t.notMatch(copy, /^Bcc:/im);
  t.match(copy, /^From: .*cron@example\.org/m);
  t.ok(copy.endsWith('\r\n\r\n.dot\r\n'));

  // An unknown recipient is reported to the sender, the other one gets the message.
  const mixed = await call('sendmail', ['-i', '-f', 'ann@example.org', 'nobody', 'ben'], 'Subject: mixed\n\nx\n');
  t.equal(mixed.code, 0);
  await until(() => mailbox('ben').length === 2 && mailbox('ann').length === 2, 'message and report');
  const report = mailbox('ann').find(text => text.includes('delivery-status')) ?? '';
  t.match(report, /Final-Recipient: rfc822; nobody@example\.org\r\nAction: failed\r\nStatus: 5\.1\.1/);

  t.match(await call('sendmail', ['a@b@c'], 'x'), { code: 67, stderr: /'a@b@c' is not an address|is not an address/ });
  t.match(await call('sendmail', [], 'x'), { code: 64, stderr: /recipients/ });
  t.match(await call('sendmail', ['-t'], 'Subject: x\n\n'), { code: 64, stderr: /No recipients/ });
  t.match(await call('sendmail', ['ann'], 'a\0b'), { code: 65, stderr: /NUL/ });
  t.match(await call('newaliases', []), { code: 0, stdout: /Reloaded/ });
  t.match(await call('sendmail', ['-q']), { code: 0 });
  await until(async () => {
    const { code, stdout } = await runPostern(['--config', config, 'mailq']);
    return code === 0 && /empty/.test(stdout);
  }, 'an empty queue');
  t.equal(await gateway.end('SIGTERM'), 0);
});

t.test('another user of the machine', { timeout: 240_000, skip: process.getuid?.() !== 0 && 'needs root' }, async t => {
  const nobody = { uid: 65534, gid: 65534 };
  const inside = await setUp(t);
  const refused = await inside.call('sendmail', ['ann'], 'Subject: x\n\n', nobody);
  t.match(refused, { code: 77, stderr: /sendmail\.maildrop/ }, 'the data folder is closed to others');

  const drop = mkdtempSync(path.join(tmpdir(), 'postern-drop-'));
  chmodSync(drop, 0o755);
  t.teardown(() => rmSync(drop, { recursive: true, force: true }));
  const { config, port, call, mailbox } = await setUp(
    t,
    `sendmail: { maildrop: ${path.join(drop, 'maildrop')}, senders: own }`,
  );
  const gateway = await startGatewayProcess(config, port);
  t.teardown(() => gateway.end('SIGKILL'));
  t.match(await call('sendmail', ['ann'], 'Subject: from nobody\n\n', nobody), { code: 0, stderr: '' });
  await until(() => mailbox('ann').length === 1, 'the message');
  t.match(mailbox('ann')[0], /^Return-Path: <nobody@example\.org>\r\nReceived: by \S+ \(Postern, from userid 65534\)/);
  t.match(await call('sendmail', ['-f', 'ben', 'ann'], 'x', nobody), { code: 77, stderr: /not allowed/ });
  t.match(await call('mailq', [], '', nobody), { code: 77, stderr: /queue/ });
  t.equal(await gateway.end('SIGTERM'), 0);
});

t.test('kill -9 of the gateway loses nothing that sendmail took', { timeout: 240_000 }, async t => {
  const { folder, config, port, mailbox } = await setUp(t);
  const wanted = 80;
  const drop = path.join(folder, 'data/maildrop');
  await ensureMaildrop(drop);
  let gateway = await startGatewayProcess(config, port);
  t.teardown(() => gateway.end('SIGKILL'));
  let sending = true;
  const send = async (): Promise<void> => {
    for (let n = 0; n < wanted; n++) {
      const recipients = [{ address: makeAddress(n % 2 === 0 ? 'ann' : 'ben', 'example.org') }];
      const size = n % 40 === 0 ? 1_500_000 : 100;
      await dropMail(
        drop,
        { sender: null, recipients },
        [Buffer.from(`Subject: n${n}\r\n\r\n${'x'.repeat(size)}\r\n`)],
        Date.now(),
      );
    }
    sending = false;
  };
  const sent = send();
  sent.catch(() => undefined);
  let kills = 0;
  while (sending || kills < 2) {
    await new Promise(resolve => setTimeout(resolve, randomInt(50, 600)));
    await gateway.end('SIGKILL');
    kills++;
    gateway = await startGatewayProcess(config, port);
  }
  await sent;
  const subjects = () => [...mailbox('ann'), ...mailbox('ben')].map(text => /^Subject: n(\d+)/m.exec(text)?.[1] ?? '');
  await until(() => new Set(subjects()).size === wanted, 'all of them');
  await until(() => readdirSync(drop).length === 0, 'an empty maildrop');
  const duplicates = subjects().length - wanted;
  t.comment(`${kills} kills, ${duplicates} duplicates`);
  // The queue may have delivered to the mailbox without having noted it: one at a time for each mailbox worker.
  t.ok(duplicates <= kills * 20, `${duplicates} duplicates after ${kills} kills`);
  t.equal(await gateway.end('SIGTERM'), 0);
});
