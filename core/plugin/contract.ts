// The contract between the gateway and a plugin: which hooks there are, what each may answer, what it is given.
// A throw, a rejection, a hang or an illegal verdict becomes the chain entry's `onError` (default: defer).
import type { Logger } from 'pino';
import type { Schema, SecretReference } from '../config/schema.ts';
import type { Clock } from '../lib/clock.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { ResultKey } from './results.ts';
import type { Edit, Gate, MessageAnswer, Of } from './verdicts.ts';

export type Answer<V> = V | Promise<V>;

/** Who authenticated: the account's login name. */
export interface Identity {
  readonly name: string;
  readonly mechanism: string;
}

export interface Credentials {
  readonly mechanism: string;
  readonly username: string;
  readonly password: string;
}

/**
 * An AUTH exchange that shows no password (SCRAM, OAUTHBEARER, XOAUTH2) and has come to its end: the client's proof or
 * token is with the gateway and not yet looked at. Nothing in here is secret.
 */
export interface SaslProof {
  readonly mechanism: string;
  /** As the client gave it; `''` where a token alone says who it is. */
  readonly username: string;
  /** Stands for the exchange: `host.mailboxes.judge` looks at the proof. */
  readonly exchange: string;
}

export type Authenticated = Of<'continue' | 'reject' | 'defer'> | (Of<'accept'> & { readonly identity: Identity });

/** Read-only facts of the connection. */
export interface Session {
  readonly id: string;
  /** Name of the listener in the configuration and its role. */
  readonly listener: string;
  readonly role: 'smtp' | 'submission' | 'lmtp';
  readonly local: { readonly address: string; readonly port: number };
  /** The real client, after PROXY or XCLIENT. IPv4-mapped IPv6 addresses are given as IPv4. */
  readonly remote: {
    readonly address: string;
    readonly port: number /** verified reverse name, where looked up */;
    readonly name?: string;
  };
  readonly tls?: { readonly version: string; readonly cipher: string };
}

export interface Connected {
  readonly session: Session;
  /** Aborts when the hook's deadline passed or the client is gone: pass it to all I/O. */
  readonly signal: AbortSignal;
  /** Child logger with session, transaction, plugin and hook. */
  readonly log: Logger;
  /** Annotations of earlier plugins. */
  get<T>(key: ResultKey<T>): T | undefined;
  /** Only keys that the plugin declares in `writes`; the last value counts. Taken over when the hook returned in time. */
  set<T>(key: ResultKey<T>, value: T): void;
  /**
   * Adds a value to this hook's trace step: what the verdict rests on. `wouldPass`, a sentence of what would have let the
   * message through, is told by `postern why`.
   */
  evidence(values: Readonly<Record<string, unknown>>): void;
}
export interface Greeted extends Connected {
  readonly helo: string;
  readonly identity?: Identity;
}
export interface InMail extends Greeted {
  readonly envelope: Envelope;
}
export interface WithMessage extends InMail {
  /** Queue id. */
  readonly id: string;
  /** With the edits of earlier plugins applied. */
  readonly message: Message;
}

/** Hooks in the order of a session. Behind each: the reply when every plugin continues. */
export interface Hooks {
  /** 220 */
  connect(at: Connected): Answer<Gate>;
  /** 250 */
  helo(at: Greeted): Answer<Gate>;
  /** 535 5.7.8: somebody must accept. PLAIN and LOGIN. */
  auth(at: Greeted, offered: Credentials): Answer<Authenticated>;
  /**
   * 535 5.7.8: somebody must accept, and what is accepted must have proved true by `host.mailboxes.judge`. Other
   * mechanisms than PLAIN and LOGIN, which are offered where every entry that decides at `auth` decides here too: an entry
   * that knows accounts of its own, or that lets only some clients log in, is so never passed by.
   */
  sasl(at: Greeted, offered: SaslProof): Answer<Authenticated>;
  /** 250 2.1.0 */
  mail(at: InMail): Answer<Gate>;
  /** 550 5.7.1: somebody must accept. */
  rcpt(at: InMail, to: Recipient): Answer<Gate>;
  /** 250 after delivery or after the queue is durable. */
  message(at: WithMessage): Answer<MessageAnswer>;
  /** Before 250 or from the queue; `accept` = delivered by this plugin; otherwise by route. */
  deliver(at: WithMessage, to: Recipient): Answer<Gate | Of<'discard'>>;
}
export type HookName = keyof Hooks;

export type DnsAnswer<T> =
  | {
      readonly kind: 'found';
      readonly records: readonly T[] /** seconds */;
      readonly ttl: number /** AD bit of a validating resolver */;
      readonly secure: boolean;
    }
  /** NXDOMAIN, or no data of this type under a name that `exists`. */
  | { readonly kind: 'none'; readonly ttl: number; readonly exists?: true }
  /** SERVFAIL, timeout, refused: nothing is known. */
  | { readonly kind: 'tempfail'; readonly why: string };

