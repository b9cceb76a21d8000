// FETCH (RFC 3501 §6.4.5). Messages are answered one after the other, each whole: what an answer needs is found, and the
// files it reads are open, before its first byte is written, since a literal's size cannot be taken back. Bodies go out
// in chunks no faster than the client reads.

import { inMemory, type Rope, ropeChunks } from '../../mail/rope.ts';
import { flagBits, type MessageRecord } from '../../mailstore/mailbox.ts';
import { command, type Selected } from '../command.ts';
import { decodeSection } from '../decoded-section.ts';
import { type FetchItem, parseFetchItems } from '../fetch-items.ts';
import { encodeFlags } from '../flags.ts';
import { ClientGone } from '../input.ts';
import { MessageReader } from '../message-reader.ts';
import { bad, type Ending, no, ok } from '../response.ts';
import { writeVanishedEarlier } from '../resync.ts';
import { watchFlags } from '../rule-events.ts';
import { cutPartial, findSection, type SectionSource } from '../section.ts';
import { encodeDateTime, encodeSection } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import type { Seq, SequenceSet } from '../wire/types.ts';
import { WireError } from '../wire/wire-error.ts';

export const fetch = fetchCommand('FETCH', false);
export const uidFetch = fetchCommand('UID FETCH', true);

interface FetchArguments {
  readonly set: SequenceSet;
  readonly items: readonly FetchItem[];
  readonly changedSince: number | undefined;
  readonly vanished: boolean;
}

function fetchCommand(name: string, byUid: boolean) {
  return command({
    name,
    state: 'selected',
    updates: byUid ? 'all' : 'no-expunge',
    parse: lexer => parseFetch(lexer, byUid),
    run: (at, args) => runFetch(at, args, byUid),
  });
}

function parseFetch(lexer: Lexer, byUid: boolean): FetchArguments {
  lexer.sp();
  const set = lexer.sequenceSet();
  lexer.sp();
  const items = parseFetchItems(lexer);
  const modifiers = parseModifiers(lexer);
  // RFC 7162 §3.2.6.
  if (modifiers.vanished && (!byUid || modifiers.changedSince === undefined))
    throw new WireError('VANISHED needs UID FETCH and CHANGEDSINCE');
  return { set, items, ...modifiers };
}

/** `(CHANGEDSINCE n VANISHED)`, RFC 7162 §3.1.4.1 and §3.2.6. */
function parseModifiers(lexer: Lexer): Pick<FetchArguments, 'changedSince' | 'vanished'> {
  let changedSince: number | undefined;
  let vanished = false;
  if (!lexer.trySp()) return { changedSince, vanished };
  lexer.list(() => {
    const modifier = lexer.keyword();
    if (modifier === 'VANISHED') vanished = true;
    else if (modifier === 'CHANGEDSINCE') {
      lexer.sp();
      changedSince = lexer.modseq();
    } else throw new WireError('Unknown fetch modifier');
  });
  return { changedSince, vanished };
}

/** Messages marked \Seen at once: many renames in one go, but never far ahead of what is answered. */
const batchSize = 200;

async function runFetch(at: Selected, args: FetchArguments, byUid: boolean): Promise<Ending> {
  const { view } = at;
  const { set, items, changedSince, vanished } = args;
  if (vanished && !at.enabled.has('QRESYNC')) return bad('Enable QRESYNC first');
  if (changedSince !== undefined || items.some(item => item.kind === 'modseq')) at.enable('CONDSTORE');
  const wanted = wantedItems(items, byUid, changedSince !== undefined);
  const marks = !view.readOnly && wanted.some(item => 'marks' in item && item.marks);
  const seqs = byUid ? view.byUid(set) : view.bySeq(set);
  const chosen = changedSince === undefined ? seqs : seqs.filter(seq => (view.at(seq)?.modseq ?? 0) > changedSince);
  const immediate = wanted.every(item => immediateKinds.has(item.kind));
  if (vanished && changedSince !== undefined) writeVanishedEarlier(at.out, view.mailbox, changedSince, set);
  let gone = false;
  const tellRules: (() => Promise<void>)[] = [];
  for (let from = 0; from < chosen.length; from += batchSize) {
    const batch = chosen.slice(from, from + batchSize);
    const marked = marks ? await markSeen(at, batch, tellRules) : nothingMarked;
    for (const seq of batch) {
      const record = view.at(seq);
      if (!record) continue;
      if (immediate) at.out.untagged(`${seq} FETCH (${wanted.map(item => encodeNow(at, record, item)).join(' ')})`);
      else if (!(await answer(at, seq, record, marked.has(record.uid) ? withFlags(wanted, view.tellsModseq) : wanted)))
        gone = true;
      if (at.out.behind) await at.out.pace();
    }
  }
  for (const tell of tellRules) await tell();
  // RFC 2180 §4.1.2: some bodies could not be told, since another session removed the messages.
  return gone && !byUid ? no('Some messages were expunged', 'EXPUNGEISSUED') : ok('Fetch completed');
}

