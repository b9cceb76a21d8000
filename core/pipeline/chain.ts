// The chain as a protocol server drives it: one `ChainSession` per connection, at most one transaction at a time.
// `load-chain.ts` builds a `Chain` from the configuration.
import type { Cancellation } from '../lib/cancellation.ts';
import type { Deliverable } from '../mail/deliverable.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { Reply } from '../mail/reply.ts';
import type { TraceStep } from '../mail/trace.ts';
import type { Credentials, Identity, SaslProof, Session } from '../plugin/contract.ts';

/** `settled` tells `accept` from "nobody objected". A refusal carries what the client hears and why it does. */
export type GateOutcome =
  | { readonly kind: 'ok'; readonly settled: boolean }
  | { readonly kind: 'refused'; readonly reply: Reply<4> | Reply<5>; readonly plugin: string; readonly why: string };

export type AuthOutcome =
  | { readonly kind: 'ok'; readonly identity: Identity }
  | { readonly kind: 'refused'; readonly reply: Reply<4> | Reply<5>; readonly plugin: string; readonly why: string };

export type MessageOutcome =
  | { readonly kind: 'refused'; readonly reply: Reply<4> | Reply<5>; readonly plugin: string; readonly why: string }
  | { readonly kind: 'discard'; readonly plugin: string; readonly why: string }
  | Deliverable;

export interface ChainSession {
  /** Facts changed: STARTTLS, PROXY, XCLIENT. `identity` replaces who is authenticated (XCLIENT LOGIN=); null = nobody. */
  update(session: Session, identity?: Identity | null): void;
  connect(): Promise<GateOutcome>;
  helo(name: string): Promise<GateOutcome>;
  auth(offered: Credentials): Promise<AuthOutcome>;
  /** Who decides at `auth` decides at `sasl` too, so that mechanisms without passwords may be offered. */
  readonly takesSasl: boolean;
  sasl(offered: SaslProof): Promise<AuthOutcome>;
  /** Begins a transaction; `id` is its queue id. */
  mail(id: string, envelope: Envelope): Promise<GateOutcome>;
  /** `envelope` as it would be with this recipient not yet in it. */
  rcpt(envelope: Envelope, to: Recipient): Promise<GateOutcome>;
  message(envelope: Envelope, message: Message): Promise<MessageOutcome>;
  /** Steps of the session so far and of the current transaction. */
  steps(): readonly TraceStep[];
  /** Ends the transaction (RSET, new EHLO, after the reply): its signal aborts and its annotations are dropped. */
  endTransaction(): void;
  /** The client is gone or the session over: all signals abort. Harmless when repeated. */
  end(): void;
}

/** `route`: no plugin took the message for this recipient, so it goes where its domain says. */
export type DeliverOutcome =
  | { readonly kind: 'route' }
  | { readonly kind: 'delivered' | 'discard'; readonly plugin: string; readonly why?: string }
  | { readonly kind: 'refused'; readonly reply: Reply<4> | Reply<5>; readonly plugin: string; readonly why: string };

/** What the `deliver` hook needs, before the reply or long after it from the queue. */
export interface DeliverRequest {
  readonly id: string;
  readonly session: Session;
  readonly helo: string;
  readonly identity?: Identity;
  readonly envelope: Envelope;
  readonly message: Message;
  readonly stop?: Cancellation;
}

/** What a plugin made of a message that a person judged. */
export interface Lesson {
  readonly plugin: string;
  /** Absent = learnt. */
  readonly error?: string;
}

export interface Chain {
  /** The `deliver` hook for one recipient; `steps` belong to the message's trace. */
  deliver(
    request: DeliverRequest,
    to: Recipient,
  ): Promise<{ readonly outcome: DeliverOutcome; readonly steps: readonly TraceStep[] }>;
  /** Whether any entry has a `deliver` hook; where none has, `deliver` need not be called. */
  readonly delivers: boolean;
  openSession(session: Session): ChainSession;
  /** Entries that were taken over from the chain before, as they are. */
  readonly kept: readonly string[];
  /** Teaches the engines behind the plugins; each that can learn has one result. Never rejects. */
  learn(message: Message, as: 'spam' | 'ham', recipients: readonly string[]): Promise<readonly Lesson[]>;
  /** Plugins per hook in order, for `config show` and `status`. */
  describe(): readonly { readonly hook: string; readonly plugins: readonly string[] }[];
  status(): Promise<readonly { readonly name: string; readonly values: Readonly<Record<string, unknown>> }[]>;
  /** Mail that the gateway itself makes, with the signatures that entries of the chain put on it. Never rejects. */
  sign(message: Message): Promise<Message>;
  /** Closes the plugins in reverse order, once the last session that uses them ended. */
  close(): Promise<void>;
}
