import type { Uid } from '../../mailstore/mailbox.ts';
import { command, nothing, type Selected } from '../command.ts';
import { type Ending, ok } from '../response.ts';

/** RFC 3501 §6.4.3. */
export const expunge = command({
  name: 'EXPUNGE',
  state: 'selected',
  access: 'write',
  parse: nothing,
  async run(at) {
    return finish(at, await at.view.mailbox.expunge());
  },
});

/** RFC 4315 §2.1: only those named. */
export const uidExpunge = command({
  name: 'UID EXPUNGE',
  state: 'selected',
  access: 'write',
  parse(lexer) {
    lexer.sp();
    return lexer.sequenceSet();
  },
  async run(at, set) {
    const { view } = at;
    const uids = view.byUid(set).flatMap(seq => view.at(seq)?.uid ?? []);
    return finish(at, await view.mailbox.expunge(uids));
  },
});

/** RFC 7162 §3.2.7: a client that keeps up by mod-sequences is told the new one. */
function finish({ view }: Selected, gone: readonly Uid[]): Ending {
  const code =
    view.tellsVanished && gone.length > 0 ? (`HIGHESTMODSEQ ${view.mailbox.highestModseq}` as const) : undefined;
  return ok('Expunge completed', code);
}
