// What the SMTP server needs from the rest; `gateway.ts` connects it.
import type { Directory } from '../accounts/directory.ts';
import type { VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { PendingExchanges } from '../accounts/sasl/pending-exchanges.ts';
import type { Deliverable } from '../mail/deliverable.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { Reply } from '../mail/reply.ts';
import type { TraceEnd, TraceRecipient, TraceRecord } from '../mail/trace.ts';
import type { MessageOutcome } from '../pipeline/chain.ts';
import type { Identity, Session } from '../plugin/contract.ts';
import type { ClientFacts } from '../queue/transport.ts';

export interface SettleRequest {
  /** Queue id. */
  readonly id: string;
  readonly receivedAt: number;
  readonly envelope: Envelope;
  readonly deliverable: Deliverable;
  /** Whether the client is gone; what was begun is still finished or rolled back. */
  readonly signal: { readonly aborted: boolean };
  /** The client hears `perRecipient` (LMTP, PRDR), so a failed recipient needs no bounce. */
  readonly perRecipientReplies?: boolean;
  /** The chain marked the sender as forged: no report is ever sent to it. */
  readonly forged?: boolean;
  /** For the queue's record and for XCLIENT/XFORWARD. With `identity` a recipient's own 4xx is queued, not passed on. */
  readonly client?: ClientFacts;
  /** The record of the transaction, should it end so: for the quarantine. */
  readonly trace?: (end: TraceEnd) => TraceRecord;
  /** For the `deliver` hook. */
  readonly session?: Session;
  readonly helo?: string;
  readonly identity?: Identity;
}

export interface Settlement {
  /** What the client hears after the final dot. */
  readonly reply: Reply;
  /** For LMTP (RFC 2033 §4.2) and PRDR: one reply per recipient of the client's envelope, in its order. */
  readonly perRecipient: readonly Reply[];
  readonly recipients: readonly TraceRecipient[];
}

/** Delivers or queues; resolves once every recipient is durable or refused. Nothing half-delivered behind a 4xx/5xx. */
export type Settle = (request: SettleRequest) => Promise<Settlement>;

export interface Ids {
  session(): string;
  /** Queue id: short, unique, fit for a file name. */
  message(): string;
}

/** Verified reverse name (PTR whose address record leads back), undefined where there is none or nobody knows. Never throws. */
export type ReverseName = (address: string) => Promise<string | undefined>;

/** ETRN (RFC 1985): begins with the queue of a domain, or says why not. `client` decides who may. */
export type FlushQueue = (
  domain: string,
  client: Session,
) => Promise<'started' | 'nothing-pending' | 'unable' | 'not-allowed'>;

/** For AUTH mechanisms that show no password; they are offered where the chain takes them. */
export interface SaslParts {
  readonly directory: Pick<Directory, 'startScram'>;
  /** Absent: no bearer mechanisms. */
  readonly verifyToken?: VerifyToken;
  /** Where plugins ask for the proof. */
  readonly exchanges: Pick<PendingExchanges, 'add'>;
}

/** A message whose fate is decided, with all that it takes to decide it once more. */
export interface DecidedMessage {
  readonly id: string;
  readonly receivedAt: number;
  readonly envelope: Envelope;
  /** Recipients that were refused at RCPT. */
  readonly refused: readonly Recipient[];
  /** As the chain was given it. */
  readonly message: Message;
  readonly session: Session;
  readonly helo: string;
  readonly identity?: Identity;
  readonly outcome: MessageOutcome;
  readonly trace: TraceRecord;
}

/** Records a share of all messages, for `postern replay`. */
export interface Recorder {
  /** Whether the next message is one of them. */
  wants(): boolean;
  /** Never rejects: what cannot be recorded must not harm the mail. The message may be removed once it resolved. */
  record(decided: DecidedMessage): Promise<void>;
}
