import { command } from '../command.ts';
import { ok } from '../response.ts';
import { encodeString } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import { WireError } from '../wire/wire-error.ts';

const maxPairs = 30;
const maxValueBytes = 1024;

/** RFC 2971. Who the client is goes to the session's log line; who we are is no more than a name. */
export const id = command({
  name: 'ID',
  state: 'any',
  parse(lexer) {
    lexer.sp();
    return lexer.tryKeyword('NIL') ? [] : parsePairs(lexer);
  },
  run(at, pairs) {
    const told = pairs.filter(([key]) => ['name', 'version', 'os', 'vendor'].includes(key));
    if (told.length > 0) at.note('client', Object.fromEntries(told));
    at.out.untagged(`ID (${['name', 'Postern'].map(encodeString).join(' ')})`);
    return ok('ID completed');
  },
});

function parsePairs(lexer: Lexer): readonly (readonly [string, string])[] {
  const words = lexer.list(() => lexer.nstring());
  if (words.length % 2 !== 0 || words.length > 2 * maxPairs) throw new WireError('Invalid ID parameters');
  const pairs: [string, string][] = [];
  for (let i = 0; i < words.length; i += 2) {
    const key = words[i]?.toString('utf8').toLowerCase();
    const value = words[i + 1]?.subarray(0, maxValueBytes).toString('utf8');
    if (key === undefined) throw new WireError('Invalid ID parameters');
    if (value !== undefined) pairs.push([key, value]);
  }
  return pairs;
}