/** What the index record alone says: no waiting, no files. */
const immediateKinds: ReadonlySet<string> = new Set(['flags', 'uid', 'internaldate', 'size', 'modseq', 'threadid']);

const nothingMarked: ReadonlySet<number> = new Set();

function wantedItems(items: readonly FetchItem[], byUid: boolean, changedSince: boolean): readonly FetchItem[] {
  const wanted = [...items];
  const add = (kind: 'uid' | 'modseq' | 'flags'): void => {
    if (!wanted.some(item => item.kind === kind)) wanted.unshift({ kind });
  };
  // RFC 7162 §3.1.4.1: CHANGEDSINCE implies MODSEQ.
  if (changedSince) add('modseq');
  // RFC 3501 §6.4.8.
  if (byUid) add('uid');
  return wanted;
}

/** RFC 7162 §3.2.4: changed flags come with UID and MODSEQ for who keeps up by them. */
function withFlags(items: readonly FetchItem[], modseq: boolean): readonly FetchItem[] {
  const needed = modseq ? (['uid', 'flags', 'modseq'] as const) : (['flags'] as const);
  const missing = needed.filter(kind => !items.some(item => item.kind === kind));
  return [...items, ...missing.map(kind => ({ kind }))];
}

/** RFC 3501 §6.4.5: \Seen is set, and where that changed the flags they are part of the answer. */
async function markSeen(
  at: Selected,
  seqs: readonly Seq[],
  tellRules: (() => Promise<void>)[],
): Promise<ReadonlySet<number>> {
  const { view } = at;
  const seen = flagBits['\\Seen'];
  const uids = seqs.flatMap(seq => {
    const record = view.at(seq);
    return record && (record.flags & seen) === 0 ? [record.uid] : [];
  });
  if (uids.length === 0) return nothingMarked;
  tellRules.push(await watchFlags(at, uids));
  await view.mailbox.store(uids, { mode: 'add', flags: seen, keywords: [] });
  view.tell(uids.flatMap(uid => view.current(uid) ?? []));
  return new Set(uids);
}

/** Text as it is, or the bytes of a section behind a label. */
type Part = string | Section;
interface Section {
  readonly label: string;
  readonly size: number;
  /** literal8 (RFC 3516 §4.3): the bytes hold NUL. */
  readonly binary: boolean;
  readonly chunks: Iterable<Buffer> | AsyncIterable<Buffer>;
}

/** False where the message is gone. */
async function answer(at: Selected, seq: Seq, record: MessageRecord, items: readonly FetchItem[]): Promise<boolean> {
  // A file may be renamed (its flags changed) between finding and opening it: then it is looked for once more.
  for (let last = false; ; last = true) {
    const parts = await gather(at, record, items);
    if (!parts) return false;
    let opened: readonly (string | OpenPart)[];
    try {
      opened = await openAll(parts);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      if (last) return false;
      continue;
    }
    await write(at, seq, opened);
    return true;
  }
}

async function gather(
  at: Selected,
  record: MessageRecord,
  items: readonly FetchItem[],
): Promise<readonly Part[] | undefined> {
  const reader = new MessageReader(at.view.mailbox, record.uid);
  const parts: Part[] = [];
  for (const item of items) {
    const part = encodeNow(at, record, item) ?? (await encodeLater(reader, item));
    if (part === undefined) return undefined;
    parts.push(part);
  }
  return parts;
}

/** Undefined where the record does not say it. */
function encodeNow({ view }: Selected, record: MessageRecord, item: FetchItem): string | undefined {
  switch (item.kind) {
    case 'flags':
      return `FLAGS ${encodeFlags(record, view.isRecent(record.uid))}`;
    case 'uid':
      return `UID ${record.uid}`;
    case 'internaldate':
      return `INTERNALDATE ${encodeDateTime(record.internalDate)}`;
    case 'size':
      return `RFC822.SIZE ${record.size}`;
    case 'modseq':
      return `MODSEQ (${record.modseq})`;
    case 'threadid':
      // RFC 8474 §5.2: threads are not kept here.
      return 'THREADID NIL';
    default:
      return undefined;
  }
}

