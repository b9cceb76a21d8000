// The ports through which a run and the carrying out of its result reach the world. The engine itself opens nothing.
// Every port may throw `HostError`; anything else that is thrown counts as a temporary failure.
import type { Rope } from '../mail/rope.ts';

/** Why a port could not do what was asked. `permanent`: trying again is useless. The message is for the script's owner. */
export class HostError extends Error {
  override readonly name = 'HostError';
  readonly kind: 'permanent' | 'temporary';
  constructor(kind: HostError['kind'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

/** Addresses as text, as they came: the null sender is `''`, an address need not be valid. */
export interface SieveEnvelope {
  readonly from: string;
  readonly to: string;
  /** The recipient before aliases were applied; default `to`. */
  readonly originalTo?: string;
  /** Who authenticated, for the `auth` part of some servers. */
  readonly auth?: string;
  /** RFC 6009 §2: ENVID, RET, NOTIFY, ORCPT (`rfc822;a@b`), BY= of RFC 2852 as absolute time (ms since epoch). */
  readonly envid?: string;
  readonly ret?: 'FULL' | 'HDRS';
  readonly notify?: readonly string[];
  readonly orcpt?: string;
  readonly deliverBy?: { readonly atMs: number; readonly mode: 'N' | 'R'; readonly trace: boolean };
}

export interface StoreRequest {
  /** Unicode, as the script names it; default mailbox `INBOX`. */
  readonly mailbox: string;
  readonly flags: readonly string[];
  /** Create it where it does not exist (RFC 5490 §3.2). */
  readonly create: boolean;
  /** RFC 8579: give this use to a mailbox that is created. */
  readonly specialUse?: string;
  /** A copy of what was sent (RFC 8580), not the message that the script is about. */
  readonly fcc?: boolean;
  readonly message: Rope;
}

export interface MailboxPort {
  /** Throws a permanent `HostError` for a name that no mailbox can have. */
  exists(name: string): Promise<boolean>;
  /** RFC 5490 §3.1 mailboxexists: exists and the user may insert there. Default: `exists`. */
  mayStore?(name: string): Promise<boolean>;
  create?(name: string, options: { readonly specialUse?: string }): Promise<void>;
  delete?(name: string): Promise<void>;
  store(request: StoreRequest): Promise<void>;
  /** Whether a name could be a mailbox: undefined or a sentence that says why not. */
  invalidName?(name: string): string | undefined;
  /** RFC 8579: name of the mailbox with that use (`\Junk`); undefined where there is none. */
  bySpecialUse?(use: string): Promise<string | undefined>;
  specialUses?(name: string): Promise<readonly string[]>;
  /** RFC 9042: name of the mailbox with that MAILBOXID (RFC 8474). */
  byId?(id: string): Promise<string | undefined>;
  /** RFC 5464 entries; `mailbox` null is the server. undefined where the entry is absent. */
  metadata?(mailbox: string | null, entry: string): Promise<string | undefined>;
}

export interface OutgoingMail {
  /** `''` is the null sender. */
  readonly from: string;
  readonly to: readonly string[];
  readonly message: Rope;
  readonly reason: 'redirect' | 'vacation' | 'reject' | 'notify';
  /** RFC 6009 §3, §4, where the script asked for it. */
  readonly dsn?: {
    readonly notify?: readonly string[];
    readonly ret?: 'FULL' | 'HDRS';
    readonly envid?: string;
    readonly orcpt?: string;
  };
  readonly deliverBy?: { readonly atMs: number; readonly mode: 'N' | 'R'; readonly trace: boolean };
}

export interface OutgoingPort {
  /** Resolves once the mail is durably somebody else's. */
  send(mail: OutgoingMail): Promise<void>;
  /** Refuse in the SMTP session (RFC 5429 §2.1); false where that is impossible, then a report is sent instead. */
  refuse?(request: { readonly reason: string; readonly action: string }): Promise<boolean>;
}

/** Memory over messages for vacation and duplicate. Keys are unique over their uses and of bounded length. */
export interface TrackingPort {
  /** Remembered and not yet expired. */
  seen(key: string): Promise<boolean>;
  /** Seconds from now. */
  remember(key: string, seconds: number): Promise<void>;
  /** Remembers what was not `seen`, in one step: of several who ask at once it is true for one. */
  claim(key: string, seconds: number): Promise<boolean>;
  /** Gives a claim back. */
  forget(key: string): Promise<void>;
}

/** RFC 6134. Names as the script gives them, `urn:ietf:params:sieve:addrbook:x` in its short form `:addrbook:x`. */
export interface ListPort {
  /** True where the list exists and can be asked. */
  valid(list: string): Promise<boolean>;
  contains(list: string, value: string): Promise<boolean>;
  /** Addresses of a list for `redirect :list`; undefined where it cannot be listed. */
  members?(list: string): Promise<readonly string[] | undefined>;
}

export interface ProgramRequest {
  readonly name: string;
  readonly arguments: readonly string[];
  readonly input: Uint8Array;
  readonly timeoutMs: number;
}
/** vnd.dovecot.pipe, filter, execute. The port confines programs to its directory; names hold no slash. */
export interface ProgramPort {
  run(request: ProgramRequest): Promise<{ readonly status: number; readonly output: Uint8Array }>;
}

/** Notification methods besides `mailto:` (RFC 5435). */
export interface NotifyPort {
  readonly schemes: readonly string[];
  valid?(uri: string): string | undefined;
  online?(uri: string): Promise<'yes' | 'no' | 'maybe'>;
  send(notification: {
    readonly uri: string;
    readonly message: string;
    readonly from?: string;
    readonly importance: 1 | 2 | 3;
    readonly options: readonly string[];
  }): Promise<void>;
}
