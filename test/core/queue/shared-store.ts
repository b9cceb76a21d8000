// One state for all tests of a file, emptied for each: opening one starts two threads, which is slow under tap.
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { type KeptMailOptions, type KeptMailStore, openKeptMail } from '../../../core/quarantine/store.ts';
import { openQueueStore, type QueueStore, type QueueStoreOptions } from '../../../core/queue/store.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import type { State } from '../../../core/state/state.ts';
import { type Teardown, tempFolder } from './fixtures.ts';

let shared: Promise<State> | undefined;

async function open(): Promise<State> {
  const state = await openSqliteState(path.join(await tempFolder(t), 'state.db'));
  t.teardown(() => state.close());
  return state;
}

/** An empty queue. What a test before this one left in it is gone, and must not be running any more. */
export async function openStore(
  test: Teardown,
  options: QueueStoreOptions = {},
): Promise<{ readonly store: QueueStore; readonly state: State; readonly folder: string }> {
  shared ??= open();
  const state = await shared;
  const folder = await tempFolder(test);
  const store = await openQueueStore(state, path.join(folder, 'queue'), options);
  await state.write(
    ['queue_message', 'queue_recipient', 'queue_destination'].map(table => ({ sql: `DELETE FROM ${table}` })),
  );
  return { state, folder, store };
}

/** An empty quarantine beside it. */
export async function openKept(
  test: Teardown,
  state: State,
  folder: string,
  more: Partial<KeptMailOptions> = {},
): Promise<KeptMailStore> {
  const kept = await openKeptMail({
    state,
    folder: path.join(folder, 'quarantine'),
    clock: systemClock,
    limits: () => ({ retentionMs: 86_400_000, reasons: {}, maxBytes: 1_000_000 }),
    warn: () => undefined,
    ...more,
  });
  test.teardown(() => kept.close());
  await state.write(['kept_mail', 'kept_recipient', 'kept_release'].map(table => ({ sql: `DELETE FROM ${table}` })));
  return kept;
}
