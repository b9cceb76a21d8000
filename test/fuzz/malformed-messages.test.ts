// Ten thousand broken messages through the chain with every filter that needs no engine: each gets an outcome, no plugin fails or
// runs into its deadline, and memory stays where it was. POSTERN_FUZZ_SEED=random (or a number) looks elsewhere.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { pino } from 'pino';
import t from 'tap';
import { parse } from 'yaml';
import { readChain } from '../../core/config/chain-entry.ts';
import { systemClock } from '../../core/lib/clock.ts';
import { loadChain } from '../../core/pipeline/load-chain.ts';
import { resolvePlugin } from '../../core/pipeline/resolve-plugin.ts';
import { plugins } from '../../plugins/index.ts';
import { malformedMessage } from '../harness/malformed.ts';
import { testHost } from '../harness/plugin-host.ts';
import { parseAddress, testMessage } from '../harness/test-message.ts';
import { chainZones, wholeChain } from '../harness/whole-chain.ts';

const count = 10_000;
const given = process.env['POSTERN_FUZZ_SEED'] ?? '20261128';
const seed = given === 'random' ? Math.floor(Math.random() * 1e6) : Number(given);
const timeoutMs = 30_000;

const sessionFacts = {
  id: 's1',
  listener: 'smtp',
  role: 'smtp' as const,
  local: { address: '127.0.0.1', port: 25 },
  remote: { address: '198.51.100.7', port: 4711 },
};

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const heapMiB = (): number => {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1024 ** 2;
};

t.test(`seed ${seed}`, { timeout: 280_000 }, async t => {
  const host = await testHost({
    dns: chainZones,
    accounts: { local: ['example.org'], users: { 'bob@example.org': 'x' } },
  });
  t.teardown(() => host.close());
  const more = `
  - example-per-recipient: { recipients: [{ address: bob@example.org, attachments: false }] }
  - example-header-stamp`;
  const { entries, problems } = readChain((parse(`chain:\n${wholeChain()}${more}`) as { chain: never }).chain);
  t.same(problems, []);
  const loaded = await Promise.all(
    entries.map(async ({ plugin: spec, ...entry }) => ({
      ...entry,
      timeoutMs,
      // The chain goes on behind one that objects: every message passes every filter.
      mode: 'observe' as const,
      plugin: await resolvePlugin(spec, { builtIn: plugins, folder: '.' }),
    })),
  );
  const log = pino({ level: 'silent' });
  const chain = await loadChain(loaded, { clock: systemClock, log, hostFor: () => host });
  t.teardown(() => chain.close());

  const session = chain.openSession(sessionFacts);
  await session.connect();
  await session.helo('client.example');
  const bob = { address: parseAddress('bob@example.org') };
  const envelope = { sender: parseAddress('a@b.test'), recipients: [bob], smtputf8: false, requireTls: false };
  const asked = new Map<string, number>();
  const failed: string[] = [];
  let heapBefore = 0;
  for (let index = 0; index < count; index++) {
    const bytes = malformedMessage(seed, index);
    const id = `q${index}`;
    await session.mail(id, envelope);
    await session.rcpt(envelope, bob);
    const message = testMessage(bytes);
    const outcome = await session.message(envelope, message);
    if (outcome.kind === 'deliver') await outcome.message.bytes();
    const { steps } = await chain.deliver(
      { id, session: sessionFacts, helo: 'client.example', envelope, message },
      bob,
    );
    for (const { plugin, hook, verdict, why, ms } of [...session.steps(), ...steps]) {
      if (hook === 'message') asked.set(plugin, (asked.get(plugin) ?? 0) + 1);
      if (verdict === 'error' || ms > timeoutMs) failed.push(`message ${index}: ${plugin} ${hook}: ${why} (${ms} ms)`);
    }
    if (failed.length > 10) break;
    session.endTransaction();
    if (index === count / 5) heapBefore = heapMiB();
  }
  t.same(failed, []);
  session.end();
  for (const name of ['limits', 'rfc822', 'mail-auth', 'attachments', 'uribl', 'score', 'headers'])
    t.equal(asked.get(name), count, `${name} saw every message`);
  const grown = heapMiB() - heapBefore;
  t.ok(grown < 64, `memory grew by ${grown.toFixed(1)} MiB over ${(count / 5) * 4} messages`);
});
