// Ids of sessions and messages: 9 characters of time, then 8 of chance. They sort by time (to the millisecond), need no
// quoting in a URL, a file name, a header field or a log line, and never begin with `-` or `.`.
import { randomInt } from 'node:crypto';

// 32 digits in ASCII order, without I, L, O and U: ids are read aloud and typed. Case never tells two ids apart.
const digits = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const timeDigits = 9;
const randomDigits = 8;

/** Length of every id. */
export const randomIdLength: number = timeDigits + randomDigits;

/** Does `text` have the form of an id? For input from a command line or a URL, before it becomes part of a path. */
export const isRandomId = (text: string): boolean => /^[0-9A-HJKMNP-TV-Z]{17}$/.test(text);

/** An id for the time `nowMs` (ms since the epoch; good until the year 3084): 40 bits of it cannot be guessed. */
export function randomId(nowMs: number): string {
  let time = '';
  for (let rest = Math.floor(nowMs), at = 0; at < timeDigits; at++, rest = Math.floor(rest / 32))
    time = `${digits[rest % 32]}${time}`;
  // Unlike `randomBytes` this takes from a pool that Node fills some thousand bytes at a time.
  let chance = '';
  for (let rest = randomInt(32 ** randomDigits), at = 0; at < randomDigits; at++, rest = Math.floor(rest / 32))
    chance += digits[rest % 32];
  return time + chance;
}

/** ms since the epoch when the id was made. */
export function randomIdTime(id: string): number {
  let time = 0;
  for (const digit of id.slice(0, timeDigits)) time = time * 32 + digits.indexOf(digit);
  return time;
}
