// SASL (RFC 4422) as server state machines that know bytes and no protocol: POP3, ManageSieve, IMAP and SMTP wrap their own
// framing around `step`. An exchange ends with any step that is not a challenge; it is then not used again.
import type { Account, AuthOrigin, AuthResult, Directory } from '../directory.ts';

export type SaslStep =
  | { readonly kind: 'challenge'; readonly data: Buffer }
  /** `data`: goes with the success where the protocol has a place for it (`successData`). */
  | { readonly kind: 'ok'; readonly account: Account; readonly data?: Buffer }
  /** `username` as the client gave it, for the log. */
  | { readonly kind: 'refused'; readonly why: string; readonly username?: string }
  | { readonly kind: 'unavailable'; readonly why: string; readonly username?: string }
  /** What the client sent is no message of this mechanism. */
  | { readonly kind: 'malformed'; readonly why: string };

export interface SaslExchange {
  /** The first call brings the initial response, or undefined where the client sent none. Never rejects. */
  step(response: Buffer | undefined): Promise<SaslStep>;
}

/** Checks a bearer token of the configured issuer; `username` is what the client claims to be, `''` where it says nothing. */
export type VerifyToken = (token: string, username: string, from: AuthOrigin) => Promise<AuthResult>;

export interface SaslContext {
  readonly directory: Pick<Directory, 'authenticate' | 'startScram'>;
  readonly from: AuthOrigin;
  /** RFC 4422 §5: the protocol can send data along with the success (ManageSieve can; SMTP, POP3 and IMAP4rev1 cannot). */
  readonly successData: boolean;
  /** Absent: no bearer mechanisms. */
  readonly verifyToken?: VerifyToken;
}

export interface SaslMechanism {
  readonly name: string;
  /** Shows the password or the token to whoever listens: only inside TLS. */
  readonly plaintext: boolean;
  start(context: SaslContext): SaslExchange;
}

/** A step is at most so long, in bytes after base64; protocols bound their lines by it. */
export const maxSaslBytes = 8192;

export const challenge = (data: string | Buffer): SaslStep => ({ kind: 'challenge', data: Buffer.from(data) });
export const malformed = (why: string): SaslStep => ({ kind: 'malformed', why });

export const fromAuthResult = (result: AuthResult, username: string): SaslStep =>
  result.kind === 'ok' ? result : { ...result, username };

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Undefined where the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** RFC 4422 §3: an exchange as a function per expected message; the last one given stays. */
export type Stage = (response: Buffer) => Promise<SaslStep> | SaslStep;

/** RFC 4954 §4, RFC 5034 §4: a mechanism that begins with the client gets an empty challenge where it sent nothing. */
export function clientFirst(first: Stage): { step: SaslExchange['step']; expect(stage: Stage): void } {
  let stage = first;
  let begun = false;
  return {
    expect(next) {
      stage = next;
    },
    async step(response) {
      const missing = response === undefined && !begun;
      begun = true;
      if (missing) return challenge('');
      if ((response?.length ?? 0) > maxSaslBytes) return malformed('message is too long');
      return stage(response ?? Buffer.alloc(0));
    },
  };
}
