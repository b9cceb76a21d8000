import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { exampleHttpPolicy } from '../../plugins/example-http-policy/index.ts';
import { type Fault, startFaultServer } from '../harness/fault-server.ts';
import { type PluginSetup, plugin } from '../harness/plugin.ts';
import { sourcePath } from '../harness/root.ts';

async function asking(t: Test, port: number, options = {}, setup: PluginSetup = {}) {
  const p = await plugin(exampleHttpPolicy, { url: `http://127.0.0.1:${port}/policy`, ...options }, setup);
  t.teardown(() => p.close());
  await p.connect();
  await p.mail('a@example.net');
  return p;
}

t.test('the server of the example decides', async t => {
  const server = spawn(process.execPath, [sourcePath('plugins/example-http-policy/example/policy-server.mjs'), '0']);
  t.teardown(() => server.kill());
  const [said] = (await once(server.stdout, 'data')) as [Buffer];
  const p = await asking(t, Number(/port (\d+)/.exec(said.toString())?.[1]));
  t.equal((await p.rcpt('bob@example.org')).kind, 'continue');
  t.match(await p.rcpt('refused@example.org'), {
    kind: 'reject',
    reply: { code: 550, text: 'Recipient refused by policy' },
    why: 'told so about refused@example.org',
  });
  t.match(await p.rcpt('later@example.org'), { kind: 'defer', reply: { code: 451 }, evidence: { action: 'defer' } });
});

const answer = (status: string, body: string): Fault => ({
  kind: 'say',
  bytes: `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
});
const faults: Readonly<Record<string, readonly [fault: Fault, why: RegExp, timeoutMs?: number]>> = {
  'an error status': [answer('500 Internal Server Error', 'oops'), /answered 500/],
  'no JSON': [answer('200 OK', 'oops'), /JSON/],
  'an action that does not exist': [answer('200 OK', '{"action":"accept"}'), /action|Invalid/],
  'an answer without end': [answer('200 OK', 'x'.repeat(100_000)), /without end/],
  'no HTTP': [{ kind: 'say', bytes: 'hello\r\n\r\n' }, /Parse Error|Expected HTTP/],
  'a reset': [{ kind: 'reset', afterBytes: 10 }, /ECONNRESET|hang up/],
  silence: [{ kind: 'silent' }, /No answer within 500 ms/, 500],
};

for (const [name, [fault, why, timeoutMs = 60_000]] of Object.entries(faults))
  t.test(`${name} is no verdict`, async t => {
    const server = await startFaultServer(t, fault);
    const p = await asking(t, server.port, {}, { timeoutMs });
    const answered = await p.rcpt('bob@example.org');
    t.match(answered, { kind: 'error', outcome: { reply: { code: 451 } } });
    t.match(answered.why, why);
  });
