// One session's hold on a folder: the `Mailbox` of the contract. All sessions of the process share the folder behind it.
import type { Readable } from 'node:stream';
import type { Message } from '../mail/message.ts';
import type { Rope } from '../mail/rope.ts';
import { appendMessage, copyMessages, moveMessages } from './add-messages.ts';
import { expungeMessages, lookAgain, storeFlags } from './change-messages.ts';
import type { Folder } from './folder.ts';
import { maxKeywords } from './keyword-file.ts';
import type { AppendOptions, Changes, FlagChange, Mailbox, MessageRecord, Uid } from './mailbox.ts';
import { MailboxError } from './mailbox.ts';
import type { MessageFiles } from './message-file.ts';
import { findUid } from './record-view.ts';
import type { StructureCache } from './structure-cache.ts';
import { syncFolder } from './sync-folder.ts';

/** What the user's store does for an open mailbox. */
export interface MailboxHost {
  readonly files: MessageFiles;
  readonly structures: StructureCache;
  /** Throws `overquota` where `bytes` more do not fit. */
  checkQuota(bytes: number): Promise<void>;
  noteUsage(bytes: number, messages: number): void;
  listen(listener: () => void): () => void;
  release(): void;
}

export class OpenMailbox implements Mailbox {
  readonly readOnly: boolean;
  readonly #folder: Folder;
  readonly #host: MailboxHost;
  readonly #listeners = new Set<() => void>();
  #closed = false;

  constructor(folder: Folder, host: MailboxHost, readOnly: boolean) {
    this.#folder = folder;
    this.#host = host;
    this.readOnly = readOnly;
  }

  get name(): string {
    return this.#folder.name;
  }
  get deleted(): boolean {
    return this.#folder.deleted;
  }
  get keywords(): readonly string[] {
    return this.#folder.keywordNames.filter(name => name !== undefined);
  }
  get keywordsOpen(): boolean {
    return this.#folder.keywordNames.length < maxKeywords;
  }
  get uidValidity(): number {
    return this.#folder.state.uidValidity;
  }
  get uidNext(): Uid {
    return this.#folder.state.uidNext as Uid;
  }
  get highestModseq(): number {
    return this.#folder.state.highestModseq;
  }
  get records(): readonly MessageRecord[] {
    return this.#folder.records;
  }

  claimRecent(): readonly Uid[] {
    return this.#folder.claimRecent(!this.readOnly);
  }

  sync(): Promise<void> {
    return this.#folder.alone(() => syncFolder(this.#folder, this.#folder.writers > 0), true);
  }

  changesSince(modseq: number): Changes {
    const { state, records, index } = this.#folder;
    const { highestModseq } = state;
    if (modseq >= highestModseq) return { changed: [], vanished: [], highestModseq };
    const changed = records.filter(record => record.modseq > modseq);
    const vanished =
      modseq < state.floorModseq
        ? unusedUids(records, state.uidNext)
        : index.vanishedSince(state.id, modseq).toSorted((a, b) => a - b);
    return { changed, vanished: vanished.map(uid => uid as Uid), highestModseq };
  }

  onChange(listener: () => void): () => void {
    const end = this.#host.listen(listener);
    this.#listeners.add(end);
    return () => {
      this.#listeners.delete(end);
      end();
    };
  }

  async message(uid: Uid): Promise<Message | undefined> {
    const row = this.#folder.peek(uid);
    const found = row && (await this.#host.files.open(uid, this.#folder.filePath(row), row.size));
    if (found) return found;
    if (findUid(this.records, uid) < 0) return undefined;
    return this.#folder.alone(async () => {
      await lookAgain(this.#folder);
      const again = this.#folder.peek(uid);
      return again && this.#host.files.open(uid, this.#folder.filePath(again), again.size);
    });
  }

  async cached<T>(uid: Uid, key: string, compute: (message: Message) => Promise<T>): Promise<T | undefined> {
    const text = this.#host.structures.get(uid, key);
    if (text !== undefined) return JSON.parse(text) as T;
    const message = await this.message(uid);
    if (!message) return undefined;
    const value = await compute(message);
    if (value !== undefined) this.#host.structures.put(uid, key, JSON.stringify(value));
    return value;
  }

  store(uids: readonly Uid[], change: FlagChange, unchangedSince?: number) {
    this.#mustWrite();
    return this.#folder.alone(() => storeFlags(this.#folder, uids, change, unchangedSince));
  }

  async append(source: Rope | Readable, size: number, options: AppendOptions): Promise<Uid> {
    await this.#host.checkQuota(size);
    const uid = await appendMessage(this.#folder, source, size, options);
    this.#host.noteUsage(size, 1);
    return uid;
  }

  async copy(uids: readonly Uid[], to: Mailbox) {
    const target = folderOf(to);
    const bytes = this.#sizeOf(uids);
    await this.#host.checkQuota(bytes);
    const copied = await copyMessages(this.#folder, target, uids);
    this.#host.noteUsage(this.#sizeOf(copied.from), copied.from.length);
    return copied;
  }

  move(uids: readonly Uid[], to: Mailbox) {
    this.#mustWrite();
    return moveMessages(this.#folder, folderOf(to), uids);
  }

  async expunge(uids?: readonly Uid[]): Promise<readonly Uid[]> {
    this.#mustWrite();
    const gone = await this.#folder.alone(() => expungeMessages(this.#folder, uids));
    if (gone.length > 0)
      this.#host.noteUsage(
        gone.reduce((sum, row) => sum - row.size, 0),
        -gone.length,
      );
    return gone.map(row => row.uid as Uid).toSorted((a, b) => a - b);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#listeners) end();
    this.#listeners.clear();
    await this.#folder.inTurn(async () => {
      this.#folder.readers--;
      if (!this.readOnly) this.#folder.writers--;
      this.#host.release();
    });
  }

  #mustWrite(): void {
    if (this.readOnly) throw new MailboxError('cannot', `Mailbox "${this.name}" is open for reading only`);
  }

  #sizeOf(uids: readonly Uid[]): number {
    return uids.reduce((sum, uid) => sum + (this.records[findUid(this.records, uid)]?.size ?? 0), 0);
  }

  /** Copy and move need the folder behind the other mailbox; both are of this file. */
  static folder(mailbox: OpenMailbox): Folder {
    return mailbox.#folder;
  }
}

function folderOf(mailbox: Mailbox): Folder {
  if (!(mailbox instanceof OpenMailbox)) throw new TypeError('Mailbox is not of this store');
  return OpenMailbox.folder(mailbox);
}

function unusedUids(records: readonly MessageRecord[], uidNext: number): number[] {
  const unused: number[] = [];
  let next = 1;
  for (const { uid } of records) {
    while (next < uid) unused.push(next++);
    next = uid + 1;
  }
  while (next < uidNext) unused.push(next++);
  return unused;
}
