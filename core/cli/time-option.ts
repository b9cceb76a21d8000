import { duration } from '../config/schema.ts';
import { UsageError } from './context.ts';

/** A point in time for options such as `--since`: `2d` (that long ago), or a date such as `2026-11-21` or `2026-11-21T08:00Z`. */
export function timeOption(option: string, text: string, now: number): number {
  const ago = duration().safeParse(text);
  if (ago.success) return now - ago.data;
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text.replace(' ', 'T')) : Number.NaN;
  if (Number.isNaN(at))
    throw new UsageError(
      `${option} is a time span such as '2h' or '7d', or a date such as '2026-11-21T08:00', not '${text}'`,
    );
  return at;
}

/** As tables show times: UTC, to the second. */
export const showTime = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
