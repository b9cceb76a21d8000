// Rules come in by Debian's ManageSieve client, over TLS, to a whole gateway.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { requireEngines } from '../harness/engine.ts';
import { startTestGateway } from '../harness/gateway.ts';

t.test('sieve-connect uploads, checks, activates and lists over STARTTLS', { timeout: 600_000 }, async t => {
  if (!requireEngines(t, 'ManageSieve of a whole gateway', 'sieve-connect')) return;
  const gateway = await startTestGateway({ folder: t.testdir() });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
  const port = String(gateway.port('sieve'));
  /** The password goes by file descriptor, or it would be asked for on a terminal. */
  const sieveConnect = (...args: readonly string[]): Promise<{ readonly code: number; readonly output: string }> =>
    new Promise(resolve => {
      const common = ['--server', 'localhost', '--port', port, '--user', 'ann@example.org', '--passwordfd', '0'];
      const child = execFile(
        'sieve-connect',
        [...common, '--notlsverify', ...args],
        { timeout: 120_000 },
        (error, stdout, stderr) =>
          resolve({
            code: typeof error?.code === 'number' ? error.code : error ? -1 : 0,
            output: `${stdout}${stderr}`,
          }),
      );
      child.stdin?.end('secret\n');
    });
  const good = path.join(gateway.folder, 'good.sieve');
  const bad = path.join(gateway.folder, 'bad.sieve');
  writeFileSync(good, 'require "fileinto";\nfileinto "Lists";\n');
  writeFileSync(bad, 'keep;\nkeeep;\n');

  t.match(await sieveConnect('--localsieve', good, '--remotesieve', 'main', '--upload'), { code: 0 });
  t.match(await sieveConnect('--localsieve', bad, '--remotesieve', 'bad', '--upload'), {
    output: /line 2:1: .*keeep/s,
  });
  t.match(await sieveConnect('--remotesieve', 'main', '--activate'), { code: 0 });
  t.match(await sieveConnect('--list'), { code: 0, output: /"main" ACTIVE/ });
});
