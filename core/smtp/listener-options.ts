// What one SMTP or LMTP listener is configured with. The YAML keys of `config/gateway-options.ts` map onto this; all that
// is optional here has the default that the comment names.
import type { ListenTarget } from '../net/listener.ts';

export interface SmtpListenerOptions {
  /** Name in log and trace. */
  readonly name: string;
  /** `smtp`: no AUTH; `submission`: TLS and AUTH first; `lmtp`: LHLO and one reply per recipient (RFC 2033). */
  readonly role: 'smtp' | 'submission' | 'lmtp';
  readonly target: ListenTarget;
  readonly backlog?: number;
  readonly tls: 'none' | 'starttls' | 'implicit';
  /** AUTH without TLS; only ever for loopback (invariant I8). Default false. */
  readonly allowPlaintextAuth?: boolean;
  /** Behind `220 host ESMTP` (or `LMTP`) in the greeting. Default: nothing. */
  readonly banner?: string;
  /** The greeting waits so long for early talkers. Default 0: no pause at all. */
  readonly greetDelayMs?: number;
  /** Bare CR or LF in message data. Default `refuse`. */
  readonly lineEnds?: 'refuse' | 'normalise';
  /** NUL in message data (RFC 5321 §4.5.2 and RFC 6152 §2 forbid it). Default `refuse`. */
  readonly nul?: 'refuse' | 'accept';
  /** Networks whose connections begin with a PROXY header. */
  readonly proxyProtocol?: readonly string[];
  /** Networks that may use XCLIENT. */
  readonly xclient?: readonly string[];
  /** Offer PRDR (draft-hall-prdr). Default false. */
  readonly prdr?: boolean;
  /**
   * Recipients that may share a message where one reply speaks for all of them: others are deferred, so that the client
   * sends the message again for them. Default `all`.
   */
  readonly recipientsTogether?: 'all' | 'domain' | 'one';
  /** Offer CHUNKING (RFC 3030). Default true. */
  readonly chunking?: boolean;
  /** Offer BINARYMIME too: only where every next hop can do it. Default false. */
  readonly binaryMime?: boolean;
  /** Verify the client's reverse name. Default false: no lookup. */
  readonly lookupReverseName?: boolean;
  readonly maxSize: number;
  /** Messages above this are spooled to disk while they arrive, smaller ones if memory is short. Default 2 MiB. */
  readonly spoolAbove?: number;
  /** Default 256 KiB. */
  readonly headerSize?: number;
  readonly limits?: Partial<SmtpLimits>;
}

export interface SmtpLimits {
  readonly connections: number;
  /** Per IPv4 address; IPv6 by /64 for the rate. */
  readonly connectionsPerAddress: number;
  /** Per IPv4 /24 and IPv6 /64. */
  readonly connectionsPerNetwork: number;
  /** 0 = none. */
  readonly connectionRatePerMinute: number;
  readonly idleTimeoutMs: number;
  readonly sessionLifetimeMs: number;
  readonly messagesPerSession: number;
  readonly recipients: number;
  /** Refused commands until 421. */
  readonly errors: number;
  /** Commands that move nothing (NOOP, RSET, VRFY, HELP, repeated EHLO) between two messages. */
  readonly idleCommands: number;
  readonly unknownCommands: number;
  /** Failed AUTH commands until 421. */
  readonly authFailures: number;
  /** Wait before the reply to the nth failed AUTH: n times this. */
  readonly authFailureDelayMs: number;
  /** Bytes of a line in message data with its end. */
  readonly lineLength: number;
  /** Bytes a second that message data must bring on average, after the first 60 s. 0 = no matter. */
  readonly minDataRate: number;
  /** For the TLS handshake and the PROXY header. */
  readonly handshakeTimeoutMs: number;
}

export const defaultLimits: SmtpLimits = {
  connections: 1000,
  connectionsPerAddress: 100,
  connectionsPerNetwork: 500,
  connectionRatePerMinute: 0,
  // RFC 5321 §4.5.3.2.7
  idleTimeoutMs: 300_000,
  sessionLifetimeMs: 7_200_000,
  messagesPerSession: 10_000,
  recipients: 1000,
  errors: 20,
  idleCommands: 100,
  unknownCommands: 10,
  authFailures: 3,
  authFailureDelayMs: 1000,
  lineLength: 65_536,
  minDataRate: 100,
  handshakeTimeoutMs: 30_000,
};
