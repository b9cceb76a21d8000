// Invariant I1 for the quarantine.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { until } from '../../harness/gateway-files.ts';
import { startGatewayProcess } from '../../harness/gateway-process.ts';
import { setUp } from './quarantine-fixture.ts';

t.test('I1: kill -9 after 250 loses nothing that was quarantined', { timeout: 280_000 }, async t => {
  const at = await setUp(t);
  const acknowledged: string[] = [];
  let round = 0;
  let kills = 0;
  while (kills < 4) {
    const wanted = acknowledged.length + 25;
    const senders = Array.from({ length: 4 }, async (_, sender) => {
      for (let n = 0; acknowledged.length < wanted; n++) {
        try {
          acknowledged.push(await at.send(`crash ${round} ${sender} ${n}`, ['ann@example.org']));
        } catch {
          return;
        }
      }
    });
    await until(() => acknowledged.length >= wanted, 'enough');
    await at.gateway.end('SIGKILL');
    kills++;
    round++;
    await Promise.all(senders);
    at.gateway = await startGatewayProcess(at.config, at.port);
  }
  const found = await at.json<{ id: string; size: number }[]>('quarantine', 'list', '--limit', '1000');
  const have = new Set(found.map(({ id }) => id));
  t.same(
    acknowledged.filter(id => !have.has(id)),
    [],
    `${acknowledged.length} messages, ${kills} kills`,
  );
  for (const { id, size } of found)
    t.equal(readFileSync(path.join(at.folder, 'data/quarantine', `${id}.eml`)).length, size, id);
  t.equal((await at.postern('quarantine', 'release', '--all')).code, 0);
  await until(() => at.mailOf('ann').length === found.length, 'all are delivered');
});
