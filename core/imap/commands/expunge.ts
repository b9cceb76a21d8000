import { command, nothing } from '../command.ts';
import { ok } from '../response.ts';

/** RFC 3501 §6.4.3. */
export const expunge = command({
  name: 'EXPUNGE',
  state: 'selected',
  access: 'write',
  parse: nothing,
  async run(at) {
    await at.view.mailbox.expunge();
    return ok('Expunge completed');
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
    await view.mailbox.expunge(uids);
    return ok('Expunge completed');
  },
});
