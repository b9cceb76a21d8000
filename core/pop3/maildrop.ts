// A user's INBOX as POP3 sees it: numbered once at login, unchanged until the end (RFC 1939 §5). Marks of DELE live here
// and reach the mailbox only with `update`, that is with QUIT. Other programs may remove messages meanwhile: those keep
// their number and answer with an error.
import type { Message } from '../mail/message.ts';
import type { Mailbox, MessageRecord, UserMail } from '../mailstore/mailbox.ts';
import { flagBits } from '../mailstore/mailbox.ts';

/** `postern`: `uidvalidity.uid`. `dovecot`: that of its default `%08Xu%08Xv`, so that clients of a moved server download nothing again. */
export type UidlFormat = 'postern' | 'dovecot';

/** Users whose maildrop is open exclusively; shared by all POP3 servers of the process. */
export type MaildropLocks = Set<string>;

export interface MaildropOptions {
  readonly user: string;
  readonly mail: UserMail;
  readonly mailbox: Mailbox;
  readonly uidl: UidlFormat;
  /** Set \Seen on what was retrieved. */
  readonly markSeen: boolean;
  /** Ends the lock, where there is one. */
  unlock(): void;
}

const hex8 = (value: number): string => value.toString(16).padStart(8, '0');

export class Maildrop {
  readonly user: string;
  readonly #options: MaildropOptions;
  readonly #records: readonly MessageRecord[];
  readonly #deleted = new Set<number>();
  readonly #retrieved = new Set<number>();
  #closed = false;

  constructor(options: MaildropOptions) {
    this.user = options.user;
    this.#options = options;
    this.#records = options.mailbox.records;
  }

  /** Highest message number, deleted ones included. */
  get last(): number {
    return this.#records.length;
  }
  get retrieved(): number {
    return this.#retrieved.size;
  }
  get deleted(): number {
    return this.#deleted.size;
  }

  /** `number` counts from 1; false for a deleted one. */
  has(number: number): boolean {
    return number >= 1 && number <= this.#records.length && !this.#deleted.has(number);
  }

  /** Messages and octets without the deleted ones. */
  total(): { readonly count: number; readonly octets: number } {
    let octets = 0;
    this.#records.forEach((record, index) => {
      if (!this.#deleted.has(index + 1)) octets += record.size;
    });
    return { count: this.#records.length - this.#deleted.size, octets };
  }

  size(number: number): number {
    return this.#record(number).size;
  }

  uidl(number: number): string {
    const { uid } = this.#record(number);
    const { uidValidity } = this.#options.mailbox;
    return this.#options.uidl === 'dovecot' ? `${hex8(uid)}${hex8(uidValidity)}` : `${uidValidity}.${uid}`;
  }

  message(number: number): Promise<Message | undefined> {
    return this.#options.mailbox.message(this.#record(number).uid);
  }

  markRetrieved(number: number): void {
    this.#retrieved.add(number);
  }

  delete(number: number): void {
    this.#deleted.add(number);
  }

  /** RSET. */
  undelete(): void {
    this.#deleted.clear();
  }

  /** The UPDATE state: removes what is marked. Rejects where that failed; then nothing or some of it is removed. */
  async update(): Promise<void> {
    if (this.#deleted.size === 0) return;
    const uids = [...this.#deleted].sort((a, b) => a - b).map(number => this.#record(number).uid);
    const { mailbox } = this.#options;
    await mailbox.store(uids, { mode: 'add', flags: flagBits['\\Deleted'], keywords: [] });
    await mailbox.expunge(uids);
  }

  /** Without UPDATE; harmless when repeated. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#storeSeen();
    } finally {
      this.#options.unlock();
      await this.#options.mailbox.close();
      this.#options.mail.release();
    }
  }

  async #storeSeen(): Promise<void> {
    const seen = flagBits['\\Seen'];
    const uids = [...this.#retrieved]
      .sort((a, b) => a - b)
      .map(number => this.#record(number))
      .filter(record => (record.flags & seen) === 0)
      .map(record => record.uid);
    if (this.#options.markSeen && uids.length > 0)
      await this.#options.mailbox.store(uids, { mode: 'add', flags: seen, keywords: [] });
  }

  #record(number: number): MessageRecord {
    const record = this.#records[number - 1];
    if (record === undefined) throw new RangeError(`There is no message ${number}`);
    return record;
  }
}
