import { type Mailbox, MailboxError, type Uid } from '../../mailstore/mailbox.ts';
import { command, type Selected } from '../command.ts';
import { parseMailbox } from '../mailbox-name.ts';
import { type Ending, no, ok, Refusal, type ResponseCode } from '../response.ts';
import { tellArrived } from '../rule-events.ts';
import { encodeNumberSet } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import type { SequenceSet } from '../wire/types.ts';

/** RFC 3501 §6.4.7 with COPYUID of RFC 4315 §3. */
export const copy = copyCommand('COPY', false);
export const uidCopy = copyCommand('UID COPY', true);
/** RFC 6851. */
export const move = moveCommand('MOVE', false);
export const uidMove = moveCommand('UID MOVE', true);

interface CopyArguments {
  readonly set: SequenceSet;
  readonly to: string;
}

function parseCopy(lexer: Lexer): CopyArguments {
  lexer.sp();
  const set = lexer.sequenceSet();
  lexer.sp();
  return { set, to: parseMailbox(lexer) };
}

function copyCommand(name: string, byUid: boolean) {
  return command({
    name,
    state: 'selected',
    parse: parseCopy,
    async run(at, args) {
      const uids = named(at, args.set, byUid);
      if (uids.length === 0) return ok('Copy completed');
      const { code, complete } = await transfer(at, args.to, uids, (from, to) => from.copy(uids, to));
      return finish('Copy completed', code, complete || byUid);
    },
  });
}

function moveCommand(name: string, byUid: boolean) {
  return command({
    name,
    state: 'selected',
    access: 'write',
    parse: parseCopy,
    async run(at, args) {
      const uids = named(at, args.set, byUid);
      if (uids.length === 0) return ok('Move completed');
      const { code, complete } = await transfer(at, args.to, uids, (from, to) => from.move(uids, to));
      // RFC 6851 §4.3: COPYUID goes ahead of the EXPUNGEs, which follow as updates.
      if (code) at.out.untagged(`OK [${code}] Moved`);
      // RFC 6851 §4.4, RFC 7162 §3.2: as with EXPUNGE.
      const { view } = at;
      const modseq = view.tellsVanished && code ? (`HIGHESTMODSEQ ${view.mailbox.highestModseq}` as const) : undefined;
      return finish('Move completed', modseq, complete || byUid);
    },
  });
}

const named = ({ view }: Selected, set: SequenceSet, byUid: boolean): readonly Uid[] =>
  (byUid ? view.byUid(set) : view.bySeq(set)).flatMap(seq => view.at(seq)?.uid ?? []);

/** RFC 2180 §4.4: what another session removed meanwhile cannot be copied, and by sequence number that is a failure. */
function finish(text: string, code: ResponseCode | undefined, complete: boolean): Ending {
  return complete ? ok(text, code) : no('Some messages were expunged', 'EXPUNGEISSUED');
}

async function transfer(
  at: Selected,
  name: string,
  uids: readonly Uid[],
  work: (from: Mailbox, to: Mailbox) => Promise<{ readonly from: readonly Uid[]; readonly to: readonly Uid[] }>,
): Promise<{ readonly code: ResponseCode | undefined; readonly complete: boolean }> {
  return withTarget(at, name, async target => {
    const { from, to } = await work(at.view.mailbox, target);
    await tellArrived(at, 'COPY', target, to, at.view.mailbox.name);
    const code: ResponseCode | undefined =
      to.length > 0 ? `COPYUID ${target.uidValidity} ${encodeNumberSet(from)} ${encodeNumberSet(to)}` : undefined;
    return { code, complete: from.length === uids.length };
  });
}

/** RFC 3501 §6.4.7: a missing target is answered with TRYCREATE. */
export async function withTarget<T>(
  at: Pick<Selected, 'withMailbox'>,
  name: string,
  work: (mailbox: Mailbox) => Promise<T>,
): Promise<T> {
  let entered = false;
  try {
    return await at.withMailbox(name, mailbox => {
      entered = true;
      return work(mailbox);
    });
  } catch (error) {
    if (!entered && error instanceof MailboxError && error.code === 'nonexistent')
      throw new Refusal(no('Mailbox does not exist', 'TRYCREATE'));
    throw error;
  }
}
