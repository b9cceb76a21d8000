// One message that is kept on disk beside mailboxes and queue: in the quarantine, or recorded for a replay. Pure values;
// `store.ts` keeps them.
import type { ClientFacts } from '../mail/client-facts.ts';
import type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
import type { Rope } from '../mail/rope.ts';
import type { TraceRecord } from '../mail/trace.ts';
import type { Identity, Session } from '../plugin/contract.ts';

/** How the message came, beside what one searches by. */
export interface KeptFacts {
  readonly sender: ReversePath;
  /** Whom it is for: after aliases in the quarantine, as the client named them in a recording. */
  readonly recipients: readonly Recipient[];
  /** Recipient → the one that the client named, where an alias led to another. */
  readonly originals: Readonly<Record<string, string>>;
  readonly envelope: Omit<Envelope, 'sender' | 'recipients'>;
  readonly client?: ClientFacts;
  /** Recordings: recipients that were refused at RCPT. */
  readonly refused?: readonly Recipient[];
  readonly session?: Session;
  readonly helo?: string;
  readonly identity?: Identity;
}

export interface KeptMail {
  /** The queue id, or `<queue id>.original` of a message that was edited and went on. */
  readonly id: string;
  /** Queue id of the message that it came as. */
  readonly message: string;
  /** What it is sorted by: a `QuarantineReason`, or the outcome of a recorded message. */
  readonly reason: string;
  /** Who decided; '' where nobody did. */
  readonly plugin: string;
  readonly why: string;
  /** ms since the epoch. */
  readonly receivedAt: number;
  readonly subject?: string;
  readonly messageId?: string;
  readonly size: number;
  readonly facts: KeptFacts;
  readonly trace?: TraceRecord;
}

export interface NewKeptMail extends Omit<KeptMail, 'size'> {
  readonly form: Rope;
}

export interface Release {
  readonly address: string;
  /** ms since the epoch. */
  readonly at: number;
  /** Under which the released message is delivered. */
  readonly queueId: string;
}

export interface StoredMail extends KeptMail {
  readonly releases: readonly Release[];
}

export const originalId = (queueId: string): string => `${queueId}.original`;

/** Recipients that the message was not yet released to, each once; `only`: of these addresses. */
export function unreleased(mail: StoredMail, only?: readonly string[]): readonly Recipient[] {
  const done = new Set(mail.releases.map(({ address }) => address.toLowerCase()));
  const wanted = only && new Set(only.map(address => address.toLowerCase()));
  return mail.facts.recipients.filter(({ address }) => {
    const text = address.text.toLowerCase();
    if (done.has(text) || (wanted && !wanted.has(text))) return false;
    done.add(text);
    return true;
  });
}
