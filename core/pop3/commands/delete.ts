import { type Command, messageNumber, numbers } from '../command.ts';

/** RFC 1939 §5: a mark; the message goes with QUIT. */
export const dele: Command = {
  name: 'DELE',
  states: ['transaction'],
  run(at, args) {
    const [wanted] = numbers(args, 1) ?? [];
    if (wanted === undefined) return at.err('DELE needs a message number');
    const number = messageNumber(at, wanted);
    if (number === undefined) return;
    at.maildrop.delete(number);
    at.ok('Marked as deleted');
  },
};

/** RFC 1939 §5 */
export const rset: Command = {
  name: 'RSET',
  states: ['transaction'],
  run(at, args) {
    if (args !== '') return at.err('RSET takes no argument');
    at.maildrop.undelete();
    const { count, octets } = at.maildrop.total();
    at.ok(`${count} messages (${octets} octets)`);
  },
};

/** RFC 1939 §6: the UPDATE state. Only here are messages removed. */
export const quit: Command = {
  name: 'QUIT',
  states: ['authorization', 'transaction'],
  async run(at) {
    at.end();
    if (at.state === 'authorization') return at.ok('Bye');
    try {
      await at.maildrop.update();
    } catch (error) {
      at.log.error({ event: 'pop3-update', err: error }, 'messages could not be removed');
      return at.err('Some deleted messages were not removed', 'SYS/TEMP');
    }
    at.ok('Bye');
  },
};