/** Record types that can be asked for, and what one record looks like. TXT strings are joined (RFC 7208 §3.3). */
export interface DnsRecords {
  readonly A: string;
  readonly AAAA: string;
  readonly CNAME: string;
  readonly NS: string;
  readonly PTR: string;
  readonly TXT: string;
  readonly MX: { readonly exchange: string; readonly preference: number };
  readonly SRV: {
    readonly target: string;
    readonly port: number;
    readonly priority: number;
    readonly weight: number;
  };
  /** RFC 6698 §2.1. */
  readonly TLSA: {
    readonly usage: number;
    readonly selector: number;
    readonly matchingType: number;
    readonly certificate: Buffer;
  };
  readonly CAA: { readonly flags: number; readonly tag: string; readonly value: string };
}

export interface Dns {
  a(name: string, signal?: AbortSignal): Promise<DnsAnswer<string>>;
  aaaa(name: string, signal?: AbortSignal): Promise<DnsAnswer<string>>;
  txt(name: string, signal?: AbortSignal): Promise<DnsAnswer<string>>;
  mx(
    name: string,
    signal?: AbortSignal,
  ): Promise<DnsAnswer<{ readonly exchange: string; readonly preference: number }>>;
  /** By IPv4 or IPv6 address. */
  ptr(address: string, signal?: AbortSignal): Promise<DnsAnswer<string>>;
  /** Any other type: records as `DnsRecords` says. CNAMEs on the way are followed, but for a question for CNAME itself. */
  query<Type extends keyof DnsRecords>(
    name: string,
    type: Type,
    signal?: AbortSignal,
  ): Promise<DnsAnswer<DnsRecords[Type]>>;
  /** Resolver addresses in use, `ip` or `ip:port`. */
  readonly servers: readonly string[];
}

export type Judgement =
  | { readonly kind: 'ok'; readonly name: string }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'unavailable'; readonly why: string };

/** Is there such a local mailbox or domain, and who may authenticate? */
export interface Mailboxes {
  /** Domains that are final here (`local`), aliases only (`virtual`) or relayed to a next hop (`relay`). */
  domainKind(domain: string): 'local' | 'virtual' | 'relay' | 'foreign';
  /**
   * Is there a mailbox for mail to this address, here or, for a `relay` domain, where its `recipients` say? A subaddress
   * (`bob+lists`, RFC 5233) finds its user. `unchecked`: a `relay` domain that names no source.
   */
  exists(
    address: string,
    signal?: AbortSignal,
  ): Promise<
    | { readonly kind: 'found'; readonly why?: string }
    | { readonly kind: 'none'; readonly why?: string }
    | { readonly kind: 'unchecked' }
    | { readonly kind: 'unavailable'; readonly why: string }
  >;
  authenticate(credentials: Credentials, remoteAddress: string): Promise<Judgement>;
  /** Did the client of a `SaslProof` prove to be who it says? Counts a failure once, however often it is asked. */
  judge(exchange: string): Promise<Judgement>;
}

/** How users' rules run; sizes in bytes. Script files are absolute paths. */
export interface RuleOptions {
  /** Run before and after the user's own script, while the implicit keep stands. */
  readonly before: readonly { readonly file: string; readonly domain?: string }[];
  readonly after: readonly { readonly file: string; readonly domain?: string }[];
  /** Folder of scripts that others may `include :global`. */
  readonly globalFolder?: string;
  readonly createMailboxes: boolean;
  readonly maxActions: number;
  readonly maxRedirects: number;
  readonly maxSteps: number;
  readonly redirectSender: 'sender' | 'recipient' | 'original-recipient' | 'user';
  /** Seconds; how often one sender may hear the same vacation text at most. */
  readonly vacationMinSeconds: number;
  readonly spamField: string;
  readonly virusField: string;
  /** How the rules of recipients in `relay` domains are told to the next hop. */
  readonly nextHop: {
    readonly mailboxField: string;
    readonly flagsField: string;
    /** Name → value of fields that mark junk. */
    readonly junkFields: Readonly<Record<string, string>>;
    readonly junkMailboxes: readonly string[];
    /** File by `user+mailbox@domain`. */
    readonly subaddress: boolean;
  };
  /** Lists that rules may look into (RFC 6134): name → file, `%u` account, `%d` domain, `%n` local part. */
  readonly lists: Readonly<Record<string, string>>;
  /** External programs, for the gateway's own scripts. */
  readonly programs?: { readonly folder: string; readonly timeoutMs: number };
  /** Rules over mail that is there already. */
  readonly imap: {
    /** RFC 6785 */
    readonly userScripts: boolean;
    /** FILTER=SIEVE */
    readonly filter: boolean;
    readonly expunge: boolean;
    readonly mailboxes: readonly {
      /** Where messages come or change: a name, a special use such as `\\Junk`, or `*`. */
      readonly name: string;
      readonly from?: string;
      readonly causes: readonly ('APPEND' | 'COPY' | 'FLAG')[];
      readonly before?: string;
      readonly after?: string;
    }[];
  };
  /** Most bytes in one field that `addheader` adds. */
  readonly editMaxFieldBytes: number;
}

