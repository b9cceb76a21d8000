// A share of all messages, recorded whole for `postern replay`. They may be lost: they lie in a database and files of their
// own, written without a sync, and whatever fails here costs a recording and never mail.
import { existsSync, mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import type { Logger } from 'pino';
import type { LoadedConfig } from '../config/load.ts';
import { type FileOps, systemFileOps } from '../lib/atomic-file.ts';
import type { Clock } from '../lib/clock.ts';
import type { MessageOutcome } from '../pipeline/chain.ts';
import { type KeptMailStore, openKeptMail } from '../quarantine/store.ts';
import type { DecidedMessage, Recorder } from '../smtp/ports.ts';
import { openSqliteState } from '../state/sqlite.ts';

const unsynced: FileOps = {
  ...systemFileOps,
  async open(file, flags, mode) {
    const handle = await open(file, flags, mode);
    return { write: handle.write.bind(handle), close: handle.close.bind(handle), sync: async () => undefined };
  },
};

const folderOf = (dataFolder: string): string => path.join(dataFolder, 'recordings');
export const hasRecordings = (dataFolder: string): boolean => existsSync(path.join(folderOf(dataFolder), 'index.db'));

/** The database goes with the store. */
export async function openRecordings(
  dataFolder: string,
  config: () => LoadedConfig,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): Promise<KeptMailStore> {
  const folder = folderOf(dataFolder);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = await openSqliteState(path.join(folder, 'index.db'), { synchronous: 'normal', reader: 'shared' });
  const store = await openKeptMail({
    state,
    folder,
    clock,
    limits() {
      const { retention, maxSize } = config().options.recordings;
      return { retentionMs: retention, reasons: {}, maxBytes: maxSize };
    },
    warn: (message, details) => log.warn(details, message),
    files: unsynced,
  }).catch(async (error: unknown) => {
    await state.close();
    throw error;
  });
  return {
    ...store,
    async close() {
      await store.close();
      await state.close();
    },
  };
}

/** How the chain decided, which a replay compares. */
export type Decision = 'deliver' | 'quarantine' | 'reject' | 'defer' | 'discard';
export function decisionOf(outcome: MessageOutcome): Decision {
  if (outcome.kind !== 'refused') return outcome.kind;
  return outcome.reply.code >= 500 ? 'reject' : 'defer';
}

async function keep(store: KeptMailStore, decided: DecidedMessage): Promise<void> {
  const { id, receivedAt, envelope, refused, message, session, helo, identity, outcome, trace } = decided;
  const { sender, recipients, ...parameters } = envelope;
  const subject = message.headers.get('subject')?.value;
  const messageId = message.headers.get('message-id')?.value;
  await store.keep({
    id,
    message: id,
    reason: decisionOf(outcome),
    plugin: ('plugin' in outcome ? outcome.plugin : undefined) ?? '',
    why: ('why' in outcome ? outcome.why : undefined) ?? '',
    receivedAt,
    ...(subject === undefined ? {} : { subject }),
    ...(messageId === undefined ? {} : { messageId }),
    facts: {
      sender,
      recipients,
      originals: {},
      envelope: parameters,
      client: { address: session.remote.address },
      refused,
      session,
      helo,
      ...(identity === undefined ? {} : { identity }),
    },
    form: message.rope,
    trace,
  });
}

export interface Recordings extends Recorder {
  /** Removes what is too old, even where nothing is recorded any more. */
  start(): void;
  close(): Promise<void>;
}

/** Opens its store when the first message is to be recorded. */
export function createRecordings(
  dataFolder: string,
  config: () => LoadedConfig,
  parts: { readonly clock: Clock; readonly log: Logger; readonly random?: () => number },
): Recordings {
  const { log, random = Math.random } = parts;
  let opening: Promise<KeptMailStore> | undefined;
  const opened = (): Promise<KeptMailStore> => {
    opening ??= openRecordings(dataFolder, config, parts).then(store => {
      store.start();
      return store;
    });
    // One that failed to open is tried again with the next message.
    opening.catch(() => {
      opening = undefined;
    });
    return opening;
  };
  const warn = (error: unknown): void => log.warn({ err: error }, 'Message could not be recorded');
  return {
    wants() {
      const { share } = config().options.recordings;
      return share > 0 && random() * 100 < share;
    },
    record: decided =>
      opened()
        .then(store => keep(store, decided))
        .catch(warn),
    start() {
      if (hasRecordings(dataFolder)) opened().catch(warn);
    },
    async close() {
      const store = await opening?.catch(() => undefined);
      await store?.close();
    },
  };
}
