// All mailboxes of one user: the tree of folders, subscriptions, special uses, quota. Shared by all sessions of the
// process. Folders that nobody has open cost nothing but their rows in the index.
import path from 'node:path';
import { moveMessages } from './add-messages.ts';
import { hasCode } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';
import { changeSpecialUses, readSpecialUses, readSubscriptions, setSubscription } from './folder-files.ts';
import { canonicalName, delimiter, directoryOf, nameOf, parentsOf } from './folder-name.ts';
import { HeldFolders } from './held-folders.ts';
import type { Mailbox, MailboxInfo, MailboxStatus, Quota, SpecialUse, Uid, UserMail } from './mailbox.ts';
import { MailboxError } from './mailbox.ts';
import { OpenMailbox } from './open-mailbox.ts';
import { readUsage } from './quota-file.ts';
import type { StoreParts } from './store-parts.ts';
import { deletedPrefix, sweepLeftover } from './sweep.ts';
import { createTurns } from './turns.ts';
import type { UserIndex } from './user-index.ts';

/** Makes the directories of a folder. `maildirfolder` tells delivery agents that it is not a Maildir of its own. */
export function makeFolder(parts: StoreParts, folder: string, isRoot: boolean): void {
  for (const part of ['tmp', 'new', 'cur']) parts.disk.makeDirectory(path.join(folder, part));
  if (isRoot) return;
  try {
    parts.disk.close(parts.disk.create(path.join(folder, 'maildirfolder'), 0o600));
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
}

export class MaildirUser {
  readonly root: string;
  quotaBytes: number | undefined;
  readonly #parts: StoreParts;
  readonly #index: UserIndex;
  readonly #folders: HeldFolders;
  /** Changes of the tree, one at a time. */
  readonly #turns = createTurns();

  constructor(parts: StoreParts, index: UserIndex, root: string) {
    this.#parts = parts;
    this.#index = index;
    this.root = root;
    this.#folders = new HeldFolders(parts, index, root, bytes => this.checkQuota(bytes));
  }

  #exists(directory: string): boolean {
    return this.#parts.disk.stat(path.join(this.root, directory, 'cur')) !== undefined;
  }

  async open(name: string, options?: { readonly readOnly?: boolean }): Promise<Mailbox> {
    this.#mustExist(name);
    return this.#folders.open(canonicalName(name), options?.readOnly ?? false);
  }

  #mustExist(name: string): void {
    const directory = directoryOf(name);
    if (directory === '') makeFolder(this.#parts, this.root, true);
    else if (!this.#exists(directory)) throw new MailboxError('nonexistent', `Mailbox "${name}" does not exist`);
  }

  /** Something was delivered here by this process: those who watch hear of it at once. */
  delivered(directory: string): void {
    this.#folders.look(directory);
  }

  async list(): Promise<readonly MailboxInfo[]> {
    const { disk } = this.#parts;
    const names = new Set(['INBOX']);
    for (const entry of await disk.list(this.root)) {
      await sweepLeftover(this.#parts, this.root, entry);
      const name = entry.startsWith('.') ? nameOf(entry) : undefined;
      if (name !== undefined && this.#exists(entry)) names.add(name);
    }
    const parents = new Set([...names].flatMap(parentsOf));
    const subscribed = new Set(readSubscriptions(disk, this.root));
    const uses = readSpecialUses(disk, this.root);
    const all = [...new Set([...names, ...parents])].sort(inboxFirst);
    return all.map(name => ({
      name,
      selectable: names.has(name),
      hasChildren: parents.has(name),
      subscribed: subscribed.has(name),
      specialUse: uses.get(directoryOf(name)) ?? [],
    }));
  }

  subscriptions(): readonly string[] {
    return readSubscriptions(this.#parts.disk, this.root);
  }

  subscribe(name: string, on: boolean): Promise<void> {
    return this.#turns(() => setSubscription(this.#parts, this.root, canonicalName(name), on));
  }

  create(name: string, options?: { readonly specialUse?: readonly SpecialUse[] }): Promise<void> {
    return this.#turns(async () => {
      const canonical = canonicalName(name);
      const directory = directoryOf(canonical);
      if (directory === '' || this.#exists(directory))
        throw new MailboxError('alreadyexists', `Mailbox "${canonical}" exists`);
      this.#make(canonical);
      await this.#parts.durable.syncDirectory(this.root);
      const uses = options?.specialUse ?? [];
      if (uses.length > 0) await changeSpecialUses(this.#parts, this.root, known => known.set(directory, uses));
    });
  }

  /** With missing parents. Another folder of that name that was once here is forgotten, its UIDVALIDITY is not reused. */
  #make(name: string): void {
    for (const one of [...parentsOf(name), name]) {
      const directory = directoryOf(one);
      if (directory === '' || this.#exists(directory)) continue;
      this.#index.transaction(() => this.#index.removeFolder(directory));
      makeFolder(this.#parts, path.join(this.root, directory), false);
    }
  }

  async #directoriesBelow(directory: string): Promise<readonly string[]> {
    const entries = await this.#parts.disk.list(this.root);
    return entries.filter(entry => entry.startsWith(`${directory}.`) && nameOf(entry) !== undefined);
  }

  delete(name: string): Promise<void> {
    return this.#turns(async () => {
      const canonical = canonicalName(name);
      const directory = directoryOf(canonical);
      if (directory === '') throw new MailboxError('cannot', 'INBOX cannot be deleted');
      if (!this.#exists(directory)) {
        const children = await this.#directoriesBelow(directory);
        // RFC 3501 §6.3.4: a name that only has children stays.
        if (children.length > 0) throw new MailboxError('cannot', `Mailbox "${canonical}" has children`);
        throw new MailboxError('nonexistent', `Mailbox "${canonical}" does not exist`);
      }
      await this.#folders.removing(directory, () => this.#removeFolder(directory));
    });
  }

  /** Out of the tree by rename first, so that no half of a folder is ever seen. */
  async #removeFolder(directory: string): Promise<void> {
    const { disk, newName, durable } = this.#parts;
    const aside = path.join(this.root, `${deletedPrefix}${newName()}`);
    disk.rename(path.join(this.root, directory), aside);
    await durable.syncDirectory(this.root);
    this.#index.transaction(() => this.#index.removeFolder(directory));
    await changeSpecialUses(this.#parts, this.root, uses => uses.delete(directory));
    await disk.removeTree(aside);
    if (this.quotaBytes !== undefined) await this.recount();
  }

  rename(from: string, to: string): Promise<void> {
    return this.#turns(async () => {
      const source = canonicalName(from);
      const target = canonicalName(to);
      if (directoryOf(target) === '' || this.#exists(directoryOf(target)))
        throw new MailboxError('alreadyexists', `Mailbox "${target}" exists`);
      if (source === 'INBOX') return this.#renameInbox(target);
      if (target.startsWith(source + delimiter))
        throw new MailboxError('cannot', `Mailbox "${source}" cannot be moved into itself`);
      await this.#renameTree(source, target);
    });
  }

  /** RFC 3501 §6.3.5: its messages move, INBOX stays, and so do its children. */
  async #renameInbox(target: string): Promise<void> {
    this.#make(target);
    const inbox = await this.open('INBOX');
    try {
      const other = await this.open(target);
      try {
        const uids = inbox.records.map(record => record.uid);
        await moveMessages(OpenMailbox.folder(inbox as OpenMailbox), OpenMailbox.folder(other as OpenMailbox), uids);
      } finally {
        await other.close();
      }
    } finally {
      await inbox.close();
    }
  }

  async #renameTree(source: string, target: string): Promise<void> {
    const directory = directoryOf(source);
    const below = await this.#directoriesBelow(directory);
    const moving = [...(this.#exists(directory) ? [directory] : []), ...below];
    if (moving.length === 0) throw new MailboxError('nonexistent', `Mailbox "${source}" does not exist`);
    const pairs = moving.map(old => {
      const name = target + (nameOf(old) ?? '').slice(source.length);
      return { old, name, next: directoryOf(name) };
    });
    for (const { next, name } of pairs)
      if (this.#exists(next)) throw new MailboxError('alreadyexists', `Mailbox "${name}" exists`);
    for (const parent of parentsOf(target)) this.#make(parent);
    for (const { old, name, next } of pairs) await this.#renameOne(old, name, next);
    await this.#parts.durable.syncDirectory(this.root);
    await changeSpecialUses(this.#parts, this.root, uses => {
      for (const { old, next } of pairs) {
        const words = uses.get(old);
        uses.delete(old);
        if (words) uses.set(next, words);
      }
    });
  }

  #renameOne(old: string, name: string, next: string): Promise<void> {
    return this.#folders.moving(old, name, () => {
      this.#parts.disk.rename(path.join(this.root, old), path.join(this.root, next));
      this.#index.transaction(() => {
        this.#index.removeFolder(next);
        this.#index.renameFolder(old, next);
      });
    });
  }

  async status(name: string): Promise<MailboxStatus> {
    this.#mustExist(name);
    return this.#folders.glance(canonicalName(name), ({ state }) => ({
      messages: state.messages,
      unseen: state.unseen,
      recent: state.firstRecent === 0 ? 0 : this.#index.countFrom(state.id, state.firstRecent),
      uidNext: state.uidNext as Uid,
      uidValidity: state.uidValidity,
      highestModseq: state.highestModseq,
      size: state.bytes,
    }));
  }

  async quota(): Promise<Quota> {
    const usage = await readUsage(this.#parts, this.root, this.quotaBytes);
    const { bytes: usedBytes, messages: usedMessages } = usage;
    return { usedBytes, usedMessages, ...(this.quotaBytes !== undefined && { limitBytes: this.quotaBytes }) };
  }

  async checkQuota(bytes: number): Promise<void> {
    await checkQuota(this.#parts, this.root, bytes, this.quotaBytes);
  }

  async recount(): Promise<void> {
    try {
      this.#parts.disk.remove(path.join(this.root, 'maildirsize'));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    await this.quota();
  }

  /** Nobody holds the user any more. */
  close(): void {
    this.#folders.close();
    this.#index.close();
    if (this.#parts.owner.token !== undefined) removeQuietly(this.#parts.disk, this.#parts.owner.token);
  }
}

const inboxFirst = (a: string, b: string): number => (a === 'INBOX' ? -1 : b === 'INBOX' ? 1 : a < b ? -1 : 1);

/** Throws `overquota` where the limit leaves no room for `bytes` more. */
export async function checkQuota(
  parts: StoreParts,
  root: string,
  bytes: number,
  limitBytes: number | undefined,
): Promise<void> {
  if (limitBytes === undefined) return;
  const usage = await readUsage(parts, root, limitBytes);
  if (usage.bytes + bytes > limitBytes) throw new MailboxError('overquota', 'Mailbox is full');
}

/** One caller's hold on a user. */
export function holdUser(user: MaildirUser, release: () => void): UserMail {
  let released = false;
  return {
    list: () => user.list(),
    subscriptions: async () => user.subscriptions(),
    open: (name, options) => user.open(name, options),
    create: (name, options) => user.create(name, options),
    delete: name => user.delete(name),
    rename: (from, to) => user.rename(from, to),
    subscribe: (name, on) => user.subscribe(name, on),
    status: name => user.status(name),
    quota: () => user.quota(),
    release() {
      if (released) return;
      released = true;
      release();
    },
  };
}
