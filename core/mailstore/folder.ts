// One open folder of a user: its state in the index, its records in memory, and who wants to hear of changes. All that
// changes it (`sync-folder.ts`, `change-messages.ts`, `add-messages.ts`) runs inside `inTurn`, one at a time, and ends in
// `commit`. Invariants: the records agree with the index as of `state.highestModseq`; every commit raises it.
import path from 'node:path';
import { isIndexDamage, isIndexUnwritable } from './index-errors.ts';
import type { FileRow, FolderState } from './index-schema.ts';
import type { KeywordNames } from './keyword-file.ts';
import { addKeywords, letterOf, readKeywords } from './keyword-file.ts';
import type { MessageRecord, Uid } from './mailbox.ts';
import { MailboxError } from './mailbox.ts';
import { applyToRecords, createRecordMaker } from './record-view.ts';
import { addCounts, nextModseq, type RowChange, type StatePatch } from './row-change.ts';
import type { StoreParts } from './store-parts.ts';
import { createTurns } from './turns.ts';
import type { UserIndex } from './user-index.ts';

const loadRows = 5000;
const keptVanished = 50_000;
const minRecheckMs = 5000;

const pause = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

export class Folder {
  readonly parts: StoreParts;
  readonly index: UserIndex;
  readonly inTurn = createTurns();
  /** Name and place change when the folder is renamed. */
  name: string;
  directory: string;
  path: string;
  deleted = false;
  /** Sessions, and those of them that may write. */
  readers = 0;
  writers = 0;
  /** How long the last look at `cur/` took. */
  lastScanMs = 0;
  keywordNames: KeywordNames = [];
  #state: FolderState | undefined;
  #records: readonly MessageRecord[] | undefined;
  #maker = createRecordMaker([]);
  /** The records are of another index or of other keywords than now: read them again. */
  #stale = false;
  #shown: readonly MessageRecord[] | undefined;
  readonly #sync: (folder: Folder) => Promise<void>;
  readonly #listeners = new Set<() => void>();
  #told = true;

  constructor(
    parts: StoreParts,
    index: UserIndex,
    place: { readonly root: string; readonly name: string; readonly directory: string },
    sync: (folder: Folder) => Promise<void>,
  ) {
    const { root, name, directory } = place;
    this.#sync = sync;
    this.parts = parts;
    this.index = index;
    this.name = name;
    this.directory = directory;
    this.path = path.join(root, directory);
  }