async function encodeLater(reader: MessageReader, item: FetchItem): Promise<Part | undefined> {
  if (item.kind === 'envelope') {
    const envelope = await reader.envelope();
    return envelope && `ENVELOPE ${envelope}`;
  }
  if (item.kind === 'emailid') {
    const id = await reader.emailId();
    return id && `EMAILID (${id})`;
  }
  if (item.kind === 'body' || item.kind === 'bodystructure') {
    const structure = await reader.structure();
    return structure && (item.kind === 'body' ? `BODY ${structure.body}` : `BODYSTRUCTURE ${structure.bodyStructure}`);
  }
  const source = await reader.source();
  if (!source) return undefined;
  if (item.kind === 'binary' || item.kind === 'binarysize') return encodeBinary(source, item);
  if (item.kind !== 'section') return undefined;
  const rope = await findSection(source, item.section);
  const label = item.label === 'BODY' ? `BODY${encodeSection(item.section, item.partial)}` : item.label;
  return rope ? sectionOf(label, cutPartial(rope, item.partial)) : `${label} NIL`;
}

function sectionOf(label: string, rope: Rope): Section {
  return { label, size: rope.size, binary: false, chunks: inMemory(rope) ?? ropeChunks(rope) };
}

/** RFC 3516 §4.3. */
async function encodeBinary(
  source: SectionSource,
  { kind, part, partial }: Extract<FetchItem, { readonly kind: 'binary' | 'binarysize' }>,
): Promise<Part> {
  const decoded = await decodeSection(source, part, partial);
  const section = encodeSection({ part, of: 'all', fields: [] }, partial);
  if (kind === 'binarysize') return `BINARY.SIZE${section} ${decoded?.size ?? 0}`;
  return decoded ? { label: `BINARY${section}`, ...decoded } : `BINARY${section} NIL`;
}

interface OpenPart {
  readonly label: string;
  readonly size: number;
  readonly binary: boolean;
  readonly first: Buffer | undefined;
  readonly rest: AsyncIterator<Buffer> | Iterator<Buffer>;
}

/** Reads the first chunk of each, so that a file that is gone is noticed while nothing is promised yet. */
async function openAll(parts: readonly Part[]): Promise<readonly (string | OpenPart)[]> {
  const opened: (string | OpenPart)[] = [];
  try {
    for (const part of parts) {
      if (typeof part === 'string') {
        opened.push(part);
        continue;
      }
      const rest =
        Symbol.iterator in part.chunks ? part.chunks[Symbol.iterator]() : part.chunks[Symbol.asyncIterator]();
      const { value, done } = await rest.next();
      opened.push({ ...part, first: done ? undefined : value, rest });
    }
    return opened;
  } catch (error) {
    await closeAll(opened);
    throw error;
  }
}

async function closeAll(opened: readonly (string | OpenPart)[]): Promise<void> {
  for (const part of opened) if (typeof part !== 'string') await part.rest.return?.();
}

async function write({ out }: Selected, seq: Seq, opened: readonly (string | OpenPart)[]): Promise<void> {
  let lead = `* ${seq} FETCH (`;
  try {
    for (const part of opened) {
      if (typeof part === 'string') out.write(lead + part);
      else {
        out.write(`${lead}${part.label} ${part.binary ? '~' : ''}{${part.size}}\r\n`);
        await writeChunks(out, part);
      }
      lead = ' ';
    }
  } finally {
    await closeAll(opened);
  }
  out.write(')\r\n');
}

async function writeChunks(out: Selected['out'], { size, first, rest }: OpenPart): Promise<void> {
  let written = 0;
  try {
    for (let chunk = first; chunk; chunk = await following(rest)) {
      written += chunk.length;
      out.bytesOf(chunk);
      if (out.behind) await out.pace();
    }
  } catch (error) {
    // The client was promised more: only a closed connection says that it did not come.
    throw new ClientGone('Message could not be read to its end', { cause: error });
  }
  if (written !== size) throw new ClientGone('Message is shorter than announced');
}

async function following(rest: OpenPart['rest']): Promise<Buffer | undefined> {
  const { value, done } = await rest.next();
  return done ? undefined : value;
}
