import type { Command } from '../command.ts';
import { writeLines } from '../multiline.ts';

/** RFC 1939 §5 */
export const noop: Command = {
  name: 'NOOP',
  states: ['transaction'],
  run: at => at.ok('Nothing done'),
};

/** RFC 6856 §2.1. Messages are kept and sent as they came, in this mode and outside it. */
export const utf8: Command = {
  name: 'UTF8',
  states: ['authorization'],
  run(at, args) {
    if (args !== '') return at.err('UTF8 takes no argument');
    at.enableUtf8();
    at.ok('UTF-8 mode');
  },
};

/** RFC 6856 §3. There is one language. */
export const lang: Command = {
  name: 'LANG',
  states: ['authorization', 'transaction'],
  async run(at, args) {
    if (args === '') {
      at.ok('Language listing follows');
      return writeLines(at.lines, ['en English']);
    }
    if (/^(?:\*|en(?:-[A-Za-z0-9]+)*|i-default)$/i.test(args)) return at.ok('en Language is English');
    at.err('That language is not spoken here');
  },
};
