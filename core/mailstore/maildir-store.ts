// The mail store of the gateway: one Maildir per user, made when first needed. See `mailbox.ts` for what it promises.
import { randomInt } from 'node:crypto';
import { hostname } from 'node:os';
import path from 'node:path';
import type { Clock } from '../lib/clock.ts';
import { systemClock } from '../lib/clock.ts';
import { asResult, type DeliveryPlace, deliverForm } from './deliver.ts';
import { type Disk, realDisk } from './disk.ts';
import { durableFilesOn } from './durable-disk.ts';
import { createNamer } from './file-name.ts';
import { canonicalName, directoryOf, parentsOf } from './folder-name.ts';
import { createIndexPool } from './index-pool.ts';
import type { DeliveryResult, DeliveryTarget, MailStore, UserMail } from './mailbox.ts';
import { MailboxError } from './mailbox.ts';
import type { Staging } from './staging.ts';
import type { StoreParts } from './store-parts.ts';
import { tokenPrefix } from './sweep.ts';
import { UserIndex } from './user-index.ts';
import { checkQuota, holdUser, MaildirUser, makeFolder } from './user-mail.ts';

export interface MaildirStoreOptions {
  /** Absolute path of a user's Maildir. The account name comes from the directory, never straight from a client. */
  readonly maildirOf: (user: string) => string;
  /** For file names and locks; default the machine's. */
  readonly host?: string;
  readonly clock?: Clock;
  /** Closed with the store. */
  readonly staging?: Staging;
  /** For tests: a disk that fails. */
  readonly disk?: Disk;
  /** Databases open at a time. */
  readonly openIndexes?: number;
}

const indexFile = 'postern-index.db';

interface Shared {
  readonly user: MaildirUser;
  holds: number;
}

export function createMaildirStore(options: MaildirStoreOptions): MailStore {
  const clock = options.clock ?? systemClock;
  const disk = options.disk ?? realDisk;
  const host = options.host ?? hostname();
  const limit = options.openIndexes ?? 100;
  const parts: StoreParts = {
    disk,
    durable: durableFilesOn(disk),
    clock,
    owner: { pid: process.pid, host },
    newName: createNamer(host, process.pid, randomInt(2 ** 30), () => clock.now()),
    ...(options.staging && { staging: options.staging }),
  };
  const pool = createIndexPool(limit);
  /** In the order of their last use: users nobody holds are kept a while, as they often come again. */
  const users = new Map<string, Shared>();
  /** Limits last told, for deliveries that do not tell. */
  const quotas = new Map<string, number>();

  function makeUser(name: string): Shared {
    const root = options.maildirOf(name);
    makeFolder(parts, root, true);
    const token = path.join(root, `${tokenPrefix}${parts.newName()}`);
    const index = new UserIndex(path.join(root, indexFile), pool);
    return { user: new MaildirUser({ ...parts, owner: { ...parts.owner, token } }, index, root), holds: 0 };
  }

  function closeIdle(): void {
    for (const [name, shared] of users) {
      if (users.size <= limit) break;
      if (shared.holds > 0) continue;
      users.delete(name);
      shared.user.close();
    }
  }

  function user(name: string, given?: { readonly quotaBytes?: number }): UserMail {
    const shared = users.get(name) ?? makeUser(name);
    users.delete(name);
    users.set(name, shared);
    if (given?.quotaBytes !== undefined) quotas.set(name, given.quotaBytes);
    shared.user.quotaBytes = quotas.get(name);
    shared.holds++;
    return holdUser(shared.user, () => {
      shared.holds--;
      closeIdle();
    });
  }

  /** Where a target's message goes; makes what is missing and may be made. */
  async function prepare(target: DeliveryTarget, size: number): Promise<DeliveryPlace> {
    const root = options.maildirOf(target.user);
    const directory = target.mailbox === undefined ? '' : directoryOf(target.mailbox);
    const folder = directory === '' ? root : path.join(root, directory);
    let tmp = disk.stat(`${folder}/tmp`);
    if (!tmp) {
      if (directory === '' || !disk.stat(`${root}/tmp`)) makeFolder(parts, root, true);
      if (directory !== '') {
        if (!target.create) throw new MailboxError('nonexistent', `Mailbox "${target.mailbox}" does not exist`);
        await createFor(target, canonicalName(target.mailbox ?? ''));
      }
      tmp = disk.stat(`${folder}/tmp`);
    }
    await checkQuota(parts, root, size, target.quotaBytes ?? quotas.get(target.user));
    return { root, folder, target, ...(tmp && { tmp }) };
  }

  async function createFor(target: DeliveryTarget, name: string): Promise<void> {
    const mail = user(target.user);
    try {
      for (const one of [...parentsOf(name), name]) if (directoryOf(one) !== '') await createQuietly(mail, one);
    } finally {
      mail.release();
    }
  }

  async function deliver(
    form: Parameters<MailStore['deliver']>[0],
    targets: readonly DeliveryTarget[],
  ): Promise<readonly DeliveryResult[]> {
    const prepared = await Promise.all(targets.map(target => prepare(target, form.size).catch(asResult)));
    const places = prepared.filter(one => 'folder' in one);
    const results = (await deliverForm(parts, places, form)).values();
    return prepared.map(one => {
      if (!('folder' in one)) return one;
      const result: DeliveryResult = results.next().value ?? { kind: 'tempfail', full: false, why: 'No result' };
      if (result.kind === 'stored') users.get(one.target.user)?.user.delivered(path.relative(one.root, one.folder));
      return result;
    });
  }

  return {
    user: async (name, given) => user(name, given),
    deliver,
    async close() {
      for (const shared of users.values()) shared.user.close();
      users.clear();
      await options.staging?.close();
    },
  };
}

async function createQuietly(mail: UserMail, name: string): Promise<void> {
  try {
    await mail.create(name);
  } catch (error) {
    if (!(error instanceof MailboxError && error.code === 'alreadyexists')) throw error;
  }
}
