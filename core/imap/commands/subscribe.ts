import { command } from '../command.ts';
import { parseMailbox } from '../mailbox-name.ts';
import { ok } from '../response.ts';

/** RFC 3501 §6.3.6 and §6.3.7. */
export const subscribe = subscription('SUBSCRIBE', true);
export const unsubscribe = subscription('UNSUBSCRIBE', false);

function subscription(name: string, on: boolean) {
  return command({
    name,
    state: 'authenticated',
    parse(lexer) {
      lexer.sp();
      return parseMailbox(lexer);
    },
    async run(at, mailbox) {
      await at.mail.subscribe(mailbox, on);
      return ok(on ? 'Subscribe completed' : 'Unsubscribe completed');
    },
  });
}
