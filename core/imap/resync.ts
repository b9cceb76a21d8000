// QRESYNC (RFC 7162 §3.2): what happened in a mailbox since a client last looked, told in one go.
import type { Mailbox } from '../mailstore/mailbox.ts';
import { encodeFlags } from './flags.ts';
import { numberSpans, spansHold } from './number-spans.ts';
import type { Output } from './output.ts';
import type { View } from './view.ts';
import { encodeNumberSet } from './wire/encoder.ts';
import type { Lexer } from './wire/lexer.ts';
import type { SequenceSet } from './wire/types.ts';

/** The parameter of SELECT and EXAMINE. */
export interface Resync {
  readonly uidValidity: number;
  readonly modseq: number;
  readonly knownUids: SequenceSet | undefined;
  /** Sequence numbers and the UIDs they had. */
  readonly pairs: { readonly seqs: SequenceSet; readonly uids: SequenceSet } | undefined;
}

/** `(uidvalidity modseq [known-uids] [(seqs uids)])`, behind QRESYNC SP. */
export function parseResync(lexer: Lexer): Resync {
  lexer.char('(');
  const uidValidity = lexer.nzNumber();
  lexer.sp();
  const modseq = lexer.modseq();
  let knownUids: SequenceSet | undefined;
  let pairs: Resync['pairs'];
  while (lexer.tryChar(' ')) {
    if (lexer.tryChar('(')) {
      const seqs = lexer.sequenceSet();
      lexer.sp();
      pairs = { seqs, uids: lexer.sequenceSet() };
      lexer.char(')');
    } else knownUids = lexer.sequenceSet();
  }
  lexer.char(')');
  return { uidValidity, modseq, knownUids, pairs };
}

/** After the answers of SELECT. Silent where the client's UIDVALIDITY is another one (§3.2.5). */
export function writeResync(out: Output, view: View, resync: Resync): void {
  const { mailbox } = view;
  if (resync.uidValidity !== mailbox.uidValidity) return;
  writeVanishedEarlier(out, mailbox, resync.modseq, resync.knownUids, knownUpTo(view, resync.pairs));
  const known = resync.knownUids && numberSpans(resync.knownUids, mailbox.uidNext - 1);
  for (const { uid } of mailbox.changesSince(resync.modseq).changed) {
    const found = view.find(uid);
    if (!found || (known && !spansHold(known, uid))) continue;
    const { seq, record } = found;
    const flags = encodeFlags(record, view.isRecent(uid));
    out.untagged(`${seq} FETCH (UID ${uid} FLAGS ${flags} MODSEQ (${record.modseq}))`);
  }
}

/** RFC 7162 §3.2.10.1. Only UIDs of `among` (default: all) above `above`. */
export function writeVanishedEarlier(
  out: Output,
  mailbox: Mailbox,
  modseq: number,
  among: SequenceSet | undefined,
  above = 0,
): void {
  const spans = among && numberSpans(among, mailbox.uidNext - 1);
  const vanished = mailbox
    .changesSince(modseq)
    .vanished.filter(uid => uid > above && (!spans || spansHold(spans, uid)));
  if (vanished.length > 0) out.untagged(`VANISHED (EARLIER) ${encodeNumberSet(vanished)}`);
}

const maxPairs = 10_000;

/** §3.2.5.2: the largest UID that still has the number it had; up to there the client knows all that is gone. */
function knownUpTo(view: View, pairs: Resync['pairs']): number {
  if (!pairs) return 0;
  const uids = numbersOf(pairs.uids);
  let known = 0;
  for (const seq of numbersOf(pairs.seqs)) {
    const uid = uids.next().value;
    if (uid === undefined || view.records[seq - 1]?.uid !== uid) break;
    known = uid;
  }
  return known;
}

function* numbersOf(set: SequenceSet): Generator<number, undefined> {
  let left = maxPairs;
  for (const { first, last } of set)
    for (let number = first; number <= last && left > 0; number += 1) {
      left -= 1;
      yield number;
    }
}
