// What IMAP needs of the users' rules: scripts that commands start (RFC 6785) and scripts that a client asks for
// (draft-bosch-imap-filter-sieve-00).
import type { Account } from '../accounts/directory.ts';
import type { Mailbox, Uid, UserMail } from '../mailstore/mailbox.ts';

export interface RuleUser {
  readonly account: Account;
  readonly mail: UserMail;
}

export type EventCause = 'APPEND' | 'COPY' | 'FLAG';

/** Messages that a command made or changed. */
export interface MailboxEvent extends RuleUser {
  readonly cause: EventCause;
  /** Where the messages are now; open. */
  readonly mailbox: Mailbox;
  /** Where they were copied or moved from. */
  readonly from?: string;
  readonly messages: readonly {
    readonly uid: Uid;
    /** Of `FLAG`: names of those that are not as they were. */
    readonly changedFlags?: readonly string[];
  }[];
}

export type FilterSpec =
  /** What runs at delivery. */
  | { readonly kind: 'delivery' }
  | { readonly kind: 'personal' | 'global'; readonly name: string }
  | { readonly kind: 'script'; readonly source: Buffer };

export interface Filtered {
  /** Something that the user sees was done. */
  readonly changed: boolean;
  /** Sentences for the user; with errors the message is as it was. */
  readonly errors?: string;
  readonly warnings?: string;
}

export interface MailFilter {
  readonly warnings?: string;
  apply(mailbox: Mailbox, uid: Uid): Promise<Filtered>;
}

export interface StoredMailRules {
  /** ManageSieve server for IMAPSIEVE= (RFC 6785 §2.1); absent: users' scripts are not started by commands. */
  readonly sieveUrl?: string;
  /** Whether a client may ask for scripts. */
  readonly filter: boolean;
  /** Whether anything listens: asked before work is done to find out what changed. */
  listens(user: RuleUser, cause: EventCause, mailbox: Mailbox, from?: string): Promise<boolean>;
  /** Resolves when all scripts have run. Never rejects: the command has done its work. */
  event(event: MailboxEvent): Promise<void>;
  /** `errors`: the scripts cannot run; sentences for the user. */
  openFilter(user: RuleUser, spec: FilterSpec): Promise<MailFilter | { readonly errors: string }>;
}
