// What this client has been told about the selected mailbox: which message has which sequence number. The mailbox moves
// on without us; the view follows only when a command lets it, and then says how (RFC 3501 §7.4.1: EXPUNGE changes the
// numbers, so it is never sent while FETCH, STORE or SEARCH by sequence number runs, nor outside a command).
import { findRecord, type Mailbox, type MessageRecord, type Uid } from '../mailstore/mailbox.ts';
import { bad, Refusal } from './response.ts';
import { type Seq, type SequenceSet, star } from './wire/types.ts';

/** One thing to tell the client, in the order to tell it. */
export type Update =
  | { readonly kind: 'expunge'; readonly seq: Seq; readonly uid: Uid }
  | { readonly kind: 'exists'; readonly count: number }
  | { readonly kind: 'recent'; readonly count: number }
  | { readonly kind: 'keywords' }
  | { readonly kind: 'flags'; readonly seq: Seq; readonly record: MessageRecord };

export interface Numbered {
  readonly seq: Seq;
  readonly record: MessageRecord;
}

export class View {
  readonly mailbox: Mailbox;
  /** The client enabled CONDSTORE: a new MODSEQ alone is news (RFC 7162 §3.1.2). */
  tellsModseq = false;
  /** The client enabled QRESYNC: removals are told by UID (RFC 7162 §3.2.10). */
  tellsVanished = false;
  private told: readonly MessageRecord[];
  /** The mailbox's array that `told` was brought in line with. */
  private seen: readonly MessageRecord[];
  private readonly recentUids = new Set<Uid>();
  private toldRecent = 0;
  private toldKeywords: number;
  /** HIGHESTMODSEQ when the client last knew of all that had happened. */
  private completeModseq: number;

  constructor(mailbox: Mailbox) {
    this.mailbox = mailbox;
    this.told = mailbox.records;
    this.seen = mailbox.records;
    this.claim();
    this.toldRecent = this.recentCount();
    this.toldKeywords = mailbox.keywords.length;
    this.completeModseq = mailbox.highestModseq;
  }

  get count(): number {
    return this.told.length;
  }

  get records(): readonly MessageRecord[] {
    return this.told;
  }

  get readOnly(): boolean {
    return this.mailbox.readOnly;
  }

  /** Some messages are gone and the client was not told. */
  get holdsBack(): boolean {
    return this.told.length > this.seen.length;
  }

  /** The HIGHESTMODSEQ up to which the client knows everything once it heard the updates so far. */
  get safeModseq(): number {
    return this.completeModseq;
  }

  get recent(): number {
    return this.toldRecent;
  }

  isRecent(uid: Uid): boolean {
    return this.recentUids.has(uid);
  }

  /** Index of the first message without a flag, e.g. for [UNSEEN n]. */
  firstWithout(flag: number): Seq | undefined {
    const index = this.told.findIndex(record => (record.flags & flag) === 0);
    return index < 0 ? undefined : ((index + 1) as Seq);
  }

  at(seq: Seq): MessageRecord | undefined {
    return this.told[seq - 1];
  }

