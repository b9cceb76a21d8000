import type { UidlFormat } from './maildrop.ts';

/** What an administrator may choose. */
export interface Pop3Options {
  readonly uidl: UidlFormat;
  /** Set \Seen on retrieved messages, so that IMAP clients show them as read. */
  readonly markSeen: boolean;
  /**
   * `session`: a second session of the same user is refused with [IN-USE] (RFC 1939 §4). `none`: both go on, and a
   * message that one removes is gone for the other; a phone that lost its connection does not lock its owner out.
   */
  readonly lock: 'none' | 'session';
  /** What CAPA says under EXPIRE; nothing is removed by this server. Absent: NEVER. */
  readonly expireDays?: number;
  /** Seconds between two logins of a user; 0 = any. */
  readonly loginDelaySeconds: number;
}

export const defaultOptions: Pop3Options = { uidl: 'postern', markSeen: true, lock: 'none', loginDelaySeconds: 0 };
