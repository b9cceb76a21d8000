// The stores that commands open without a running gateway, and the gateway opens with the rest: accounts and traces.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { type AuthLimits, authLimits } from '../accounts/auth-limits.ts';
import { openPasswords } from '../accounts/passwords.ts';
import { openUsers, type Users } from '../accounts/users.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { Clock } from '../lib/clock.ts';
import { createQueueAdmin, type QueueAdmin } from '../queue/admin.ts';
import { defaultBackoff } from '../queue/backoff.ts';
import type { QueuePolicy } from '../queue/entry.ts';
import { openQueueStore } from '../queue/store.ts';
import { type MemoryStore, openMemory } from '../state/memory.ts';
import { openSqliteState } from '../state/sqlite.ts';
import type { State } from '../state/state.ts';
import { openTraceStore, type TraceStore } from '../state/trace-store.ts';
import { CloseStack } from './close-stack.ts';
import { createQuarantineAdmin, openQuarantine, type QuarantineAdmin } from './quarantine.ts';

/** Folder of mail, queue and state. */
export const dataFolder = (config: LoadedConfig): string => path.resolve(config.folder, config.options.dataDir);

export interface Accounts {
  readonly users: Users;
  readonly limits: AuthLimits;
  close(): Promise<void>;
}

export async function openAccountsOn(state: State, clock: Clock, log: Logger): Promise<Accounts> {
  const passwords = openPasswords();
  const limits = authLimits({ clock });
  const users = await openUsers({
    state,
    passwords,
    limits,
    clock,
    warn: (message, details) => log.warn(details, message),
  });
  return { users, limits, close: () => passwords.close() };
}

/** Accounts alone, for commands that need no running gateway. */
export async function openAccounts(config: LoadedConfig, clock: Clock, log: Logger): Promise<Accounts> {
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stack = new CloseStack(log);
  try {
    const state = stack.add('state', await openSqliteState(path.join(folder, config.options.stores.state)));
    const { users, limits } = stack.add('accounts', await openAccountsOn(state, clock, log));
    return { users, limits, close: () => stack.closeAll() };
  } catch (error) {
    await stack.closeAll();
    throw error;
  }
}

/** Traces alone, for `postern trace`. */
export async function openTraces(config: LoadedConfig, clock: Clock, log: Logger): Promise<TraceStore> {
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = await openSqliteState(path.join(folder, 'trace.db'), { synchronous: 'normal' });
  const store = await openTraceStore({
    state,
    clock,
    retentionMs: config.options.stores.traceRetention,
    warn: (message, details) => log.warn(details, message),
  });
  return {
    ...store,
    async close() {
      await store.close();
      await state.close();
    },
  };
}

/** The queue alone, for `postern queue`; a running gateway notices changes at its next look. */
export async function openQueueAlone(
  config: LoadedConfig,
  clock: Clock,
  log: Logger,
): Promise<{ readonly queue: QueueAdmin; close(): Promise<void> }> {
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stack = new CloseStack(log);
  try {
    const state = stack.add('state', await openSqliteState(path.join(folder, config.options.stores.state)));
    const store = await openQueueStore(state, path.join(folder, 'queue'));
    return { queue: createQueueAdmin(store, queuePolicy(config), () => clock.now()), close: () => stack.closeAll() };
  } catch (error) {
    await stack.closeAll();
    throw error;
  }
}

/** The quarantine alone, for `postern quarantine`; what is released enters the queue of this data folder. */
export async function openQuarantineAlone(
  config: LoadedConfig,
  clock: Clock,
  log: Logger,
): Promise<{ readonly quarantine: QuarantineAdmin; close(): Promise<void> }> {
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stack = new CloseStack(log);
  try {
    const state = stack.add('state', await openSqliteState(path.join(folder, config.options.stores.state)));
    const queue = await openQueueStore(state, path.join(folder, 'queue'));
    const traces = stack.add('traces', await openTraces(config, clock, log));
    const store = stack.add('quarantine', await openQuarantine(state, folder, () => config, { clock, log }));
    const parts = { store, queue, policy: queuePolicy(config), traces, clock };
    return { quarantine: createQuarantineAdmin(parts), close: () => stack.closeAll() };
  } catch (error) {
    await stack.closeAll();
    throw error;
  }
}

/** What plugins remember, for commands; a running gateway sees changes at once. */
export async function openMemoryAlone(
  config: LoadedConfig,
  clock: Clock,
): Promise<{ readonly memory: MemoryStore; close(): Promise<void> }> {
  const folder = dataFolder(config);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = await openSqliteState(path.join(folder, config.options.stores.state));
  try {
    return { memory: await openMemory(state, clock), close: () => state.close() };
  } catch (error) {
    await state.close();
    throw error;
  }
}

export function queuePolicy({ options }: LoadedConfig): QueuePolicy {
  return {
    ...defaultBackoff,
    lifetimeMs: options.queue.lifetime,
    delayWarningMs: options.queue.delayWarning,
    firstRetryMs: options.queue.firstRetry,
    maxRetryMs: options.queue.maxRetry,
  };
}
