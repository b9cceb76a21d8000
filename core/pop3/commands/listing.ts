import { type Command, messageNumber, numbers, type SessionView } from '../command.ts';
import { writeLines } from '../multiline.ts';

function* each(at: SessionView, show: (number: number) => string): Iterable<string> {
  for (let number = 1; number <= at.maildrop.last; number++)
    if (at.maildrop.has(number)) yield `${number} ${show(number)}`;
}

/** LIST and UIDL: of one message, or of all that are not deleted. */
const listing = (name: string, show: (at: SessionView, number: number) => string | number): Command => ({
  name,
  states: ['transaction'],
  async run(at, args) {
    if (args.trim() === '') {
      const { count, octets } = at.maildrop.total();
      at.ok(name === 'LIST' ? `${count} messages (${octets} octets)` : `${count} messages`);
      return writeLines(
        at.lines,
        each(at, number => String(show(at, number))),
      );
    }
    const [wanted] = numbers(args, 1) ?? [];
    if (wanted === undefined) return at.err(`${name} takes a message number or nothing`);
    const number = messageNumber(at, wanted);
    if (number !== undefined) at.ok(`${number} ${show(at, number)}`);
  },
});

/** RFC 1939 §5 */
export const list = listing('LIST', (at, number) => at.maildrop.size(number));
/** RFC 1939 §7 */
export const uidl = listing('UIDL', (at, number) => at.maildrop.uidl(number));

/** RFC 1939 §5 */
export const stat: Command = {
  name: 'STAT',
  states: ['transaction'],
  run(at, args) {
    if (args !== '') return at.err('STAT takes no argument');
    const { count, octets } = at.maildrop.total();
    at.ok(`${count} ${octets}`);
  },
};
