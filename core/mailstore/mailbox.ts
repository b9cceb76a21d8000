// The mail store as its readers see it: IMAP, POP3, the rules and the delivery. `maildir-store.ts` implements it.
// The Maildir is the truth; other programs may change it at any time, so everything here may find a message gone.
import type { Readable } from 'node:stream';
import type { Message } from '../mail/message.ts';
import type { Rope } from '../mail/rope.ts';

declare const uidBrand: unique symbol;
/** RFC 3501 §2.3.1.1. Never mixed with a sequence number. */
export type Uid = number & { readonly [uidBrand]: 'uid' };

/** Bits of `MessageRecord.flags`; \Recent is per session and not stored (RFC 3501 §2.3.2). */
export const flagBits = { '\\Seen': 1, '\\Answered': 2, '\\Flagged': 4, '\\Deleted': 8, '\\Draft': 16 } as const;

/** One message as the index knows it. A record is a value: a change makes a new one with a higher modseq. */
export interface MessageRecord {
  readonly uid: Uid;
  readonly flags: number;
  /** Keywords as first spelt in this mailbox (compared case-insensitively), in no special order. */
  readonly keywords: readonly string[];
  /** RFC822.SIZE: bytes with CRLF line ends. */
  readonly size: number;
  /** INTERNALDATE, ms since the epoch. */
  readonly internalDate: number;
  /** RFC 7162. */
  readonly modseq: number;
}

export interface FlagChange {
  readonly mode: 'add' | 'remove' | 'replace';
  readonly flags: number;
  readonly keywords: readonly string[];
}

export interface MailboxStatus {
  readonly messages: number;
  readonly unseen: number;
  readonly recent: number;
  readonly uidNext: Uid;
  readonly uidValidity: number;
  readonly highestModseq: number;
  /** Sum of sizes, bytes (RFC 8438). */
  readonly size: number;
}

/** Of `Mailbox.records`, which ascend by UID. */
export function findRecord(records: readonly MessageRecord[], uid: number): MessageRecord | undefined {
  let low = 0;
  let high = records.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((records[middle]?.uid ?? 0) < uid) low = middle + 1;
    else high = middle;
  }
  return records[low]?.uid === uid ? records[low] : undefined;
}

/**
 * MAILBOXID (RFC 8474 §4): a UIDVALIDITY is given out once per account, stays when a mailbox is renamed, and changes when
 * the mailbox is no longer the same.
 */
export const mailboxId = (uidValidity: number): string => `F${uidValidity}`;

export interface AppendOptions {
  readonly flags?: number;
  readonly keywords?: readonly string[];
  readonly internalDate?: number;
}

/** What changed in a mailbox after a modseq. */
export interface Changes {
  /** Records that are new or whose flags changed, ascending by UID. */
  readonly changed: readonly MessageRecord[];
  /** Ascending. Where the index no longer knows (rebuilt, pruned): every UID below UIDNEXT that is not in use (RFC 7162 §3.2.7). */
  readonly vanished: readonly Uid[];
  readonly highestModseq: number;
}

/**
 * An open mailbox, shared by all sessions of this process that selected it; each `open` is matched by one `close`.
 * Reading methods work on the state of the last `sync`; only `sync` looks at the disk for changes of other programs.
 */
export interface Mailbox {
  readonly name: string;
  /** Opened for EXAMINE: changes throw `cannot`, \Recent is shown but not claimed. */
  readonly readOnly: boolean;
  /** True once the mailbox was deleted while open: reading methods keep the last view, everything else throws `nonexistent`. */
  readonly deleted: boolean;
  /** Keywords known in this mailbox, for FLAGS and PERMANENTFLAGS. */
  readonly keywords: readonly string[];
  /** False when no further keyword fits (Maildir has 26 letters): then `\*` is not offered, and a new one throws `limit`. */
  readonly keywordsOpen: boolean;
  readonly uidValidity: number;
  readonly uidNext: Uid;
  readonly highestModseq: number;
  /** Ascending by UID. The array is replaced, never changed in place: a session may keep it as its view. */
  readonly records: readonly MessageRecord[];
  /**
   * UIDs that are \Recent for the caller: each is handed out once among all read-write sessions (RFC 3501 §2.3.2).
   * Call it after each `sync` whose news the session shows; it returns only what was not handed out before.
   */
  claimRecent(): readonly Uid[];
  /** Takes in what other programs and sessions did; cheap when nothing changed. */
  sync(): Promise<void>;
  changesSince(modseq: number): Changes;
  /**
   * Called after any change, of this process (also through this very handle) or, through the watch, of another, until
   * the returned function is called. What changed is already in `records`.
   */
  onChange(listener: () => void): () => void;
  /** The message's bytes with CRLF line ends, as a `Message`; undefined when another program removed it. */
  message(uid: Uid): Promise<Message | undefined>;
  /**
   * Parsed once and kept in the index: what ENVELOPE and BODYSTRUCTURE need without opening the file again. The value
   * must survive JSON. Put a version into `key` when its shape changes.
   */
  cached<T>(uid: Uid, key: string, compute: (message: Message) => Promise<T>): Promise<T | undefined>;
  /** Atomic per message; `unchangedSince` as in RFC 7162 §3.1.3: those that fail it are returned in `modified`. */
  store(
    uids: readonly Uid[],
    change: FlagChange,
    unchangedSince?: number,
  ): Promise<{ readonly modified: readonly Uid[] }>;
  append(source: Rope | Readable, size: number, options: AppendOptions): Promise<Uid>;
  /** Into another mailbox of the same user, all or none; UIDs of the copies in the order given, with missing sources left out of both lists. */
  copy(uids: readonly Uid[], to: Mailbox): Promise<{ readonly from: readonly Uid[]; readonly to: readonly Uid[] }>;
  move(uids: readonly Uid[], to: Mailbox): Promise<{ readonly from: readonly Uid[]; readonly to: readonly Uid[] }>;
  /** Removes those of `uids` (default: all) that have \Deleted. */
  expunge(uids?: readonly Uid[]): Promise<readonly Uid[]>;
  close(): Promise<void>;
}

