// Invariant I1: after 250, kill -9 of the gateway at any instant loses no message and no recipient.
import { randomInt } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import {
  freePort,
  type GatewayProcess,
  runPostern,
  startGatewayProcess,
  writeSmtpConfig,
} from '../../harness/gateway-process.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

const wanted = 2000;
const sessions = 8;
const users = ['ann@example.org', 'ben@example.org', 'cat@example.org'];

interface Sent {
  readonly id: number;
  readonly to: readonly string[];
}

/** Every tenth has two recipients, every fiftieth is large enough to be spooled. */
function messageOf(id: number): { readonly to: readonly string[]; readonly body: string } {
  const to = id % 10 === 0 ? [users[0] ?? '', users[1] ?? ''] : [users[id % users.length] ?? ''];
  const lines = id % 50 === 0 ? 6000 : 20;
  const body = `From: sender@example.net\r\nTo: ${to.join(', ')}\r\nSubject: crash ${id}\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <${id}@crash.example.net>\r\n\r\n${`line of message ${id} ${'x'.repeat(40)}\r\n`.repeat(lines)}`;
  return { to, body };
}

t.test('kill -9 at random moments under load loses nothing that got a 250', { timeout: 600_000 }, async t => {
  const folder = t.testdir();
  const port = await freePort();
  const config = writeSmtpConfig(
    folder,
    port,
    `message: { spoolAbove: 128KiB }
chain: [relay-policy, recipients]
log: { level: error, format: json }`,
  );
  for (const user of users)
    t.equal((await runPostern(['--config', config, 'user', 'add', user, '--generate'])).code, 0);

  const acknowledged: Sent[] = [];
  let next = 0;
  let unanswered = 0;
  let kills = 0;
  let gateway: GatewayProcess = await startGatewayProcess(config, port);
  let restarted: Promise<void> = Promise.resolve();

  const worker = async (): Promise<void> => {
    while (acknowledged.length < wanted) {
      await restarted;
      let client: SmtpClient | undefined;
      let inFlight = false;
      try {
        client = await SmtpClient.open(port);
        await client.command('EHLO crash.example.net');
        while (acknowledged.length < wanted) {
          const id = next++;
          const { to, body } = messageOf(id);
          inFlight = true;
          const reply = await client.send({ from: 'sender@example.net', to, body });
          inFlight = false;
          if (reply.startsWith('250 ')) acknowledged.push({ id, to });
        }
      } catch {
        // The gateway was killed under this session; what had no reply may or may not have arrived.
        if (inFlight) unanswered++;
      } finally {
        client?.close();
      }
    }
  };

  const killer = async (): Promise<void> => {
    while (acknowledged.length < wanted) {
      const until = acknowledged.length + randomInt(40, 220);
      while (acknowledged.length < Math.min(until, wanted)) await new Promise(resolve => setImmediate(resolve));
      if (acknowledged.length >= wanted) break;
      restarted = gateway.end('SIGKILL').then(async () => {
        gateway = await startGatewayProcess(config, port);
      });
      kills++;
      await restarted;
    }
  };

  await Promise.all([killer(), ...Array.from({ length: sessions }, worker)]);
  t.ok(kills >= 5, `killed ${kills} times`);
  t.equal(await gateway.end('SIGTERM'), 0, 'ends well when asked');

  // What was queued rather than delivered comes out at the next start.
  gateway = await startGatewayProcess(config, port);
  for (;;) {
    const status = JSON.parse((await runPostern(['--config', config, '--json', 'status'])).stdout) as {
      queue: { pending: number };
    };
    if (status.queue.pending === 0) break;
  }
  await gateway.end('SIGTERM');

  const arrived = new Map<string, number>();
  for (const user of users) {
    const maildir = path.join(folder, 'data/mail/example.org', user.split('@')[0] ?? '');
    for (const sub of ['new', 'cur']) {
      for (const name of readdirSync(path.join(maildir, sub))) {
        const text = readFileSync(path.join(maildir, sub, name), 'latin1');
        const id = Number(/^Message-ID: <(\d+)@crash/m.exec(text)?.[1]);
        if (!text.endsWith(messageOf(id).body)) t.fail(`message ${id} of ${user} is not whole`);
        arrived.set(`${id} ${user}`, (arrived.get(`${id} ${user}`) ?? 0) + 1);
      }
    }
  }
  const lost = acknowledged.flatMap(({ id, to }) =>
    to.filter(user => !arrived.has(`${id} ${user}`)).map(user => `${id} for ${user}`),
  );
  t.same(lost, [], 'nothing that got a 250 is lost');
  const left = ['new', 'cur', 'tmp']
    .filter(name => name === 'tmp')
    .flatMap(name =>
      users.map(user => readdirSync(path.join(folder, 'data/mail/example.org', user.split('@')[0] ?? '', name)).length),
    );
  const duplicates = [...arrived.values()].reduce((sum, count) => sum + count - 1, 0);
  t.comment(
    `${acknowledged.length} acknowledged, ${lost.length} lost, ${unanswered} without a reply, ${duplicates} duplicates, ${kills} kills, ${left.reduce((a, b) => a + b, 0)} files left in tmp`,
  );
  t.equal(duplicates, 0, 'one session sends each message once, so nothing arrives twice');
});
