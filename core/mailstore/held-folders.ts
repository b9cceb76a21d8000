// The folders of one user that somebody has open. All sessions of the process share one `Folder`; the watch on its
// directories lasts as long as somebody listens, its records as long as somebody has it open.
import path from 'node:path';
import { Folder } from './folder.ts';
import { directoryOf } from './folder-name.ts';
import type { Mailbox } from './mailbox.ts';
import { createMessageFiles, type MessageFiles } from './message-file.ts';
import { type MailboxHost, OpenMailbox } from './open-mailbox.ts';
import { noteUsage } from './quota-file.ts';
import type { StoreParts } from './store-parts.ts';
import { createStructureCache, type StructureCache } from './structure-cache.ts';
import { sweepTmp } from './sweep.ts';
import { syncFolder } from './sync-folder.ts';
import type { UserIndex } from './user-index.ts';
import { watchFolder } from './watch-folder.ts';

const sweepEveryMs = 24 * 60 * 60 * 1000;
const failedLookMs = 5000;

interface Held {
  readonly folder: Folder;
  readonly files: MessageFiles;
  readonly structures: StructureCache;
  endWatch: (() => void) | undefined;
  /** Of the wait for the look that is due. */
  endWait: (() => void) | undefined;
  /** A look after a change on disk is under way; another is due after it. */
  looking: boolean;
  again: boolean;
}

const syncHeld = (folder: Folder): Promise<void> => syncFolder(folder, folder.writers > 0);

export class HeldFolders {
  readonly #parts: StoreParts;
  readonly #index: UserIndex;
  readonly #root: string;
  readonly #checkQuota: (bytes: number) => Promise<void>;
  readonly #held = new Map<string, Held>();
  readonly #swept = new Map<string, number>();

  constructor(parts: StoreParts, index: UserIndex, root: string, checkQuota: (bytes: number) => Promise<void>) {
    this.#parts = parts;
    this.#index = index;
    this.#root = root;
    this.#checkQuota = checkQuota;
  }

  /** The shared folder; made when nobody has it. The caller counts itself in `readers` at once. */
  #hold(name: string): Held {
    const directory = directoryOf(name);
    const known = this.#held.get(directory);
    if (known) return known;
    const folder = new Folder(this.#parts, this.#index, { root: this.#root, name, directory }, syncHeld);
    const tmp = (): string => path.join(folder.path, 'tmp');
    const files = createMessageFiles(this.#parts.disk, tmp, this.#parts.newName);
    const structures = createStructureCache(this.#index, () => folder.state);
    const held: Held = {
      folder,
      files,
      structures,
      endWatch: undefined,
      endWait: undefined,
      looking: false,
      again: false,
    };
    this.#held.set(directory, held);
    return held;
  }

  #letGo(held: Held): void {
    if (held.folder.readers > 0) return;
    this.#stopWatch(held);
    held.structures.flush();
    held.files.clear();
    held.folder.unload();
    if (this.#held.get(held.folder.directory) === held) this.#held.delete(held.folder.directory);
  }

  #stopWatch(held: Held): void {
    held.endWatch?.();
    held.endWatch = undefined;
    held.endWait?.();
    held.endWait = undefined;
  }

  async open(name: string, readOnly: boolean): Promise<Mailbox> {
    const held = this.#hold(name);
    const { folder } = held;
    folder.readers++;
    if (!readOnly) folder.writers++;
    try {
      await folder.alone(async () => {
        await syncHeld(folder);
        await folder.load();
        await this.#sweepTmp(folder);
      }, true);
    } catch (error) {
      folder.readers--;
      if (!readOnly) folder.writers--;
      this.#letGo(held);
      throw error;
    }
    return new OpenMailbox(folder, this.#host(held), readOnly);
  }

  /** What `read` makes of the folder as it is on disk now, without loading its records. */
  async glance<T>(name: string, read: (folder: Folder) => T): Promise<T> {
    const held = this.#hold(name);
    const { folder } = held;
    folder.readers++;
    try {
      return await folder.alone(async () => {
        await syncHeld(folder);
        return read(folder);
      }, true);
    } finally {
      folder.readers--;
      this.#letGo(held);
    }
  }

  #host(held: Held): MailboxHost {
    return {
      files: held.files,
      structures: held.structures,
      checkQuota: this.#checkQuota,
      noteUsage: (bytes, messages) => noteUsage(this.#parts.disk, this.#root, bytes, messages),
      listen: listener => {
        const end = held.folder.onChange(listener);
        this.#watch(held);
        return () => {
          end();
          if (!held.folder.watched) this.#stopWatch(held);
        };
      },
      release: () => this.#letGo(held),
    };
  }

  #watch(held: Held): void {
    held.endWatch ??= watchFolder(held.folder.path, () => this.#look(held));
    this.#lookWhenDue(held);
  }

  /** What another program did in the moment of a change of ours is found then, also if nobody asks: see `changingCur`. */
  #lookWhenDue(held: Held): void {
    held.endWait?.();
    held.endWait = undefined;
    const { recheckAt, watched } = held.folder;
    if (recheckAt === 0 || !watched) return;
    const { clock } = this.#parts;
    held.endWait = clock.after(Math.max(0, recheckAt - clock.now()), () => this.#look(held));
  }

  /** Something was delivered here by this process: those who watch hear of it at once. */
  look(directory: string): void {
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
        await held.folder.alone(() => syncHeld(held.folder), true);
      }
      this.#lookWhenDue(held);
    };
    const done = (): void => {
      held.looking = false;
    };
    // A failure shows again, with a caller to tell, at the next sync of a session; but one that idles asks for none.
    run().then(done, () => {
      done();
      this.#lookLater(held);
    });
  }

  #lookLater(held: Held): void {
    held.endWait?.();
    held.endWait = undefined;
    const { watched, deleted } = held.folder;
    if (watched && !deleted) held.endWait = this.#parts.clock.after(failedLookMs, () => this.#look(held));
  }

  /** Looked for once a day. */
  async #sweepTmp(folder: Folder): Promise<void> {
    const now = this.#parts.clock.now();
    if (now - (this.#swept.get(folder.directory) ?? 0) < sweepEveryMs) return;
    this.#swept.set(folder.directory, now);
    await sweepTmp(this.#parts, folder.path);
  }

  /** Runs `remove` while nobody works on the folder; its sessions are told that it is gone. */
  async removing(directory: string, remove: () => Promise<void>): Promise<void> {
    const held = this.#held.get(directory);
    if (!held) return remove();
    await held.folder.inTurn(remove);
    this.#held.delete(directory);
    this.#stopWatch(held);
    held.files.clear();
    held.folder.markDeleted();
  }

  /** Runs `move` while nobody works on the folder; its sessions go along. */
  async moving(from: string, name: string, move: () => void): Promise<void> {
    const held = this.#held.get(from);
    if (!held) return move();
    await held.folder.inTurn(async () => {
      move();
      const directory = directoryOf(name);
      this.#held.delete(from);
      this.#held.set(directory, held);
      held.folder.moveTo(this.#root, name, directory);
      if (!held.endWatch) return;
      this.#stopWatch(held);
      this.#watch(held);
    });
  }

  close(): void {
    for (const held of [...this.#held.values()]) {
      held.folder.readers = 0;
      this.#letGo(held);
    }
  }
}
