import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { VerifyToken } from '../../../core/accounts/sasl/mechanism.ts';
import type { SmtpLimits, SmtpListenerOptions } from '../../../core/smtp/listener-options.ts';
import { testAccounts } from '../../harness/accounts.ts';
import { bytesOf, runTranscripts } from '../../harness/transcript.ts';
import { heldClock, startFixture } from './fixture.ts';

const numbers = ['maxSize', 'headerSize', 'spoolAbove', 'greetDelayMs'];
const limitNames = [
  'idleCommands',
  'errors',
  'recipients',
  'messagesPerSession',
  'lineLength',
  'minDataRate',
  'sessionLifetimeMs',
  'idleTimeoutMs',
  'connections',
  'authFailures',
  'authFailureDelayMs',
];
const words = ['recipientsTogether', 'role', 'tls', 'banner', 'lineEnds', 'nul'];
const flags = ['chunking', 'binaryMime', 'prdr', 'allowPlaintextAuth'];
const lists = ['xclient', 'proxyProtocol'];

function listenerOf(options: Readonly<Record<string, string>>): Partial<SmtpListenerOptions> {
  const listener: Record<string, unknown> = {};
  const limits: Record<string, number> = {};
  for (const [key, value] of Object.entries(options)) {
    if (numbers.includes(key)) listener[key] = Number(value);
    else if (limitNames.includes(key)) limits[key] = Number(value);
    else if (words.includes(key)) listener[key] = value;
    else if (flags.includes(key)) listener[key] = value === 'true';
    else if (lists.includes(key)) listener[key] = [value];
  }
  return { ...listener, limits: limits as Partial<SmtpLimits> };
}

const verifyToken: VerifyToken = async token => {
  if (token === 'later') return { kind: 'unavailable', why: 'issuer does not answer' };
  if (token !== 'good') return { kind: 'refused', why: 'bad token' };
  return { kind: 'ok', account: { name: 'alice@example.org', disabled: false } };
};

runTranscripts(t, 'smtp', async (options, name) => {
  const clock = heldClock();
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-sasl-'));
  const accounts = options['sasl'] === undefined ? undefined : testAccounts(folder);
  const fixture = await startFixture({
    listener: listenerOf(options),
    clock,
    certificate: options['certificate'] !== undefined,
    ...(accounts && {
      sasl: { directory: accounts.directory, ...(options['sasl'] === 'tokens' && { verifyToken }) },
    }),
  });
  let openGate = (): void => undefined;
  if (options['gate'])
    fixture.chain.gate = new Promise(resolve => {
      openGate = resolve;
    });
  if (options['refuse']) fixture.chain.refuseConnect = { code: 554, enhanced: '5.7.1', text: 'Blocked' };
  return {
    port: fixture.server.address.port,
    implicitTls: options['tls'] === 'implicit',
    advance(ms) {
      openGate();
      clock.move(ms);
    },
    async close() {
      const { content, remote } = options;
      if (content !== undefined) t.ok(fixture.chain.messages[0]?.bytes.includes(bytesOf(content)), `${name}: content`);
      await fixture.server.close(0);
      if (remote !== undefined) t.equal(fixture.traces.at(-1)?.client.address, remote, `${name}: client address`);
      t.equal(fixture.chain.live, 0, `${name}: sessions end`);
      t.equal(clock.pending, 0, `${name}: no timer left`);
      t.same(await fixture.spooled(), [], `${name}: nothing spooled`);
      await fixture.close();
      await accounts?.close();
      rmSync(folder, { recursive: true });
    },
  };
});
