// Mail that comes by other ways than a listener: the maildrop of `postern sendmail` (and accounts elsewhere).
import path from 'node:path';
import type { Logger } from 'pino';
import type { LoadedConfig } from '../config/load.ts';
import { ensureMaildrop } from '../intake/maildrop-writer.ts';
import { openIntakeMemory } from '../intake/memory.ts';
import { createPickup } from '../intake/pickup.ts';
import type { PollerStatus } from '../intake/poller.ts';
import type { Clock } from '../lib/clock.ts';
import type { TraceSink } from '../mail/trace.ts';
import type { Chain } from '../pipeline/chain.ts';
import { createEnqueuer, type EnqueueParts } from '../queue/enqueue.ts';
import type { Settle } from '../smtp/ports.ts';
import type { State } from '../state/state.ts';
import { CloseStack } from './close-stack.ts';
import { createFetchAccounts } from './fetch-accounts.ts';
import { createInjector } from './injector.ts';
import { maildropFolder, originOf } from './maildrop.ts';
import { findSystemUser } from './system-users.ts';

export interface IntakeParts {
  readonly config: () => LoadedConfig;
  readonly hostname: string;
  readonly spoolDir: string;
  readonly state: State;
  readonly chain: () => Chain;
  readonly settle: Settle;
  readonly queue: EnqueueParts;
  readonly trace: TraceSink;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface IntakeStatus {
  readonly maildrop: { readonly folder: string; readonly waiting: number; readonly bad: number };
  readonly fetch: readonly PollerStatus[];
}

export interface FetchResult {
  readonly name: string;
  readonly taken: number;
  readonly refused: number;
  readonly error?: string;
}

export interface Intake {
  /** After a reload. */
  apply(config: LoadedConfig): Promise<void>;
  /** Polls the account of that name now, or all; resolves to what was fetched. */
  fetch(name?: string): Promise<readonly FetchResult[]>;
  status(): IntakeStatus;
  close(): Promise<void>;
}

export async function openIntake(parts: IntakeParts): Promise<Intake> {
  const { clock, log, hostname } = parts;
  const config = parts.config();
  const stack = new CloseStack(log);
  const memory = await openIntakeMemory(parts.state);
  const inject = createInjector({ ...parts, enqueuer: createEnqueuer(parts.queue) });
  const folder = maildropFolder(config);
  await ensureMaildrop(folder);
  const pickup = stack.add(
    'maildrop',
    createPickup({
      folder,
      spoolFolder: path.resolve(parts.spoolDir),
      hostname,
      origin: originOf(config, hostname),
      maxSize: config.options.message.maxSize,
      lifetimeMs: config.options.queue.lifetime,
      freeSenders: config.options.sendmail.senders === 'any' ? undefined : [0, process.getuid?.() ?? 0],
      memory,
      inject,
      userName: async uid => (await findSystemUser(uid))?.name,
      clock,
      log,
    }),
  );
  const accounts = stack.add('fetch', createFetchAccounts(parts, { inject, memory }));
  await accounts.apply(config);
  return {
    async apply(next) {
      await accounts.apply(next);
    },
    async fetch(name) {
      const chosen = accounts.list().filter(poller => name === undefined || poller.status().name === name);
      if (chosen.length === 0)
        throw new Error(name === undefined ? 'No account is configured' : `No account '${name}'`);
      return Promise.all(
        chosen.map(async (poller): Promise<FetchResult> => {
          const account = poller.status().name;
          try {
            return { name: account, ...(await poller.poll()) };
          } catch (error) {
            return { name: account, taken: 0, refused: 0, error: (error as Error).message };
          }
        }),
      );
    },
    status: () => ({
      maildrop: { folder, ...pickup.status() },
      fetch: accounts.list().map(poller => poller.status()),
    }),
    close: () => stack.closeAll(),
  };
}
