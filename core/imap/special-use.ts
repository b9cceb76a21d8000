import type { SpecialUse } from '../mailstore/mailbox.ts';

const names = [
  '\\All',
  '\\Archive',
  '\\Drafts',
  '\\Flagged',
  '\\Junk',
  '\\Sent',
  '\\Trash',
  '\\Important',
] as const satisfies readonly SpecialUse[];

/** By lower-case name (RFC 6154 §2, RFC 8457 §3). */
export const specialUses: ReadonlyMap<string, SpecialUse> = new Map(names.map(name => [name.toLowerCase(), name]));