  get state(): FolderState {
    if (!this.#state) throw new MailboxError('unavailable', `Mailbox "${this.name}" is not loaded`);
    return this.#state;
  }
  /** When a look is due that no stamp asks for; 0 for none. */
  get recheckAt(): number {
    return this.#state?.recheckAt ?? 0;
  }
  get records(): readonly MessageRecord[] {
    return this.#records ?? this.#shown ?? [];
  }
  get watched(): boolean {
    return this.#listeners.size > 0;
  }

  /**
   * Runs `work` alone, on a state that agrees with the index. An index that fails is replaced: a damaged one by an empty
   * one, one that cannot be written by one in memory. Work that may be done twice (`again`) is then begun anew; other
   * work fails as `unavailable`, and the next call finds an index rebuilt from the Maildir.
   */
  async alone<T>(work: () => Promise<T>, again = false): Promise<T> {
    return this.inTurn(async () => {
      if (this.deleted) throw new MailboxError('nonexistent', `Mailbox "${this.name}" was deleted`);
      try {
        return await this.#attempt(work);
      } catch (error) {
        if (!this.#replaceIndex(error)) throw asMailboxError(this.name, error);
        if (again) return this.#attempt(work);
        throw new MailboxError('unavailable', `Index of mailbox "${this.name}" failed`, { cause: error });
      }
    });
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      this.refresh();
    } catch (error) {
      if (!this.#replaceIndex(error)) throw error;
      this.refresh();
    }
    if (this.#stale) await this.#rebuild();
    return work();
  }

  #replaceIndex(error: unknown): boolean {
    if (isIndexDamage(error)) this.index.discard();
    else if (isIndexUnwritable(error)) this.index.goVolatile();
    else return false;
    this.#state = undefined;
    this.#stale = true;
    return true;
  }

  /** The index is another than the records came from. Sessions keep seeing the old records until the new ones are whole. */
  async #rebuild(): Promise<void> {
    this.#shown ??= this.#records;
    this.#records = undefined;
    await this.#sync(this);
    if (this.#shown) await this.#load();
    this.#stale = false;
    this.#shown = undefined;
  }

  /** The row of a message, outside `alone`; undefined also where the index cannot say just now. */
  peek(uid: number): FileRow | undefined {
    try {
      return this.index.row(this.state.id, uid);
    } catch (error) {
      if (isIndexDamage(error) || isIndexUnwritable(error)) return undefined;
      throw error;
    }
  }

  /** Reads the records into memory, in steps that let others run. Inside `alone`. */
  async load(): Promise<void> {
    if (!this.#records) await this.#load();
  }

  /** Frees the records once nobody has the mailbox open. */
  unload(): void {
    this.#records = undefined;
  }

  async #load(): Promise<void> {
    this.readKeywordNames();
    const records: MessageRecord[] = [];
    for (let after = 0; ; ) {
      const rows = this.index.narrowRows(this.state.id, after, loadRows);
      for (const row of rows) records.push(this.#maker.fromNarrow(row));
      if (rows.length < loadRows) break;
      after = rows.at(-1)?.[0] ?? after;
      await pause();
    }
    this.#records = records;
    this.refresh();
  }

  readKeywordNames(): void {
    const names = readKeywords(this.parts.disk, this.path);
    const known = this.keywordNames;
    if (known.some((name, letter) => name !== names[letter])) this.#stale = true;
    else if (names.length === known.length) return;
    this.keywordNames = names;
    this.#maker = createRecordMaker(names);
  }

  /** Letters for these keywords, new ones where needed. */
  async giveLetters(keywords: readonly string[]): Promise<void> {
    if (keywords.every(keyword => letterOf(this.keywordNames, keyword) >= 0)) return;
    this.readKeywordNames();
    if (keywords.every(keyword => letterOf(this.keywordNames, keyword) >= 0)) return;
    await addKeywords(this.parts, this.path, keywords);
    this.readKeywordNames();
  }

  /**
   * Takes in what another process wrote to the index. Whoever gives UIDs does so while holding the list's lock from
   * here to `commit`: else two processes could give one message two of them.
   */
  refresh(): void {
    const found = this.index.folder(this.directory) ?? this.#firstState();
    const known = this.#state;
    this.#state = found;
    if (!known || known.highestModseq === found.highestModseq) return;
    if (known.id !== found.id || known.uidValidity !== found.uidValidity) this.#stale = true;
    else this.#adopt(known.highestModseq);
    this.#tell();
  }

  #adopt(modseq: number): void {
    if (!this.#records) return;
    const rows = this.index.changedSince(this.state.id, modseq);
    const letters = rows.reduce((mask, row) => mask | row.keywords, 0);
    if (this.keywordNames.reduce((mask, name, at) => (name === undefined ? mask : mask & ~(1 << at)), letters) !== 0)
      this.readKeywordNames();
    const changed = rows.map(this.#maker.fromRow);
    const gone = new Set(this.index.vanishedSince(this.state.id, modseq));
    this.#records = applyToRecords(this.#records, changed, gone);
  }

  #firstState(): FolderState {
    const now = this.parts.clock.now();
    return this.index.transaction(
      () =>
        this.index.folder(this.directory) ??
        this.index.addFolder(this.directory, {
          uidValidity: this.index.nextNumber('uidValidity', Math.floor(now / 1000)),
          uidNext: 1,
          highestModseq: now,
          floorModseq: now,
          firstRecent: 0,
          newStamp: 0,
          curStamp: 0,
          listStamp: '',
          recheckAt: 0,
          staleLines: 0,
          messages: 0,
          unseen: 0,
          bytes: 0,
        }),
    );
  }

  /** The modseq that the changes of the next commit carry. */
  nextModseq(): number {
    return nextModseq(this.state.highestModseq, this.parts.clock.now());
  }

  /**
   * Writes changes to the index and to the records. Rows with modseq 0 get the next one: a client can see the change.
   * Without changes only the patch is saved.
   */
  commit(wanted: readonly RowChange[], patch: StatePatch = {}): void {
    const known = this.state.highestModseq;
    const done = this.index.transaction(() => this.#write(wanted, patch));
    this.#state = done.state;
    if (done.foreign) this.#adopt(known);
    else if (this.#records)
      this.#records = applyToRecords(this.#records, done.upserts.map(this.#maker.fromRow), new Set(done.removed));
    if (done.state.highestModseq !== known) this.#tell();
  }

  #write(wanted: readonly RowChange[], patch: StatePatch) {
    const current = this.index.folder(this.directory);
    if (current?.id !== this.state.id || current.uidValidity !== this.state.uidValidity)
      throw new MailboxError('unavailable', `Mailbox "${this.name}" was made anew by another process`);
    const foreign = current.highestModseq !== this.state.highestModseq;
    const changes = foreign ? wanted.flatMap(change => this.#asFound(current.id, change)) : wanted;
    const visible = changes.some(({ before, after }) => !after || after.modseq === 0 || before?.uid !== after.uid);
    const modseq = visible ? nextModseq(current.highestModseq, this.parts.clock.now()) : current.highestModseq;
    const upserts = changes.flatMap(({ after }) => (after ? [after.modseq === 0 ? { ...after, modseq } : after] : []));
    const removed = changes.flatMap(({ before, after }) => (before && before.uid !== after?.uid ? [before.uid] : []));
    this.index.apply(current.id, { upserts, removed, modseq });
    const floorModseq =
      (removed.length > 0 ? this.index.pruneVanished(current.id, keptVanished) : undefined) ?? current.floorModseq;
    const uidNext = Math.max(current.uidNext, patch.uidNext ?? 0);
    const state = { ...addCounts(current, changes), ...patch, uidNext, floorModseq, highestModseq: modseq };
    this.index.saveFolder(state);
    return { state, upserts, removed, foreign };
  }

  /** The same change as seen from what another process has made of the row meanwhile; none where it removed it. */
  #asFound(id: number, { before, after }: RowChange): readonly RowChange[] {
    const found = this.index.row(id, (before ?? after)?.uid ?? 0);
    if (before && !found) return [];
    return [{ ...(found && { before: found }), ...(after && { after }) }];
  }

  /** All messages are others now: a new UIDVALIDITY. The next scan fills the folder again. */
  restart(uidValidity: number): void {
    this.index.transaction(() => {
      this.index.clearMessages(this.state.id);
      const modseq = this.nextModseq();
      const empty = { messages: 0, unseen: 0, bytes: 0, uidNext: 1, firstRecent: 0, staleLines: 0 };
      const stamps = { newStamp: 0, curStamp: 0, listStamp: '', recheckAt: 0 };
      const next = { ...this.state, ...empty, ...stamps, uidValidity, highestModseq: modseq, floorModseq: modseq };
      this.index.saveFolder(next);
      this.#state = next;
    });
    if (this.#records) this.#records = [];
    this.#tell();
  }

  /** Marks everything up to now as no longer \Recent and returns what was. */
  claimRecent(claim: boolean): readonly Uid[] {
    const { firstRecent, uidNext } = this.state;
    if (firstRecent >= uidNext || firstRecent === 0) return [];
    const uids: Uid[] = [];
    for (let at = this.records.length - 1; at >= 0; at--) {
      const record = this.records[at];
      if (!record || record.uid < firstRecent) break;
      uids.push(record.uid);
    }
    if (claim) this.commit([], { firstRecent: uidNext });
    return uids.reverse();
  }

  /**
   * Runs changes of ours in `cur/` and keeps trusting its stamp: what another program does in the very same moments is
   * found by the look that is due some seconds later.
   */
  changingCur<T>(work: () => T): { readonly result: T; readonly patch: StatePatch } {
    const cur = path.join(this.path, 'cur');
    const trusted = this.state.curStamp !== 0 && this.parts.disk.stat(cur)?.mtimeMs === this.state.curStamp;
    const result = work();
    if (!trusted) return { result, patch: { curStamp: 0 } };
    const curStamp = this.parts.disk.stat(cur)?.mtimeMs ?? 0;
    const dueAt = this.parts.clock.now() + Math.max(minRecheckMs, 100 * this.lastScanMs);
    return { result, patch: { curStamp, recheckAt: this.state.recheckAt || Math.round(dueAt) } };
  }

  filePath(row: Pick<FileRow, 'base' | 'tail' | 'inNew'>): string {
    return path.join(this.path, row.inNew ? 'new' : 'cur', row.base + row.tail);
  }

  onChange(listener: () => void): () => void {
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Listeners run later, once for many changes. */
  #tell(): void {
    if (!this.#told) return;
    this.#told = false;
    setImmediate(() => {
      this.#told = true;
      for (const listener of [...this.#listeners]) listener();
    });
  }

  moveTo(root: string, name: string, directory: string): void {
    this.name = name;
    this.directory = directory;
    this.path = path.join(root, directory);
  }

  markDeleted(): void {
    this.deleted = true;
    this.#tell();
  }
}

/** What the file system says is of no use to a client, and may pass; a mistake of ours stays what it is. */
function asMailboxError(name: string, error: unknown): unknown {
  if (error instanceof MailboxError || !(error instanceof Error) || !('syscall' in error)) return error;
  return new MailboxError('unavailable', `Mailbox "${name}" failed: ${error.message}`, { cause: error });
}
