// The items of STATUS as a table, shared by STATUS and LIST … RETURN (STATUS …).
import { type MailboxStatus, mailboxId } from '../mailstore/mailbox.ts';
import type { ImapLimits } from './limits.ts';
import type { Lexer } from './wire/lexer.ts';
import { WireError } from './wire/wire-error.ts';

const items = {
  MESSAGES: (status: MailboxStatus) => status.messages,
  RECENT: (status: MailboxStatus) => status.recent,
  UIDNEXT: (status: MailboxStatus) => status.uidNext,
  UIDVALIDITY: (status: MailboxStatus) => status.uidValidity,
  UNSEEN: (status: MailboxStatus) => status.unseen,
  /** RFC 7162 §3.1.7. */
  HIGHESTMODSEQ: (status: MailboxStatus) => status.highestModseq,
  /** RFC 8474 §4.3. */
  MAILBOXID: (status: MailboxStatus) => `(${mailboxId(status.uidValidity)})`,
  /** RFC 8438 §3. */
  SIZE: (status: MailboxStatus) => status.size,
  /** RFC 7889 §3. */
  APPENDLIMIT: (_: MailboxStatus, limits: ImapLimits) => limits.appendBytes,
} as const;
export type StatusItem = keyof typeof items;

const isItem = (name: string): name is StatusItem => Object.hasOwn(items, name);

export function parseStatusItems(lexer: Lexer): readonly StatusItem[] {
  const names = lexer.list(() => {
    const name = lexer.keyword();
    if (!isItem(name)) throw new WireError('Unknown status item');
    return name;
  });
  if (names.length === 0) throw new WireError('Empty status item list');
  return [...new Set(names)];
}

export function encodeStatus(status: MailboxStatus, wanted: readonly StatusItem[], limits: ImapLimits): string {
  return `(${wanted.map(name => `${name} ${items[name](status, limits)}`).join(' ')})`;
}
