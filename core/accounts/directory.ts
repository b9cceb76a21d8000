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

export interface Directory {
  /** By login name: the full address, or a local part where that is unambiguous. */
  find(name: string): Promise<Lookup<Account>>;
  /** Constant-time as far as the account's existence goes. */
  authenticate(
    name: string,
    password: string,
    from: { readonly address: string; readonly service: 'smtp' | 'imap' | 'pop3' | 'managesieve' },
  ): Promise<AuthResult>;
  /** For mechanisms that need a stored verifier (SCRAM) rather than the password; undefined where the account has none. */
  scramVerifier?(
    name: string,
    hash: 'SHA-1' | 'SHA-256',
  ): Promise<
    | { readonly salt: Buffer; readonly iterations: number; readonly storedKey: Buffer; readonly serverKey: Buffer }
    | undefined
  >;
}
