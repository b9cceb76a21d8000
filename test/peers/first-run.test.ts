// What a newcomer does: start, copy the printed lines, see the trace, stop, start again.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { requireEngines } from '../harness/engine.ts';
import { freePorts, mainFile, runPostern } from '../harness/gateway-process.ts';
import { plainNode } from '../harness/plain-node.ts';
import { sourcePath } from '../harness/root.ts';

const run = promisify(execFile);
const shell = async (line: string): Promise<string> => (await run('sh', ['-c', line], { maxBuffer: 1 << 20 })).stdout;

interface Started {
  /** All that it printed so far. */
  output(): string;
  /** Resolves when the output matches. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  stop(): Promise<number | null>;
}

function start(config: string): Started {
  const child = spawn(...plainNode(mainFile, '--config', config, 'start'), { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      for (const look of waiting) look();
    });
  return {
    output: () => output,
    says: pattern =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = pattern.exec(output);
          if (!found) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        child.once('exit', () => reject(new Error(`Ended before it said ${pattern}: ${output}`)));
        look();
      }),
    async stop() {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
      return child.exitCode;
    },
  };
}

/** The configuration that comes with the package, on free ports and in a folder of the test. */
async function demoConfig(folder: string): Promise<string> {
  mkdirSync(path.join(folder, 'config'), { recursive: true });
  const yaml = readFileSync(sourcePath('config/postern.yaml'), 'utf8');
  const ports = [...(await freePorts(yaml.match(/port: \d+/g)?.length ?? 0))];
  const file = path.join(folder, 'config', 'postern.yaml');
  // In one go: a free port may begin with the digits of one that still stands there.
  writeFileSync(
    file,
    yaml.replace(/port: \d+/g, () => `port: ${ports.pop()}`),
  );
  return file;
}

t.test(
  'the first start: the printed lines work as they are, and a second start keeps everything',
  { timeout: 600_000 },
  async t => {
    if (!requireEngines(t, 'first run', 'swaks', 'curl')) return;
    const config = await demoConfig(t.testdir());
    const first = start(config);
    t.teardown(() => first.stop());
    await first.says(/Ctrl-C stops/);
    const line = (pattern: RegExp): string => (first.output().match(pattern)?.[0] ?? '').trim();

    t.match(await shell(line(/^ +swaks .*Hello Bob.*$/m)), /<- {2}250 2\.0\.0 .*\n/, 'swaks as a stranger');
    const [, id = ''] = await first.says(/^([0-9A-Z]{17}) .* accepted/m);
    await first.says(/rcpt +recipients +accept +\d+\.\d\d ms/);
    t.pass('the trace is shown as it happens');
    t.match(await shell(line(/^ +swaks .*--tls.*$/m)), /<~ {2}250 2\.0\.0 /, 'swaks as alice, over TLS');
    await shell(line(/^ +printf .*smtps.*$/m));
    t.match(await shell(line(/^ +curl .*imaps:.*$/m)), /^Subject: Hello Bob\r$/m, 'curl reads it over IMAP');
    t.match(await shell(line(/^ +curl .*pop3s:.*$/m)), /^Subject: Hello Bob\r$/m, 'and over POP3');
    t.match((await runPostern(['--config', config, 'trace', id])).stdout, new RegExp(`^${id} .*accepted`));
    t.match(first.output(), /Thunderbird: IMAP 127\.0\.0\.1 port \d+ STARTTLS/);
    const reading = line(/^ +curl .*imaps:.*$/m);
    t.equal(await first.stop(), 0);

    const second = start(config);
    t.teardown(() => second.stop());
    await second.says(/Ctrl-C stops/);
    t.match(
      await shell(reading),
      /^Subject: Hello Bob\r$/m,
      'the same line still works: users, passwords and mail are kept',
    );
    t.match(await shell(reading.replace('MAILINDEX=1', 'MAILINDEX=3')), /Hello from curl/);
    t.equal(await second.stop(), 0);
  },
);

t.test('the supervisor replaces a gateway that was killed', { timeout: 300_000 }, async t => {
  const config = await demoConfig(t.testdir());
  const gateway = start(config);
  t.teardown(() => gateway.stop());
  await gateway.says(/Ctrl-C stops/);
  const status = async (): Promise<{ pid: number }> =>
    JSON.parse((await runPostern(['--config', config, '--json', 'status'])).stdout) as { pid: number };
  const { pid } = await status();
  process.kill(pid, 'SIGKILL');
  // Two streams: which is read first is not said.
  await gateway.says(/ended unexpectedly/);
  await gateway.says(/Ctrl-C stops[\s\S]*Ctrl-C stops/);
  t.not((await status()).pid, pid);
  t.equal(await gateway.stop(), 0);
});
