// What an error of the index means: a file to be thrown away, or a disk that cannot be written.
import { hasCode } from './disk.ts';

/** SQLITE_CORRUPT, SQLITE_NOTADB; SQLITE_IOERR_SHORT_READ, which is how a file cut short shows. */
const damageCodes = new Set([11, 26]);
const shortRead = 522;

/** True for what SQLite says of a damaged file, or one of another layout. */
export function isIndexDamage(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { readonly errcode?: unknown }).errcode;
  if (typeof code === 'number') return damageCodes.has(code & 0xff) || code === shortRead;
  return /malformed|not a database|no such (table|column)/i.test(error.message);
}

/** SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN. */
const unwritableCodes = new Set([8, 10, 13, 14]);

/** True for what SQLite says where the disk is full or refuses. */
export function isIndexUnwritable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { readonly errcode?: unknown }).errcode;
  return typeof code === 'number' && unwritableCodes.has(code & 0xff) && code !== shortRead;
}

/** The same from the call that makes the file. */
export const cannotMake = (error: unknown): boolean =>
  hasCode(error, 'EACCES', 'EDQUOT', 'EIO', 'EISDIR', 'ENOSPC', 'EPERM', 'EROFS');
