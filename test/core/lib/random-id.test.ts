import t from 'tap';
import { isRandomId, randomId, randomIdLength, randomIdTime } from '../../../core/lib/random-id.ts';

t.test('ids sort by time, are distinct and safe in names', async t => {
  const now = Date.UTC(2026, 0, 1);
  const times = [0, 1, 1000, now - 1, now, now + 1, now * 2];
  const ids = times.map(randomId);
  t.same([...ids].sort(), ids);
  t.same(ids.map(randomIdTime), times);
  for (const id of ids) {
    t.equal(id.length, randomIdLength);
    t.equal(isRandomId(id), true);
    t.equal(encodeURIComponent(id), id);
  }
  t.equal(new Set(Array.from({ length: 10_000 }, () => randomId(now))).size, 10_000);
  for (const text of ['', '../../etc/passwd', `${randomId(now)}x`, randomId(now).toLowerCase().replace(/\d/g, 'a')])
    t.equal(isRandomId(text), false);
});
