// Message identifiers: RFC 5322 §3.6.4.

/** A Message-ID with its angle brackets. `unique` is a queue id or other text without special characters. */
export const formatMessageId = (unique: string, hostname: string): string => `<${unique}@${hostname}>`;

/** The identifiers of a Message-ID, In-Reply-To or References field, brackets included, at most `limit` of them. */
export function parseMessageIds(value: string, limit = 1000): readonly string[] {
  const ids: string[] = [];
  for (const match of value.matchAll(/<[^<>\s]{1,998}>/g)) {
    if (ids.length === limit) break;
    ids.push(match[0]);
  }
  return ids;
}
