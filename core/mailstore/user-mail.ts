// All mailboxes of one user: the tree of folders, subscriptions, special uses, quota. Shared by all sessions of the
// process. Folders that nobody has open cost nothing but their rows in the index.
import path from 'node:path';
import { moveMessages } from './add-messages.ts';
import { hasCode } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';
import { Folder } from './folder.ts';
import { changeSpecialUses, readSpecialUses, readSubscriptions, setSubscription } from './folder-files.ts';
import { canonicalName, delimiter, directoryOf, nameOf, parentsOf } from './folder-name.ts';
import type { Mailbox, MailboxInfo, MailboxStatus, Quota, SpecialUse, Uid, UserMail } from './mailbox.ts';
import { MailboxError } from './mailbox.ts';
import { createMessageFiles, type MessageFiles } from './message-file.ts';
import { type MailboxHost, OpenMailbox } from './open-mailbox.ts';
import { noteUsage, readUsage } from './quota-file.ts';
import type { StoreParts } from './store-parts.ts';
import { createStructureCache, type StructureCache } from './structure-cache.ts';
import { syncFolder } from './sync-folder.ts';
import { createTurns } from './turns.ts';
import type { UserIndex } from './user-index.ts';
import { watchFolder } from './watch-folder.ts';

/** Files that our locks are links to; the rest of the name is unique. */
export const tokenPrefix = 'postern-lock.';
const sweepEveryMs = 24 * 60 * 60 * 1000;
const abandonedMs = 36 * 60 * 60 * 1000;
const leftoverMs = 24 * 60 * 60 * 1000;
const deletedPrefix = 'postern-deleted.';

