// Date and time of RFC 3339 §5.6: `2007-02-26T09:00:00-05:00`, milliseconds since the epoch; undefined for anything else.

const form = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/i;

export function parseRfc3339(text: string): number | undefined {
  const found = form.exec(text);
  if (!found || Number(found[3]) > 31 || Number(found[4]) > 23) return undefined;
  const ms = Date.parse(text.toUpperCase());
  return Number.isNaN(ms) ? undefined : ms;
}
