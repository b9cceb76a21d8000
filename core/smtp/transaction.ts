// One mail transaction from MAIL to its end, and the record it leaves.
import type { Clock } from '../lib/clock.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { TraceEnd, TraceRecipient, TraceRecord } from '../mail/trace.ts';
import type { ChainSession } from '../pipeline/chain.ts';
import type { Identity, Session } from '../plugin/contract.ts';
import type { Incoming } from './incoming.ts';
import type { SessionContext } from './session-context.ts';

export type TransactionEnd = TraceEnd;

/** What the record tells of the session. */
export interface TransactionSession {
  readonly id: string;
  readonly context: SessionContext;
  readonly facts: Session;
  readonly identity: Identity | undefined;
  readonly helo: string;
  readonly chain: ChainSession;
}

export class Transaction {
  readonly id: string;
  /** ms since the epoch. */
  readonly receivedAt: number;
  envelope: Envelope;
  /** PRDR was asked for (draft-hall-prdr). */
  prdr = false;
  /** BDAT chunks arrive here; DATA too, while it comes. */
  incoming: Incoming | undefined;
  /** BDAT went wrong: the remaining chunks are thrown away (RFC 3030 §2). */
  chunksFailed = false;
  /** The message is in and its fate is being decided: this transaction ends itself. */
  deciding = false;
  message: Message | undefined;
  private readonly startedAt: number;
  private readonly clock: Clock;
  private readonly refused: TraceRecipient[] = [];
  readonly refusedRecipients: Recipient[] = [];
  private lastReply = '';

  constructor(id: string, clock: Clock, envelope: Envelope) {
    this.id = id;
    this.clock = clock;
    this.envelope = envelope;
    this.receivedAt = clock.now();
    this.startedAt = clock.monotonic();
  }

  accept(to: Recipient): void {
    this.envelope = { ...this.envelope, recipients: [...this.envelope.recipients, to] };
  }

  refuse(to: Recipient, reply: string): void {
    this.lastReply = reply;
    this.refusedRecipients.push(to);
    this.refused.push({ address: to.address.text, outcome: reply[0] === '4' ? 'deferred' : 'rejected', detail: reply });
  }

  get anyRefused(): boolean {
    return this.refused.length > 0;
  }

  /** How a transaction ends that came to no message: refused if its recipients were, else the client gave up. */
  unfinished(): TransactionEnd {
    const { recipients } = this.envelope;
    if (recipients.length > 0 || this.refused.length === 0) return { outcome: 'aborted', reply: this.lastReply };
    const deferred = this.refused.every(entry => entry.outcome === 'deferred');
    return { outcome: deferred ? 'deferred' : 'rejected', reply: this.lastReply };
  }

  /** Hands the record to the sink. Call once, before the chain forgets the transaction. */
  record(session: TransactionSession, end: TransactionEnd): void {
    session.context.trace.record(this.describe(session, end));
  }

  /** The record, should the transaction end so. Before the chain forgets it. */
  describe(session: TransactionSession, end: TransactionEnd): TraceRecord {
    const { facts, identity, helo } = session;
    const { sender, recipients } = this.envelope;
    const outcome = recipientOutcomes[end.outcome];
    const messageId = this.message?.headers.get('message-id')?.value;
    const subject = this.message?.headers.get('subject')?.value;
    return {
      id: this.id,
      sessionId: session.id,
      receivedAt: this.receivedAt,
      listener: facts.listener,
      client: {
        address: facts.remote.address,
        port: facts.remote.port,
        helo,
        ...(facts.tls && { tls: `${facts.tls.version} ${facts.tls.cipher}` }),
        ...(identity && { identity: identity.name }),
      },
      sender: sender?.text ?? '',
      size: this.message?.size ?? this.incoming?.size ?? 0,
      ...(messageId !== undefined && { messageId }),
      ...(subject !== undefined && { subject }),
      steps: session.chain.steps(),
      recipients: [
        ...(end.recipients ?? recipients.map(({ address }) => ({ address: address.text, outcome }))),
        ...this.refused,
      ],
      reply: end.reply,
      outcome: end.outcome,
      ms: this.clock.monotonic() - this.startedAt,
    };
  }

  /** Removes what was spooled. */
  dispose(): void {
    this.incoming?.dispose();
  }
}

const recipientOutcomes: Readonly<Record<TransactionEnd['outcome'], string>> = {
  accepted: 'delivered',
  rejected: 'rejected',
  deferred: 'deferred',
  quarantined: 'quarantined',
  discarded: 'discarded',
  aborted: 'aborted',
};
