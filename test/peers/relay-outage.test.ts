// A whole gateway before a real Postfix that is down for a whole run: nothing is lost, nothing comes twice.
import t from 'tap';
import { requireEngines } from '../harness/engine.ts';
import { makePostfix } from '../harness/postfix.ts';
import { arrivals, empty, gatewayBefore, marksOf, seconds, sendAll } from './outage.ts';

t.test('down for a whole run of 5,000, then up: all arrive once', { timeout: 600_000 }, async t => {
  if (!requireEngines(t, 'outage of Postfix', 'postfix')) return;
  const postfix = await makePostfix(t, { domains: ['inner.test'], settings: ['default_process_limit = 20'] });
  const gateway = await gatewayBefore(t, [postfix.port]);
  const marks = marksOf(5_000);
  const sent = performance.now();
  await sendAll(gateway.port('smtp'), marks, 20);
  t.comment(`5,000 taken in ${seconds(sent)} s while the next hop is down`);
  t.equal((await gateway.gateway.status()).queue.pending, 5_000);
  const up = performance.now();
  await postfix.start();
  await empty(gateway);
  t.comment(`queue empty ${seconds(up)} s after the next hop came back`);
  const seen = await arrivals(postfix.maildir, marks.length);
  t.equal(seen.length, 5_000, 'none twice');
  t.same(new Set(seen), new Set(marks), 'none lost');
});
