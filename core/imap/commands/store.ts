import type { MessageRecord, Uid } from '../../mailstore/mailbox.ts';
import { command, type Selected } from '../command.ts';
import { applyChange, encodeFlags, type FlagSet, flagSet, parseFlagList } from '../flags.ts';
import { type Ending, no, ok } from '../response.ts';
import { watchFlags } from '../rule-events.ts';
import { encodeFlagsLine } from '../updates.ts';
import { sameKeywords } from '../view.ts';
import { encodeNumberSet } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import type { Seq, SequenceSet } from '../wire/types.ts';
import { WireError } from '../wire/wire-error.ts';

/** RFC 3501 §6.4.6; UNCHANGEDSINCE of RFC 7162 §3.1.3. */
export const store = storeCommand('STORE', false);
export const uidStore = storeCommand('UID STORE', true);

interface StoreArguments {
  readonly set: SequenceSet;
  readonly mode: 'add' | 'remove' | 'replace';
  readonly silent: boolean;
  readonly change: FlagSet;
  readonly unchangedSince: number | undefined;
}

function storeCommand(name: string, byUid: boolean) {
  return command({
    name,
    state: 'selected',
    access: 'write',
    updates: byUid ? 'all' : 'no-expunge',
    parse: parseStore,
    run: (at, args) => runStore(at, args, byUid),
  });
}

function parseStore(lexer: Lexer): StoreArguments {
  lexer.sp();
  const set = lexer.sequenceSet();
  lexer.sp();
  const unchangedSince = parseModifier(lexer);
  const mode = lexer.tryChar('+') ? 'add' : lexer.tryChar('-') ? 'remove' : 'replace';
  const item = lexer.attributeName();
  if (item !== 'FLAGS' && item !== 'FLAGS.SILENT') throw new WireError('Unknown data item for STORE');
  lexer.sp();
  return { set, mode, silent: item === 'FLAGS.SILENT', change: parseFlags(lexer), unchangedSince };
}

function parseModifier(lexer: Lexer): number | undefined {
  if (!lexer.tryChar('(')) return undefined;
  if (!lexer.tryKeyword('UNCHANGEDSINCE')) throw new WireError('Unknown store modifier');
  lexer.sp();
  const modseq = lexer.modseq();
  lexer.char(')');
  lexer.sp();
  return modseq;
}

/** flag-list, or flags without parentheses. */
function parseFlags(lexer: Lexer): FlagSet {
  if (lexer.peek() === '(') return parseFlagList(lexer);
  const words: string[] = [];
  do words.push(lexer.flag());
  while (lexer.trySp());
  return flagSet(words);
}

async function runStore(at: Selected, args: StoreArguments, byUid: boolean): Promise<Ending> {
  const { view } = at;
  const { set, mode, silent, change, unchangedSince } = args;
  if (unchangedSince !== undefined) at.enable('CONDSTORE');
  const seqs = byUid ? view.byUid(set) : view.bySeq(set);
  const before = seqs.flatMap(seq => view.at(seq) ?? []);
  const uids = before.map(record => record.uid);
  const tellRules = await watchFlags(at, uids);
  const { modified } = await view.mailbox.store(uids, { mode, ...change }, unchangedSince);
  const failed = new Set(modified);
  const gone = reportStored(at, { before, failed, byUid, args, silent });
  await tellRules();
  if (modified.length > 0) {
    const numbers = byUid ? modified : modified.flatMap(uid => view.find(uid)?.seq ?? []);
    const list = encodeNumberSet([...numbers].sort((a, b) => a - b));
    return ok('Conditional store failed for some messages', `MODIFIED ${list}`);
  }
  // RFC 2180 §4.2.1: flags of a message that another session removed.
  return gone && !byUid ? no('Some messages were expunged', 'EXPUNGEISSUED') : ok('Store completed');
}

interface Stored {
  readonly before: readonly MessageRecord[];
  readonly failed: ReadonlySet<Uid>;
  readonly byUid: boolean;
  readonly args: StoreArguments;
  readonly silent: boolean;
}

/**
 * FETCH for each message, unless the client wanted silence and the flags are what it must expect (RFC 3501 §6.4.6);
 * a changed mod-sequence is always told where the client asked for them (RFC 7162 §3.1.3). True where some are gone.
 */
function reportStored(at: Selected, { before, failed, byUid, args, silent }: Stored): boolean {
  const { view, out } = at;
  const told: MessageRecord[] = [];
  const lines: { readonly record: MessageRecord; readonly flags: boolean }[] = [];
  let gone = false;
  for (const old of before) {
    const record = view.current(old.uid);
    if (!record) {
      gone = true;
      continue;
    }
    if (failed.has(old.uid)) continue;
    told.push(record);
    const expected = applyChange(old, args.mode, args.change);
    const surprising = expected.flags !== record.flags || !sameKeywords(expected.keywords, record.keywords);
    if (!silent || surprising) lines.push({ record, flags: true });
    else if (view.tellsModseq && record.modseq !== old.modseq) lines.push({ record, flags: false });
  }
  view.tell(told);
  if (view.hasNewKeywords()) out.untagged(encodeFlagsLine(view));
  for (const { record, flags } of lines) {
    const seq = view.find(record.uid)?.seq as Seq;
    const words: string[] = [];
    // RFC 7162 §3.2.4.
    if (byUid || view.tellsModseq) words.push(`UID ${record.uid}`);
    if (flags) words.push(`FLAGS ${encodeFlags(record, view.isRecent(record.uid))}`);
    if (view.tellsModseq) words.push(`MODSEQ (${record.modseq})`);
    out.untagged(`${seq} FETCH (${words.join(' ')})`);
  }
  return gone;
}
