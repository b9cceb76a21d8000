import t from 'tap';
import { createPendingExchanges } from '../../../core/accounts/sasl/pending-exchanges.ts';

t.test('an exchange is judged once, by whoever knows it, while it lasts', async t => {
  const exchanges = createPendingExchanges();
  let asked = 0;
  const exchange = exchanges.add(async () => {
    asked++;
    return { kind: 'ok', account: { name: 'ann@example.org', disabled: false } };
  });
  t.equal(exchange.result(), undefined);
  t.match(await exchanges.judge('another'), { kind: 'unavailable' });
  const results = await Promise.all([exchanges.judge(exchange.id), exchanges.judge(exchange.id)]);
  t.match(results, [{ kind: 'ok' }, { kind: 'ok' }]);
  t.equal(asked, 1);
  t.match(exchange.result(), { kind: 'ok' });
  exchange.done();
  t.match(await exchanges.judge(exchange.id), { kind: 'unavailable' });
  const broken = exchanges.add(() => Promise.reject(new Error('disk')));
  t.match(await exchanges.judge(broken.id), { kind: 'unavailable', why: 'disk' });
  broken.done();
});
