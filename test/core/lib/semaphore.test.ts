import t from 'tap';
import { createSemaphore } from '../../../core/lib/semaphore.ts';

t.test('so many at a time, in order', async t => {
  const semaphore = createSemaphore(2);
  const order: number[] = [];
  const ends: (() => void)[] = [];
  const job = (id: number): Promise<void> =>
    semaphore.run(() => {
      order.push(id);
      return new Promise<void>(resolve => ends.push(resolve));
    });
  const jobs = [1, 2, 3, 4].map(job);
  await Promise.resolve();
  t.same(order, [1, 2]);
  t.equal(semaphore.waiting, 2);
  ends[0]?.();
  await jobs[0];
  await new Promise(resolve => setImmediate(resolve));
  t.same(order, [1, 2, 3]);
  t.equal(semaphore.running, 2);
  ends[1]?.();
  ends[2]?.();
  await jobs[1];
  await new Promise(resolve => setImmediate(resolve));
  ends[3]?.();
  await Promise.all(jobs);
  t.equal(semaphore.running, 0);
});

t.test('a failure frees its place, and who gives up leaves the queue', async t => {
  const semaphore = createSemaphore(1);
  await t.rejects(
    semaphore.run(() => Promise.reject(new Error('broken'))),
    { message: 'broken' },
  );
  let end = (): void => undefined;
  const first = semaphore.run(() => new Promise<void>(resolve => (end = resolve)));
  const controller = new AbortController();
  const second = semaphore.run(async () => 'never', controller.signal);
  const third = semaphore.run(async () => 'third');
  controller.abort(new Error('gone'));
  await t.rejects(second, { message: 'gone' });
  await t.rejects(
    semaphore.run(async () => 'never', controller.signal),
    { message: 'gone' },
  );
  end();
  await first;
  t.equal(await third, 'third');
  t.equal(semaphore.running, 0);
  t.throws(() => createSemaphore(0), RangeError);
});
