import { command } from '../command.ts';
import { encodeMailbox, parseMailbox } from '../mailbox-name.ts';
import { ok } from '../response.ts';
import { encodeStatus, parseStatusItems } from '../status-items.ts';

/** RFC 3501 §6.3.10. */
export const status = command({
  name: 'STATUS',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    const mailbox = parseMailbox(lexer);
    lexer.sp();
    return { mailbox, items: parseStatusItems(lexer) };
  },
  async run(at, { mailbox, items }) {
    // RFC 7162 §3.1: asking for HIGHESTMODSEQ enables CONDSTORE.
    if (items.includes('HIGHESTMODSEQ')) at.enable('CONDSTORE');
    const found = await at.mail.status(mailbox);
    at.out.untagged(`STATUS ${encodeMailbox(mailbox)} ${encodeStatus(found, items, at.service.limits)}`);
    return ok('Status completed');
  },
});
