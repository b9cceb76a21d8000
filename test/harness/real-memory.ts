// What plugins remember, in a real state store, which may be opened twice to see a restart.
import type { Clock } from '../../core/lib/clock.ts';
import type { Memory } from '../../core/plugin/contract.ts';
import { openMemory } from '../../core/state/memory.ts';
import { openSqliteState } from '../../core/state/sqlite.ts';
import type { Teardown } from './engine-process.ts';

export async function realMemory(t: Teardown, clock: Clock, file = ':memory:'): Promise<Memory> {
  const state = await openSqliteState(file);
  t.teardown(() => state.close());
  return (await openMemory(state, clock)).of('plugin:test');
}
