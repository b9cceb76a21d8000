import { type Command, messageNumber, numbers, type SessionView } from '../command.ts';
import { writeMessage } from '../multiline.ts';

/** A small message in one piece: a stream costs more than its bytes. */
const inOnePiece = 256 * 1024;

interface Opened {
  readonly size: number;
  readonly pieces: AsyncIterable<Buffer> | Iterable<Buffer>;
}

/** Answers where there is none: another program removed it, or it cannot be read. */
async function open(at: SessionView, number: number): Promise<Opened | undefined> {
  try {
    const message = await at.maildrop.message(number);
    if (message === undefined) {
      at.err('That message is gone', 'SYS/TEMP');
      return undefined;
    }
    const { size } = message;
    return { size, pieces: size <= inOnePiece ? [await message.bytes()] : message.open() };
  } catch (error) {
    at.log.error({ event: 'pop3-read', err: error }, 'message cannot be read');
    at.err('That message cannot be read now', 'SYS/TEMP');
    return undefined;
  }
}

/** RFC 1939 §5 */
export const retr: Command = {
  name: 'RETR',
  states: ['transaction'],
  async run(at, args) {
    const [wanted] = numbers(args, 1) ?? [];
    if (wanted === undefined) return at.err('RETR needs a message number');
    const number = messageNumber(at, wanted);
    const message = number === undefined ? undefined : await open(at, number);
    if (number === undefined || message === undefined) return;
    at.ok(`${message.size} octets`);
    await writeMessage(at.lines, message.pieces);
    at.maildrop.markRetrieved(number);
  },
};

/** RFC 1939 §7 */
export const top: Command = {
  name: 'TOP',
  states: ['transaction'],
  async run(at, args) {
    const [wanted, bodyLines] = numbers(args, 2) ?? [];
    if (wanted === undefined || bodyLines === undefined)
      return at.err('TOP needs a message number and a number of lines');
    const number = messageNumber(at, wanted);
    const message = number === undefined ? undefined : await open(at, number);
    if (message === undefined) return;
    at.ok('Top of the message follows');
    await writeMessage(at.lines, message.pieces, bodyLines);
  },
};
