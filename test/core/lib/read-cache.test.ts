import t from 'tap';
import { createReadCache } from '../../../core/lib/read-cache.ts';
import { heldClock } from '../../harness/held-clock.ts';

function counted(): { readonly read: () => Promise<number>; reads(): number } {
  let reads = 0;
  return { read: async () => ++reads, reads: () => reads };
}

t.test('a value is kept for its time, then read again', async t => {
  const clock = heldClock();
  const cache = createReadCache<number>({ clock, keepMs: 1000, maxKeys: 10 });
  const { read } = counted();
  t.equal(await cache.get('a', read), 1);
  clock.move(999);
  t.equal(await cache.get('a', read), 1);
  t.equal(await cache.get('b', read), 2, 'another key is another value');
  clock.move(1);
  t.equal(await cache.get('a', read), 3);
});

t.test('nothing is kept without a time, nor what may not be kept', async t => {
  const clock = heldClock();
  const always = createReadCache<number>({ clock, keepMs: 0, maxKeys: 10 });
  const first = counted();
  for (const wanted of [1, 2]) t.equal(await always.get('a', first.read), wanted);
  const even = createReadCache<number>({ clock, keepMs: 1000, maxKeys: 10, keeps: value => value % 2 === 0 });
  const second = counted();
  for (const wanted of [1, 2, 2]) t.equal(await even.get('a', second.read), wanted);
});

t.test('what is undefined is a value too', async t => {
  const cache = createReadCache<undefined>({ clock: heldClock(), keepMs: 1000, maxKeys: 10 });
  let reads = 0;
  const read = async (): Promise<undefined> => {
    reads += 1;
    return undefined;
  };
  t.equal(await cache.get('a', read), undefined);
  t.equal(await cache.get('a', read), undefined);
  t.equal(reads, 1);
});

t.test('more keys than allowed: all are read again', async t => {
  const cache = createReadCache<number>({ clock: heldClock(), keepMs: 1000, maxKeys: 2 });
  const { read, reads } = counted();
  for (const key of ['a', 'b', 'b', 'c', 'c', 'a']) await cache.get(key, read);
  t.equal(reads(), 4);
});

t.test('a change drops its key, without one everything, also where it fails', async t => {
  const cache = createReadCache<number>({ clock: heldClock(), keepMs: 1000, maxKeys: 10 });
  const { read } = counted();
  for (const key of ['a', 'b']) await cache.get(key, read);
  t.equal(await cache.changing('a', async () => 'done'), 'done');
  t.equal(await cache.get('a', read), 3);
  t.equal(await cache.get('b', read), 2);
  await t.rejects(
    cache.changing(undefined, () => Promise.reject(new Error('the answer was lost'))),
    /lost/,
  );
  t.equal(await cache.get('b', read), 4);
});

t.test('what a change overtook is not kept', async t => {
  const cache = createReadCache<string>({ clock: heldClock(), keepMs: 1000, maxKeys: 10 });
  let answer: (value: string) => void = () => undefined;
  const early = cache.get('a', () => new Promise<string>(resolve => (answer = resolve)));
  await cache.changing('a', async () => undefined);
  answer('before the change');
  t.equal(await early, 'before the change', 'whoever asked before it gets what was then');
  t.equal(await cache.get('a', async () => 'after'), 'after');
});