  /** Where `uid` is or would be. */
  private indexOf(uid: number): number {
    let low = 0;
    let high = this.told.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.told[middle]?.uid ?? 0) < uid) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  find(uid: Uid): Numbered | undefined {
    const index = this.indexOf(uid);
    const record = this.told[index];
    return record?.uid === uid ? { seq: (index + 1) as Seq, record } : undefined;
  }

  /** Messages named by a set of UIDs: those that do not exist are left out (RFC 3501 §6.4.8). Ascending, no repeats. */
  byUid(set: SequenceSet): readonly Seq[] {
    return this.collect(set, this.largestUid(), (low, high) => [this.indexOf(low), this.indexOf(high + 1)]);
  }

  /**
   * Messages named by a set of sequence numbers. A number that no message has is the client's mistake (RFC 3501 §9,
   * seq-number), but `*` and `1:*` in an empty mailbox name nothing: many clients send them after SELECT.
   */
  bySeq(set: SequenceSet): readonly Seq[] {
    const { length } = this.told;
    for (const { first, last } of set)
      if (first > length || last > length) {
        const open = length === 0 && (first === star || last === star) && Math.max(first, last) <= 1;
        if (!open) throw new Refusal(bad('Message sequence number out of range'));
      }
    return this.collect(set, length, (low, high) => [low - 1, high]);
  }

  /**
   * The messages that a set names, as UIDs from … to, ascending and apart: what a search compares with, without a list
   * of all of them. Numbers that no message has name nothing.
   */
  uidSpans(set: SequenceSet, byUid: boolean): readonly (readonly [Uid, Uid])[] {
    const { length } = this.told;
    const spans = byUid
      ? this.spans(set, this.largestUid(), (low, high) => [this.indexOf(low), this.indexOf(high + 1)])
      : this.spans(set, length, (low, high) => [low - 1, Math.min(high, length)]);
    return spans.flatMap(([from, to]): readonly (readonly [Uid, Uid])[] => {
      const first = this.told[from];
      const last = this.told[to - 1];
      return first && last ? [[first.uid, last.uid]] : [];
    });
  }

  private largestUid(): number {
    return this.told.at(-1)?.uid ?? Math.max(0, this.mailbox.uidNext - 1);
  }

  private collect(
    set: SequenceSet,
    largest: number,
    indexes: (low: number, high: number) => readonly [number, number],
  ): readonly Seq[] {
    const found: Seq[] = [];
    for (const [from, to] of this.spans(set, largest, indexes))
      for (let index = from; index < to; index += 1) found.push((index + 1) as Seq);
    return found;
  }

  /** Ranges of indexes, `to` exclusive, ascending, none empty and none overlapping. */
  private spans(
    set: SequenceSet,
    largest: number,
    indexes: (low: number, high: number) => readonly [number, number],
  ): readonly (readonly [from: number, to: number])[] {
    if (this.told.length === 0) return [];
    const named = set
      .map(({ first, last }) => {
        const a = first === star ? largest : first;
        const b = last === star ? largest : last;
        return indexes(Math.min(a, b), Math.max(a, b));
      })
      .sort((one, other) => one[0] - other[0]);
    const spans: [number, number][] = [];
    let next = 0;
    for (const [from, to] of named) {
      if (to <= Math.max(from, next)) continue;
      spans.push([Math.max(from, next), to]);
      next = to;
    }
    return spans;
  }

  /** Takes in new states that the client is told in another way: STORE, \Seen of FETCH. */
  tell(records: readonly MessageRecord[]): void {
    if (records.length === 0) return;
    const changed = this.told.slice();
    for (const record of records) {
      const index = this.indexOf(record.uid);
      if (changed[index]?.uid === record.uid) changed[index] = record;
    }
    this.told = changed;
  }

  /** True once for each time the mailbox got a new keyword: the client must hear of it before a message shows it. */
  hasNewKeywords(): boolean {
    const { length } = this.mailbox.keywords;
    if (length === this.toldKeywords) return false;
    this.toldKeywords = length;
    return true;
  }

  /** The record as the mailbox has it now, which may be newer than what the client was told. */
  current(uid: Uid): MessageRecord | undefined {
    return findRecord(this.mailbox.records, uid);
  }

  /** Brings the view in line with the mailbox and returns what to tell. Without `expunges`, gone messages stay in it. */
  advance(expunges: boolean): readonly Update[] {
    const now = this.mailbox.records;
    if (now === this.seen && (!expunges || this.told.length === now.length)) return [];
    const before = this.told;
    const merged = merge(before, now, expunges, this.tellsModseq ? differs : flagsDiffer);
    this.told = merged.gone === 0 ? now : merged.records;
    this.seen = now;
    if (!this.holdsBack) this.completeModseq = this.mailbox.highestModseq;
    return this.describe(merged);
  }

  private describe(merged: Merged): readonly Update[] {
    const updates: Update[] = [];
    for (const { seq, record } of merged.expunged) {
      updates.push({ kind: 'expunge', seq, uid: record.uid });
      this.recentUids.delete(record.uid);
    }
    if (merged.expunged.length > 0) this.toldRecent = this.recentCount();
    if (this.told.length > merged.old) {
      updates.push({ kind: 'exists', count: this.told.length });
      this.claim();
      const recent = this.recentCount();
      if (recent !== this.toldRecent) updates.push({ kind: 'recent', count: recent });
      this.toldRecent = recent;
    }
    if (this.hasNewKeywords()) updates.push({ kind: 'keywords' });
    for (const { seq, record } of merged.changed) updates.push({ kind: 'flags', seq, record });
    return updates;
  }

  private claim(): void {
    for (const uid of this.mailbox.claimRecent()) this.recentUids.add(uid);
  }

  private recentCount(): number {
    let count = 0;
    for (const uid of this.recentUids) if (this.find(uid)) count += 1;
    return count;
  }
}

interface Merged {
  readonly records: readonly MessageRecord[];
  /** Numbers as they are when each is sent: the ones before it are gone already. */
  readonly expunged: readonly Numbered[];
  readonly changed: readonly Numbered[];
  /** How many of `records` are not new. */
  readonly old: number;
  /** How many of `records` the mailbox no longer has. */
  readonly gone: number;
}

/** Both ascending by UID; new messages are all behind the old ones, since UIDs only grow (RFC 3501 §2.3.1.1). */
function merge(
  before: readonly MessageRecord[],
  now: readonly MessageRecord[],
  expunges: boolean,
  isNews: (a: MessageRecord, b: MessageRecord) => boolean,
): Merged {
  const records: MessageRecord[] = [];
  const expunged: Numbered[] = [];
  const changed: Numbered[] = [];
  let gone = 0;
  let next = 0;
  for (const record of before) {
    while ((now[next]?.uid ?? Infinity) < record.uid) next += 1;
    const current = now[next];
    if (current?.uid !== record.uid) {
      if (expunges) expunged.push({ seq: (records.length + 1) as Seq, record });
      else {
        records.push(record);
        gone += 1;
      }
      continue;
    }
    next += 1;
    records.push(current);
    if (current !== record && isNews(current, record)) changed.push({ seq: records.length as Seq, record: current });
  }
  const old = records.length;
  const last = before.at(-1)?.uid ?? 0;
  for (; next < now.length; next += 1) {
    const record = now[next];
    if (record && record.uid > last) records.push(record);
  }
  return { records, expunged, changed, old, gone };
}

const flagsDiffer = (a: MessageRecord, b: MessageRecord): boolean =>
  a.flags !== b.flags || !sameKeywords(a.keywords, b.keywords);
const differs = (a: MessageRecord, b: MessageRecord): boolean => a.modseq !== b.modseq || flagsDiffer(a, b);

export function sameKeywords(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  const lower = new Set(a.map(keyword => keyword.toLowerCase()));
  return b.every(keyword => lower.has(keyword.toLowerCase()));
}
