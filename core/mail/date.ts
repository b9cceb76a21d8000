// Dates of header fields: RFC 5322 §3.3, read with the obsolete forms of §4.3, written without them.

const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

const two = (value: number): string => String(value).padStart(2, '0');

/** `+0100` for 60. */
export function formatZone(offsetMinutes: number): string {
  const size = Math.abs(Math.trunc(offsetMinutes));
  return `${offsetMinutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}${two(size % 60)}`;
}

/** `Sat, 21 Nov 2026 06:48:01 +0000`; `ms` since the epoch, shown in the zone `offsetMinutes` east of Greenwich. */
export function formatDate(ms: number, offsetMinutes = 0): string {
  const at = new Date(ms + offsetMinutes * 60_000);
  const date = `${at.getUTCDate()} ${months[at.getUTCMonth()]} ${String(at.getUTCFullYear()).padStart(4, '0')}`;
  const time = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
  return `${days[at.getUTCDay()]}, ${date} ${time} ${formatZone(offsetMinutes)}`;
}

export interface MailDate {
  /** ms since the epoch. */
  readonly ms: number;
  /** Zone as written, minutes east of Greenwich; 0 where it tells nothing (`-0000`, military letters, none). */
  readonly offsetMinutes: number;
}

// RFC 5322 §4.3; military letters were defined with the wrong sign in RFC 822 and so mean nothing.
const zones: ReadonlyMap<string, number> = new Map([
  ['EST', -300],
  ['EDT', -240],
  ['CST', -360],
  ['CDT', -300],
  ['MST', -420],
  ['MDT', -360],
  ['PST', -480],
  ['PDT', -420],
]);

function zoneOffset(zone: string): number {
  const match = /^([+-])(\d\d):?(\d\d)$/.exec(zone);
  if (!match) return zones.get(zone.toUpperCase()) ?? 0;
  const minutes = Number(match[2]) * 60 + Number(match[3]);
  return match[1] === '-' ? 0 - minutes : minutes;
}

// RFC 5322 §4.3: two digits below 50 are 20xx; three digits count from 1900.
function fullYear(digits: string): number {
  const year = Number(digits);
  if (digits.length >= 4) return year;
  return digits.length === 2 && year < 50 ? year + 2000 : year + 1900;
}

/** Comments (RFC 5322 §3.2.2) taken out; they do not nest in dates that matter. */
const withoutComments = (text: string): string => text.replace(/\([^()]*\)/g, ' ');

const datePattern =
  /^\s*(?:[a-z]{2,9}\.?\s*,?\s*)?(\d{1,2})[\s-]+([a-z]{3})[a-z]*[\s-]+(\d{2,4})\s+(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2})(?:\.\d{1,9})?)?\s*([+-]\d\d:?\d\d|[a-z]{1,5})?/i;

/** Undefined where the text is no date or names none of the calendar. A leap second is the second after it. */
export function parseDate(text: string): MailDate | undefined {
  const match = datePattern.exec(withoutComments(text.slice(0, 200)));
  if (!match) return undefined;
  const [, day = '', monthName = '', year = '', hour = '', minute = '', second = '0', zone = ''] = match;
  const month = months.findIndex(name => name.toLowerCase() === monthName.toLowerCase());
  const offsetMinutes = zoneOffset(zone);
  if (month < 0 || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return undefined;
  const midnight = new Date(0);
  midnight.setUTCFullYear(fullYear(year), month, Number(day));
  if (midnight.getUTCMonth() !== month || Number(day) === 0 || Math.abs(offsetMinutes) > 24 * 60) return undefined;
  const seconds = (Number(hour) * 60 + Number(minute) - offsetMinutes) * 60 + Number(second);
  return { ms: midnight.getTime() + seconds * 1000, offsetMinutes };
}