export interface RuleRunner {
  /**
   * Runs the recipient's rules and carries them out. `continue`: there are none, or they leave it at the plain keep;
   * `accept` and `discard`: done; `reject`: the rules refuse the message.
   */
  deliver(at: WithMessage, to: Recipient): Promise<Gate | Of<'discard'>>;
}

/** Users' rules (Sieve): scripts from the store that ManageSieve fills, and the gateway's own from files. */
export interface Rules {
  /** Rejects where a file does not compile, with all its errors: `file:line:column: error: …`. */
  open(options: RuleOptions): Promise<RuleRunner>;
}

/**
 * What one entry of the chain remembers over messages and restarts: values under keys, each until it expires. Shared by all
 * processes of the gateway and, as long as the entry keeps its name, by all configurations. Keys have up to 1,000
 * characters, values 65,536. Everything rejects where the state store fails.
 */
export interface Memory {
  get(key: string): Promise<string | undefined>;
  /** Durable once resolved; replaces what is there. */
  set(key: string, value: string, ttlMs: number): Promise<void>;
  /** Was there anything? */
  delete(key: string): Promise<boolean>;
  /** Keys that begin with `prefix`, in order. */
  list(prefix: string, limit: number): Promise<readonly Remembered[]>;
}
export interface Remembered {
  readonly key: string;
  readonly value: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** What can be looked at before anything runs: for `Plugin.check`. */
export interface CheckHost {
  resolvePath(path: string): string;
  /** Errors of a script file, `file:line:column: error: …`; empty where it is fine. */
  checkRules(
    file: string,
    language?: { readonly imap?: boolean; readonly programs?: boolean },
  ): Promise<readonly string[]>;
}

/** What the gateway offers to a plugin: small interfaces, grown only for a plugin that cannot be written otherwise. */
export interface Host {
  readonly hostname: string;
  readonly log: Logger;
  readonly clock: Clock;
  readonly dns: Dns;
  readonly mailboxes: Mailboxes;
  readonly rules: Rules;
  readonly memory: Memory;
  /** Where notices to the operator go: `queue.postmaster` of the configuration. */
  readonly postmaster: string | undefined;
  /** Networks that may relay (CIDR), from the configuration. */
  isRelayClient(address: string): boolean;
  /** A directory of this plugin's own, made before `setup`. */
  readonly dataDir: string;
  /** Resolves a path of the configuration against the folder of the configuration file. */
  resolvePath(path: string): string;
  /** What a `secret()` option refers to. Throws where it cannot be read. */
  readSecret(secret: SecretReference): string;
  /**
   * For a plugin that rewrites senders: what users' rules send on leaves under the sender that `rewrite` gives, undefined:
   * under its own. Called in `setup`; the last one that calls it has it.
   */
  onForward(rewrite: (sender: string, recipient: string) => string | undefined): void;
  /** Puts a new message into the gateway as if it had been submitted locally; resolves to its queue id once durable. */
  submit(mail: {
    readonly sender: string | null;
    readonly recipients: readonly string[];
    readonly bytes: Buffer;
    readonly origin: string;
  }): Promise<string>;
}

/** `postern NAME list` and `postern NAME release WHAT`. */
export interface PluginAdmin {
  /** Rows of a table; all have the same columns. */
  list(memory: Memory, now: number, limit: number): Promise<readonly Readonly<Record<string, string | number>>[]>;
  /** How many were released. */
  release(memory: Memory, now: number, what: string): Promise<number>;
}

export interface Plugin<Options> {
  readonly name: string;
  /** One sentence for the generated reference. */
  readonly doc: string;
  /** Validated at load and reload; every field has a doc and a default or is required. */
  readonly options: Schema<Options>;
  /** Load fails unless an earlier entry writes it. */
  readonly reads?: readonly ResultKey<unknown>[];
  readonly writes?: readonly ResultKey<unknown>[];
  /** Its verdict depends on mail that came before (greylisting, rates): `postern replay` cannot ask it, and does not. */
  readonly history?: true;
  /** For `config check`: what is wrong with the files that the options name, as sentences. Sets nothing up. */
  check?(options: Options, host: CheckHost): Answer<readonly string[]>;
  /** What an operator may see and undo of that which an entry remembers, with or without a running gateway. */
  readonly admin?: PluginAdmin;
  setup(options: Options, host: Host): Answer<PluginInstance>;
}
export type PluginInstance = Partial<Hooks> & {
  close?(): Promise<void> /** Lines for `postern status`. */;
  /** A person judged this message, which came for `recipient`: teaches the engine behind the plugin. */
  learn?(message: Message, as: 'spam' | 'ham', recipient: string, signal: AbortSignal): Promise<void>;
  status?(): Promise<Readonly<Record<string, unknown>>>;
  /** Signs mail that the gateway itself makes and that goes through no chain: reports and notices. */
  sign?(message: Message, signal: AbortSignal): Promise<readonly Edit[]>;
};
