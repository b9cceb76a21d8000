import t from 'tap';
import { Batches } from '../../../core/mailstore/batches.ts';

t.test('all that wait are created before the first of them goes on', async t => {
  const batches = new Batches(2);
  const order: string[] = [];
  const member = async (name: string): Promise<void> => {
    await batches.open(() => order.push(`create ${name}`));
    order.push(`sync ${name}`);
    await new Promise(resolve => setImmediate(resolve));
    batches.done();
  };
  await Promise.all(['a', 'b', 'c', 'd'].map(member));
  t.same(order, ['create a', 'sync a', ...['create b', 'create c', 'sync b', 'sync c'], 'create d', 'sync d']);
});

t.test('a create that fails fails alone, and nobody waits for it', async t => {
  const batches = new Batches(16);
  const failing = (): number => {
    throw new Error('full');
  };
  await t.rejects(batches.open(failing), /full/);
  t.equal(await batches.open(() => 7), 7);
  const waiting = [batches.open(failing), batches.open(() => 8), batches.open(failing)];
  batches.done();
  const results = await Promise.allSettled(waiting);
  t.same(
    results.map(each => each.status),
    ['rejected', 'fulfilled', 'rejected'],
  );
  const next = batches.open(() => 9);
  batches.done();
  t.equal(await next, 9);
});
