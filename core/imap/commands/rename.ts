import { command } from '../command.ts';
import { delimiter, parseMailbox } from '../mailbox-name.ts';
import { no, ok } from '../response.ts';
import { metadataFollows } from './metadata.ts';

/** RFC 3501 §6.3.5. */
export const rename = command({
  name: 'RENAME',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    const from = parseMailbox(lexer);
    lexer.sp();
    const to = parseMailbox(lexer);
    return { from, to: to.endsWith(delimiter) ? to.slice(0, -1) : to };
  },
  async run(at, { from, to }) {
    if (to === 'INBOX') return no('INBOX exists already', 'ALREADYEXISTS');
    await at.mail.rename(from, to);
    await metadataFollows(at, from, to);
    return ok('Rename completed');
  },
});
