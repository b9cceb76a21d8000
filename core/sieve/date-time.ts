// Date and time of RFC 5322 §3.3 (with the obsolete forms of §4.3), and the parts that RFC 5260 §4.2 takes out of it.

export interface DateTime {
  /** Since the epoch. */
  readonly ms: number;
  /** East of UTC. */
  readonly zoneMinutes: number;
}

const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const namedZones: Readonly<Record<string, number>> = {
  ...{
    ut: 0,
    gmt: 0,
    utc: 0,
    z: 0,
    est: -300,
    edt: -240,
    cst: -360,
    cdt: -300,
    mst: -420,
    mdt: -360,
    pst: -480,
    pdt: -420,
  },
};

/** `+0130` in minutes; undefined for any other form. */
export function parseZone(text: string): number | undefined {
  const found = /^([+-])([0-9]{2})([0-9]{2})$/.exec(text);
  if (!found || Number(found[3]) > 59) return undefined;
  const minutes = Number(found[2]) * 60 + Number(found[3]);
  return found[1] === '-' ? -minutes : minutes;
}

const form =
  /^(?:[a-z]{3,9}\s*,?\s*)?([0-9]{1,2})\s+([a-z]{3})[a-z]*\s+([0-9]{2,4})\s+([0-9]{1,2})\s*:\s*([0-9]{2})(?:\s*:\s*([0-9]{2}))?(?:\s+([+-][0-9]{4}|[a-z]{1,5}))?\s*$/i;

/** Undefined for what is no date, or a day that the calendar does not have. */
export function parseDateTime(text: string): DateTime | undefined {
  const found = form.exec(withoutComments(text).trim());
  if (!found) return undefined;
  const [, day = '', monthName = '', yearText = '', hour = '', minute = '', second = '0', zoneText = '+0000'] = found;
  const month = months.indexOf(monthName.toLowerCase());
  const year = fullYear(yearText);
  // RFC 5322 §4.3: unknown names of zones are -0000.
  const zoneMinutes = /^[+-]/.test(zoneText) ? parseZone(zoneText) : (namedZones[zoneText.toLowerCase()] ?? 0);
  // RFC 5322 §3.3: 1900 or later
  if (month === -1 || zoneMinutes === undefined || year < 1900) return undefined;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return undefined;
  const at = new Date(0);
  at.setUTCFullYear(year, month, Number(day));
  if (at.getUTCMonth() !== month || at.getUTCDate() !== Number(day)) return undefined;
  at.setUTCHours(Number(hour), Number(minute), Math.min(Number(second), 59));
  return { ms: at.getTime() - zoneMinutes * 60_000, zoneMinutes };
}

function fullYear(text: string): number {
  const year = Number(text);
  if (text.length === 2) return year < 50 ? 2000 + year : 1900 + year;
  return text.length === 3 ? 1900 + year : year;
}

function withoutComments(text: string): string {
  if (!text.includes('(')) return text;
  let depth = 0;
  let out = '';
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at] as string;
    if (char === '\\' && depth > 0) at += 1;
    else if (char === '(') depth += 1;
    else if (char === ')' && depth > 0) {
      depth -= 1;
      out += ' ';
    } else if (depth === 0) out += char;
  }
  return out;
}

const pad = (value: number, width = 2): string => String(value).padStart(width, '0');

export function formatZone(minutes: number): string {
  const size = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${pad(Math.floor(size / 60))}${pad(size % 60)}`;
}

const parts: Readonly<Record<string, (local: Date, zoneMinutes: number) => string>> = {
  year: at => pad(at.getUTCFullYear(), 4),
  month: at => pad(at.getUTCMonth() + 1),
  day: at => pad(at.getUTCDate()),
  date: at => at.toISOString().slice(0, 10),
  // RFC 5260 appendix A: days since 17 November 1858, which is 40587 days before the epoch
  julian: at => String(Math.floor(at.getTime() / 86_400_000) + 40_587),
  hour: at => pad(at.getUTCHours()),
  minute: at => pad(at.getUTCMinutes()),
  second: at => pad(at.getUTCSeconds()),
  time: at => at.toISOString().slice(11, 19),
  iso8601: (at, zone) => at.toISOString().slice(0, 19) + (zone === 0 ? 'Z' : formatZone(zone).replace(/(..)$/, ':$1')),
  std11: (at, zone) =>
    `${days[at.getUTCDay()]}, ${pad(at.getUTCDate())} ${capital(months[at.getUTCMonth()] ?? '')} ${pad(at.getUTCFullYear(), 4)} ${at.toISOString().slice(11, 19)} ${formatZone(zone)}`,
  zone: (_, zone) => formatZone(zone),
  weekday: at => String(at.getUTCDay()),
};

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

export const isDatePart = (name: string): boolean => Object.hasOwn(parts, name.toLowerCase());

/** Empty for an unknown part. */
export function datePart(name: string, when: DateTime): string {
  return parts[name.toLowerCase()]?.(new Date(when.ms + when.zoneMinutes * 60_000), when.zoneMinutes) ?? '';
}

/** For a Date field. */
export const formatDateTime = (when: DateTime): string => datePart('std11', when);
