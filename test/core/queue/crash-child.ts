// A small gateway in a process of its own, for `crash.test.ts` to kill: settles messages for two next hops and says each
// mark once its 250 is due. Arguments: folder, the two ports, a prefix for marks, `load` or `drain`.
import path from 'node:path';
import { systemClock } from '../../../core/lib/clock.ts';
import { createDns } from '../../../core/net/dns.ts';
import { createDestinationHealth } from '../../../core/queue/destination-health.ts';
import { createScheduler } from '../../../core/queue/scheduler.ts';
import { createSettler } from '../../../core/queue/settle.ts';
import { openQueueStore } from '../../../core/queue/store.ts';
import type { RouteLookup } from '../../../core/queue/transport.ts';
import { createRelay } from '../../../core/relay/smtp-transport.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { ropeOf, silent, target } from '../relay/peers.ts';
import { policy, request, unusedQuarantine } from './fixtures.ts';

const [folder = '', first = '', second = '', prefix = '', mode = ''] = process.argv.slice(2);
const state = await openSqliteState(path.join(folder, 'state.db'));
const store = await openQueueStore(state, path.join(folder, 'queue'), { inRowLimit: 4_000 });
const dns = createDns({ clock: systemClock, servers: ['127.0.0.1:9'] });
const relay = createRelay({ clock: systemClock, dns, log: silent, hostname: 'gateway.test' });
const quick = { ...policy, firstRetryMs: 20, maxRetryMs: 50, firstProbeMs: 20, maxProbeMs: 50 };
const routes: RouteLookup = async ({ address }) => {
  const port = Number(address.domain === 'one.test' ? first : second);
  const transport = relay.transport(target([port]), address.domain);
  return { kind: 'route', route: { transport, destination: address.domain, direct: true } };
};
const health = createDestinationHealth(quick);
const parts = { store, routes, health, policy: quick, clock: systemClock, log: silent };
const scheduler = createScheduler({ ...parts, report: async () => undefined, pollMs: 200 });
const settler = createSettler({
  ...parts,
  directBudgetMs: 200,
  instance: String(process.pid),
  quarantine: unusedQuarantine,
  wake: destinations => scheduler.wake(destinations),
});
await store.recover(Date.now());
scheduler.start();

const say = (line: string): void => void process.stdout.write(`${line}\n`);
async function load(worker: number): Promise<void> {
  for (let n = 0; ; n += 1) {
    const mark = `${prefix}-${worker}-${n}`;
    const recipients = [['a@one.test'], ['a@two.test'], ['a@one.test', 'a@two.test']][n % 3] ?? [];
    const filler = n % 5 === 0 ? 'long line of text\r\n'.repeat(400) : 'x\r\n';
    const body = ropeOf(`X-Mark: ${mark}\r\n\r\n${filler}`);
    const { reply } = await settler.settle(request(mark, recipients, { body }));
    if (reply.code === 250) say(`${mark} ${recipients.join(',')}`);
  }
}
const left = async () => Number((await state.query('SELECT COUNT(*) AS n FROM queue_message'))[0]?.['n']);

if (mode === 'load') await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(load));
else {
  const check = async (): Promise<void> => {
    if ((await left()) > 0) {
      setTimeout(() => void check(), 50);
      return;
    }
    await scheduler.stop();
    // Files whose rows went just before a kill.
    await store.sweepBodies(Date.now() + 2 * 3_600_000);
    await relay.close();
    dns.close();
    await state.close();
    say('empty');
  };
  await check();
}
