import { command } from '../command.ts';
import { parseMailbox } from '../mailbox-name.ts';
import { no, ok } from '../response.ts';
import { metadataFollows } from './metadata.ts';

/** RFC 3501 §6.3.4. */
export const deleteMailbox = command({
  name: 'DELETE',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    return parseMailbox(lexer);
  },
  async run(at, name) {
    if (name === 'INBOX') return no('INBOX cannot be deleted', 'CANNOT');
    // A session that deletes what it has selected leaves it first.
    if (at.selected?.mailbox.name === name) await at.select(undefined);
    await at.mail.delete(name);
    await metadataFollows(at, name, undefined);
    return ok('Delete completed');
  },
});