/** RFC 6154 §2, RFC 8457 §3. */
export const specialUses = [
  '\\All',
  '\\Archive',
  '\\Drafts',
  '\\Flagged',
  '\\Junk',
  '\\Sent',
  '\\Trash',
  '\\Important',
] as const;
export type SpecialUse = (typeof specialUses)[number];

export interface MailboxInfo {
  /** Unicode, hierarchy delimiter `/`; `INBOX` always spelt so. */
  readonly name: string;
  /** False for a name that only has children (\NonExistent, \Noselect). */
  readonly selectable: boolean;
  readonly hasChildren: boolean;
  readonly subscribed: boolean;
  readonly specialUse: readonly SpecialUse[];
}

/** Why a mailbox operation was refused; protocol layers turn `code` into their response codes (RFC 5530). */
export class MailboxError extends Error {
  override readonly name = 'MailboxError';
  readonly code:
    | 'nonexistent'
    | 'alreadyexists'
    | 'cannot'
    | 'overquota'
    | 'inuse'
    | 'expunged'
    | 'limit'
    | 'unavailable';
  constructor(code: MailboxError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface Quota {
  readonly usedBytes: number;
  readonly usedMessages: number;
  readonly limitBytes?: number;
}

/** All mailboxes of one user. Shared within the process; each `user()` is matched by one `release()`. */
export interface UserMail {
  list(): Promise<readonly MailboxInfo[]>;
  /** Subscribed names, also of mailboxes that no longer exist (RFC 3501 §6.3.9). */
  subscriptions(): Promise<readonly string[]>;
  open(name: string, options?: { readonly readOnly?: boolean }): Promise<Mailbox>;
  /** Creates missing parents (RFC 3501 §6.3.3). */
  create(name: string, options?: { readonly specialUse?: readonly SpecialUse[] }): Promise<void>;
  delete(name: string): Promise<void>;
  /** Children move along; renaming INBOX moves its messages (RFC 3501 §6.3.5). */
  rename(from: string, to: string): Promise<void>;
  subscribe(name: string, on: boolean): Promise<void>;
  /** Without opening it for a session; cheap when the index is current. */
  status(name: string): Promise<MailboxStatus>;
  quota(): Promise<Quota>;
  release(): void;
}

export interface DeliveryTarget {
  /** Account name as in `Directory`. */
  readonly user: string;
  /** Unicode name; default INBOX. */
  readonly mailbox?: string;
  /** Make a missing mailbox; otherwise the result is `nomailbox`. The user's Maildir itself is always made. */
  readonly create?: boolean;
  /** Limit of the account; absent = what `user()` was last told, or none. */
  readonly quotaBytes?: number;
  readonly flags?: number;
  readonly keywords?: readonly string[];
}

export type DeliveryResult =
  | { readonly kind: 'stored' }
  | { readonly kind: 'overquota'; readonly why: string }
  /** Disk full, permission, I/O: try later. `full` tells ENOSPC and EDQUOT apart for 452. */
  | { readonly kind: 'tempfail'; readonly full: boolean; readonly why: string }
  | { readonly kind: 'nomailbox'; readonly why: string };

export interface MailStore {
  user(name: string, options?: { readonly quotaBytes?: number }): Promise<UserMail>;
  /**
   * Stores one final form for several targets: written once, hard-linked where the file system allows, every file and
   * directory synced before it resolves. One result per target, in order; a target that fails leaves nothing behind.
   */
  deliver(form: Rope, targets: readonly DeliveryTarget[]): Promise<readonly DeliveryResult[]>;
  close(): Promise<void>;
}
