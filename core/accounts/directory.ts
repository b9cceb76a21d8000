// What the rest of the gateway asks about accounts. `users.ts` implements it over the state store.

/** Login name and home mailbox of a user: the full address in lower case, `alice@example.org`. */
export type AccountName = string;

export interface Account {
  readonly name: AccountName;
  /** Bytes; absent = no limit. */
  readonly quotaBytes?: number;
  readonly disabled: boolean;
}

/** `unavailable` is a backend that cannot say: the caller answers 4xx, never "unknown user" (invariant I4). */
export type Lookup<T> =
  | { readonly kind: 'found'; readonly value: T }
  | { readonly kind: 'none' }
  | { readonly kind: 'unavailable'; readonly why: string };

export type AuthResult =
  | { readonly kind: 'ok'; readonly account: Account }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'unavailable'; readonly why: string };

/** Who asks: what the limits against guessing count by. */
export interface AuthOrigin {
  /** IP address of the client. */
  readonly address: string;
  readonly service: 'smtp' | 'imap' | 'pop3' | 'managesieve';
}

export type ScramHash = 'SHA-1' | 'SHA-256';

/** RFC 5802 §3: what a server stores instead of the password. */
export interface ScramVerifier {
  readonly salt: Buffer;
  readonly iterations: number;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export type ScramStart =
  /** Also for an unknown account (with a made-up verifier): `finish` then refuses whatever the proof was. */
  | { readonly kind: 'verifier'; readonly verifier: ScramVerifier; finish(proofHolds: boolean): Promise<AuthResult> }
  | { readonly kind: 'unavailable'; readonly why: string };

export interface Directory {
  /** By login name: the full address, or a local part where that is unambiguous. */
  find(name: string): Promise<Lookup<Account>>;
  /**
   * Takes the same time for an unknown account as for a wrong password. `unavailable` also where too many attempts
   * failed from there: the password was then not looked at, and the client hears a temporary failure.
   */
  authenticate(name: string, password: string, from: AuthOrigin): Promise<AuthResult>;
  /** Absent where this directory holds no verifiers; then SCRAM is not offered. */
  startScram?(name: string, hash: ScramHash, from: AuthOrigin): Promise<ScramStart>;
  /** Domains that have at least one account: lower case, sorted. */
  domains(): Promise<Lookup<readonly string[]>>;
}
