// Annotations as they are kept: what was set is seen at once, also by who was asking meanwhile.
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { openMetadata } from '../../../core/mailstore/metadata.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import type { State } from '../../../core/state/state.ts';

t.test('what was read before a write is not kept after it', async t => {
  const state = await openSqliteState(':memory:');
  t.teardown(() => state.close());
  let late: Promise<void> | undefined;
  const slow: State = {
    migrate: (component, migrations) => state.migrate(component, migrations),
    write: statements => state.write(statements),
    close: () => state.close(),
    async query(...args) {
      const until = late;
      const rows = await state.query(...args);
      await until;
      return rows;
    },
  };
  const metadata = await openMetadata(slow, systemClock);
  let go = (): void => undefined;
  late = new Promise(resolve => {
    go = resolve;
  });
  const asked = metadata.entries('ann', 'INBOX');
  late = undefined;
  await metadata.set('ann', 'INBOX', new Map([['/private/comment', Buffer.from('new')]]));
  go();
  t.same([...(await asked).keys()], [], 'as it was when it was asked');
  t.same([...(await metadata.entries('ann', 'INBOX')).keys()], ['/private/comment']);
});
