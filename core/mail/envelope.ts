// The SMTP envelope (RFC 5321 §2.3.1) with the DSN parameters of RFC 3461.
import type { Address } from './address.ts';

/** The reverse-path; `null` is the null sender `<>` (RFC 5321 §4.5.5). */
export type ReversePath = Address | null;

export interface Recipient {
  readonly address: Address;
  /** Goes out to this recipient in place of the message's sender (forwarding); reports still go to the latter. */
  readonly sender?: Address;
  /** NOTIFY of RFC 3461 §4.1; absent when the client gave none. */
  readonly notify?: readonly ('never' | 'success' | 'failure' | 'delay')[];
  /** ORCPT of RFC 3461 §4.2, decoded from xtext: address type and address. */
  readonly orcpt?: { readonly type: string; readonly address: string };
}

export interface Envelope {
  readonly sender: ReversePath;
  /** Accepted so far, in the order of RCPT TO; duplicates as the client gave them. */
  readonly recipients: readonly Recipient[];
  readonly body?: '7BIT' | '8BITMIME' | 'BINARYMIME';
  readonly smtputf8: boolean;
  readonly requireTls: boolean;
  /** SIZE= of MAIL FROM (RFC 1870), bytes. */
  readonly declaredSize?: number;
  readonly ret?: 'FULL' | 'HDRS';
  /** ENVID of RFC 3461 §4.4, decoded from xtext. */
  readonly envid?: string;
  /** AUTH= of MAIL FROM (RFC 4954 §5). */
  readonly auth?: string;
}
