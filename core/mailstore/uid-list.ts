// `dovecot-uidlist`, version 3: which base name has which UID. Header `3 V<uidvalidity> N<next uid> G<guid>`, then
// `<uid> <fields> :<base name>` ascending. Programs append a line per new message and rewrite the file by rename now and
// then, both under the dotlock. Lines of messages that are gone stay until a rewrite. UIDNEXT is the larger of N and
// last UID + 1. Shared by Dovecot and Postern, and the authority for UIDs: our index only repeats it.

export interface UidEntry {
  readonly uid: number;
  /** Fields between UID and name as they stand (`W123`, `P…`), or `''`. */
  readonly fields: string;
  readonly base: string;
}

export interface UidList {
  readonly uidValidity: number;
  readonly uidNext: number;
  /** What else the header holds (`G…`), to be written back. */
  readonly extra: string;
  readonly entries: readonly UidEntry[];
  /** The last line is whole, so that one may append. */
  readonly appendable: boolean;
}

const maxUid = 0xffff_ffff;

function readHeader(line: string): { uidValidity: number; uidNext: number; extra: string } | undefined {
  const [version, ...fields] = line.split(' ');
  if (version !== '3') return undefined;
  let uidValidity = 0;
  let uidNext = 1;
  const extra: string[] = [];
  for (const field of fields) {
    const value = Number(field.slice(1));
    if (field.startsWith('V')) uidValidity = value;
    else if (field.startsWith('N')) uidNext = value;
    else extra.push(field);
  }
  const valid = [uidValidity, uidNext].every(value => Number.isInteger(value) && value > 0 && value <= maxUid);
  return valid ? { uidValidity, uidNext, extra: extra.join(' ') } : undefined;
}

/** Old Courier and Dovecot lists: `1 <uidvalidity> <next uid>` and `<uid> <base name>`. */
function readOldHeader(line: string): { uidValidity: number; uidNext: number; extra: string } | undefined {
  const old = /^1 (\d{1,10}) (\d{1,10})$/.exec(line);
  return old ? { uidValidity: Number(old[1]), uidNext: Number(old[2]), extra: '' } : undefined;
}

function readEntry(line: string, isOld: boolean): UidEntry | undefined {
  const space = line.indexOf(' ');
  if (space < 1) return undefined;
  const uid = Number(line.slice(0, space));
  if (!Number.isInteger(uid) || uid < 1 || uid > maxUid) return undefined;
  if (isOld) return { uid, fields: '', base: cutTail(line.slice(space + 1)) };
  const colon = line.charCodeAt(space + 1) === 58 ? space + 1 : line.indexOf(' :', space) + 1;
  if (colon < 1) return undefined;
  return { uid, fields: line.slice(space + 1, colon).trim(), base: cutTail(line.slice(colon + 1)) };
}

function cutTail(name: string): string {
  const colon = name.indexOf(':');
  return colon < 0 ? name : name.slice(0, colon);
}

/**
 * Undefined where the file is no UID list. Damaged, repeated or descending lines are dropped, as their messages then get
 * new UIDs; a half-written last line is dropped too.
 */
export function parseUidList(text: string): UidList | undefined {
  const headerEnd = text.indexOf('\n');
  if (headerEnd < 0) return undefined;
  const firstLine = text.slice(0, headerEnd);
  const current = readHeader(firstLine);
  const header = current ?? readOldHeader(firstLine);
  if (!header) return undefined;
  const entries: UidEntry[] = [];
  let last = 0;
  let intact = current !== undefined;
  let at = headerEnd + 1;
  for (let end = text.indexOf('\n', at); end >= 0; at = end + 1, end = text.indexOf('\n', at)) {
    const entry = readEntry(text.slice(at, end), current === undefined);
    if (entry && entry.uid > last && entry.base !== '') {
      entries.push(entry);
      last = entry.uid;
    } else intact = false;
  }
  return {
    ...header,
    uidNext: Math.max(header.uidNext, last + 1),
    entries,
    appendable: intact && at === text.length,
  };
}

export const formatEntry = ({ uid, fields, base }: UidEntry): string =>
  `${uid} ${fields ? `${fields} ` : ''}:${base}\n`;

export function formatUidList(list: Omit<UidList, 'appendable'>): string {
  const header = `3 V${list.uidValidity} N${list.uidNext}${list.extra ? ` ${list.extra}` : ''}\n`;
  return header + list.entries.map(formatEntry).join('');
}
