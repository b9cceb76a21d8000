// A whole gateway before a real Postfix that is killed in the middle of transfers, or is one of two: nothing is lost, nothing
// comes twice but where SMTP itself cannot tell, and the other takes over in seconds.
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { requireEngines } from '../harness/engine.ts';
import { makePostfix } from '../harness/postfix.ts';
import { SmtpClient } from '../harness/smtp-client.ts';
import { arrivals, empty, gatewayBefore, marksOf, sendAll, watchLog } from './outage.ts';

t.test('killed at random in the middle of transfers', { timeout: 600_000 }, async t => {
  if (!requireEngines(t, 'Postfix killed', 'postfix')) return;
  const postfix = await makePostfix(t, { domains: ['inner.test'] });
  await postfix.start();
  const { log, seen: logged } = watchLog();
  const gateway = await gatewayBefore(t, [postfix.port], log);
  const lost = (): readonly Record<string, unknown>[] => logged['relay-lost'] ?? [];
  const marks = marksOf(200);
  const etrn = await SmtpClient.open(gateway.port('smtp'));
  await etrn.command('EHLO inner.test');
  let sending = true;
  let kills = 0;
  const killer = (async () => {
    const over = async () => !sending && (kills >= 40 || (await gateway.gateway.status()).queue.pending === 0);
    for (; !(await over()); kills += 1) {
      await delay(randomInt(5, 120));
      await postfix.kill();
      await postfix.start();
      // RFC 1985: does not wait for the next probe.
      await etrn.command('ETRN inner.test');
    }
  })();
  await sendAll(gateway.port('smtp'), marks, 5, 300_000);
  sending = false;
  await killer;
  await empty(gateway);
  const unconfirmed = lost().filter(entry => entry['finalSent'] === true).length;
  const seen = await arrivals(postfix.maildir, 200);
  t.same(new Set(seen), new Set(marks), 'none lost');
  const copies = seen.length - marks.length;
  t.comment(
    `${kills} kills, ${lost().length} transfers cut, ${unconfirmed} without their final reply, ${copies} duplicates`,
  );
  t.ok(copies <= unconfirmed, 'twice only where the final reply was lost');
  etrn.close();
});

t.test('two next hops: one dies, one hangs', { timeout: 600_000 }, async t => {
  if (!requireEngines(t, 'failover between Postfixes', 'postfix')) return;
  for (const how of ['killed', 'frozen'] as const) {
    const [first, second] = [
      await makePostfix(t, { domains: ['inner.test'] }),
      await makePostfix(t, { domains: ['inner.test'] }),
    ];
    await first.start();
    await second.start();
    const gateway = await gatewayBefore(t, [first.port, second.port]);
    const port = gateway.port('smtp');
    // Leaves an idle connection behind.
    await sendAll(port, ['before'], 1);
    await arrivals(first.maildir, 1);
    if (how === 'killed') await first.kill();
    else first.freeze();
    const begun = performance.now();
    await sendAll(port, ['during'], 1);
    const took = performance.now() - begun;
    const again = performance.now();
    await sendAll(port, ['after'], 1);
    t.comment(
      `${how}: taken by the second after ${(took / 1000).toFixed(2)} s, the next message after ${(performance.now() - again).toFixed(0)} ms`,
    );
    t.same([...(await arrivals(second.maildir, 2))].sort(), ['after', 'during'], `${how}: both at the second`);
    if (how === 'frozen') first.thaw();
    t.same(await arrivals(first.maildir, 1), ['before'], `${how}: no copy at the first`);
    await gateway.stop();
    await first.stop();
    await second.stop();
  }
});