interface Held {
  readonly folder: Folder;
  readonly files: MessageFiles;
  readonly structures: StructureCache;
  endWatch: (() => void) | undefined;
  /** A look after a change on disk is under way; another is due after it. */
  looking: boolean;
  again: boolean;
}

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
  readonly #held = new Map<string, Held>();
  readonly #swept = new Map<string, number>();
  /** Changes of the tree, one at a time. */
  readonly #turns = createTurns();

  constructor(parts: StoreParts, index: UserIndex, root: string) {
    this.#parts = parts;
    this.#index = index;
    this.root = root;
  }

  #exists(directory: string): boolean {
    return this.#parts.disk.stat(path.join(this.root, directory, 'cur')) !== undefined;
  }

  /** The shared folder; made when nobody has it. The caller adds itself to `readers`, or calls `#letGo`. */
  #hold(name: string): Held {
    const directory = directoryOf(name);
    const known = this.#held.get(directory);
    if (known) return known;
    if (directory === '') makeFolder(this.#parts, this.root, true);
    else if (!this.#exists(directory)) throw new MailboxError('nonexistent', `Mailbox "${name}" does not exist`);
    const folder = new Folder(
      this.#parts,
      this.#index,
      { root: this.root, name: canonicalName(name), directory },
      one => syncFolder(one, one.writers > 0),
    );
    const tmp = (): string => path.join(folder.path, 'tmp');
    const files = createMessageFiles(this.#parts.disk, tmp, this.#parts.newName);
    const structures = createStructureCache(this.#index, () => folder.state);
    const held: Held = { folder, files, structures, endWatch: undefined, looking: false, again: false };
    this.#held.set(directory, held);
    return held;
  }

  #letGo(held: Held): void {
    if (held.folder.readers > 0) return;
    held.endWatch?.();
    held.endWatch = undefined;
    held.structures.flush();
    held.files.clear();
    held.folder.unload();
    if (this.#held.get(held.folder.directory) === held) this.#held.delete(held.folder.directory);
  }

  async open(name: string, options?: { readonly readOnly?: boolean }): Promise<Mailbox> {
    const held = this.#hold(name);
    const { folder } = held;
    const readOnly = options?.readOnly ?? false;
    folder.readers++;
    if (!readOnly) folder.writers++;
    try {
      await folder.alone(async () => {
        await syncFolder(folder, folder.writers > 0);
        await folder.load();
        await this.#sweepTmp(folder.directory);
      }, true);
    } catch (error) {
      folder.readers--;
      if (!readOnly) folder.writers--;
      this.#letGo(held);
      throw error;
    }
    return new OpenMailbox(folder, this.#host(held), readOnly);
  }

  #host(held: Held): MailboxHost {
    return {
      files: held.files,
      structures: held.structures,
      checkQuota: bytes => this.checkQuota(bytes),
      noteUsage: (bytes, messages) => noteUsage(this.#parts.disk, this.root, bytes, messages),
      listen: listener => {
        const end = held.folder.onChange(listener);
        held.endWatch ??= watchFolder(held.folder.path, () => this.#look(held));
        return () => {
          end();
          if (held.folder.watched) return;
          held.endWatch?.();
          held.endWatch = undefined;
        };
      },
      release: () => this.#letGo(held),
    };
  }

  /** Something was delivered here by this process: those who watch hear of it at once. */
  delivered(directory: string): void {
    const held = this.#held.get(directory);
    if (held?.folder.watched) this.#look(held);
  }

  #look(held: Held): void {
    held.again = true;
    if (held.looking) return;
    held.looking = true;
    const run = async (): Promise<void> => {
      while (held.again && held.folder.watched) {
        held.again = false;
        await held.folder.alone(() => syncFolder(held.folder, held.folder.writers > 0), true);
      }
    };
    // A failure shows again, with a caller to tell, at the next sync of a session.
    const done = (): void => {
      held.looking = false;
    };
    run().then(done, done);
  }

  async list(): Promise<readonly MailboxInfo[]> {
    const { disk } = this.#parts;
    const names = new Set(['INBOX']);
    for (const entry of await disk.list(this.root)) {
      if (entry.startsWith(tokenPrefix) || entry.startsWith(deletedPrefix)) await this.#sweep(entry);
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

  /** What was being written when a process was killed, a day and a half later as Maildir asks; looked for once a day. */
  async #sweepTmp(directory: string): Promise<void> {
    const { disk, clock } = this.#parts;
    if (clock.now() - (this.#swept.get(directory) ?? 0) < sweepEveryMs) return;
    this.#swept.set(directory, clock.now());
    const tmp = path.join(this.root, directory, 'tmp');
    for (const name of await disk.list(tmp)) {
      const stat = disk.stat(path.join(tmp, name));
      if (stat && !stat.isDirectory && clock.now() - stat.mtimeMs > abandonedMs)
        removeQuietly(disk, path.join(tmp, name));
    }
  }

  /** Takes away what a process that was killed has left. A folder being deleted just now may lose the race; no harm. */
  async #sweep(entry: string): Promise<void> {
    const { disk, clock } = this.#parts;
    const file = path.join(this.root, entry);
    const stat = disk.stat(file);
    if (!stat || clock.now() - stat.mtimeMs < leftoverMs) return;
    if (stat.isDirectory) await disk.removeTree(file);
    else if (file !== this.#parts.owner.token) removeQuietly(disk, file);
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
      const held = this.#held.get(directory);
      const remove = (): Promise<void> => this.#removeFolder(directory);
      await (held ? held.folder.inTurn(remove) : remove());
      if (held) {
        this.#held.delete(directory);
        held.endWatch?.();
        held.endWatch = undefined;
        held.files.clear();
        held.folder.markDeleted();
      }
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
    const other = await this.open(target);
    try {
      const uids = inbox.records.map(record => record.uid);
      await moveMessages(OpenMailbox.folder(inbox as OpenMailbox), OpenMailbox.folder(other as OpenMailbox), uids);
    } finally {
      await inbox.close();
      await other.close();
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

  async #renameOne(old: string, name: string, next: string): Promise<void> {
    const held = this.#held.get(old);
    const move = async (): Promise<void> => {
      this.#parts.disk.rename(path.join(this.root, old), path.join(this.root, next));
      this.#index.transaction(() => {
        this.#index.removeFolder(next);
        this.#index.renameFolder(old, next);
      });
      if (!held) return;
      this.#held.delete(old);
      this.#held.set(next, held);
      held.folder.moveTo(this.root, name, next);
      if (!held.endWatch) return;
      held.endWatch();
      held.endWatch = watchFolder(held.folder.path, () => this.#look(held));
    };
    await (held ? held.folder.inTurn(move) : move());
  }

  async status(name: string): Promise<MailboxStatus> {
    const held = this.#hold(name);
    const { folder } = held;
    folder.readers++;
    try {
      return await folder.alone(async () => {
        await syncFolder(folder, folder.writers > 0);
        const { state } = folder;
        const recent = state.firstRecent === 0 ? 0 : this.#index.countFrom(state.id, state.firstRecent);
        return {
          messages: state.messages,
          unseen: state.unseen,
          recent,
          uidNext: state.uidNext as Uid,
          uidValidity: state.uidValidity,
          highestModseq: state.highestModseq,
          size: state.bytes,
        };
      }, true);
    } finally {
      folder.readers--;
      this.#letGo(held);
    }
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
    for (const held of [...this.#held.values()]) {
      held.folder.readers = 0;
      this.#letGo(held);
    }
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
