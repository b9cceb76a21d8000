// What a hook may answer. Values, never callbacks; illegal combinations do not compile.
import type { QuarantineReason } from '../mail/deliverable.ts';
import type { HeaderEdit } from '../mail/header-edit.ts';
import type { Reply } from '../mail/reply.ts';
import type { Rope } from '../mail/rope.ts';

export type Verdict =
  /** No objection; ask the next plugin. */
  | { readonly kind: 'continue' }
  /** Settled; later plugins of this hook are not asked. */
  | { readonly kind: 'accept' }
  /** `why` is for the log and the console only; the client hears `reply`. */
  | { readonly kind: 'reject'; readonly reply: Reply<5>; readonly why: string }
  | { readonly kind: 'defer'; readonly reply: Reply<4>; readonly why: string }
  /** A sticky mark: the chain goes on, a reject still wins. `reason` (default `policy`) sorts the quarantine. */
  | { readonly kind: 'quarantine'; readonly why: string; readonly reason?: QuarantineReason }
  /** 250 to the client, the message is dropped and logged. */
  | { readonly kind: 'discard'; readonly why: string };

export type Of<K extends Verdict['kind']> = Extract<Verdict, { kind: K }>;
export type Gate = Of<'continue' | 'accept' | 'reject' | 'defer'>;

export const pass: Of<'continue'> = { kind: 'continue' };
export const accept: Of<'accept'> = { kind: 'accept' };
export const reject = (reply: Reply<5>, why: string): Of<'reject'> => ({ kind: 'reject', reply, why });
export const defer = (reply: Reply<4>, why: string): Of<'defer'> => ({ kind: 'defer', reply, why });
export const quarantine = (why: string, reason: QuarantineReason = 'policy'): Of<'quarantine'> => ({
  kind: 'quarantine',
  why,
  reason,
});
export const discard = (why: string): Of<'discard'> => ({ kind: 'discard', why });

/** Edits are data: all of one answer are applied or none, after the hook returned in time. */
export type Edit =
  | HeaderEdit
  /** The whole body (all after the header section), CRLF line ends. */
  | { readonly kind: 'replace-body'; readonly body: Buffer | Rope }
  /** `original`: the recipient that this one stands for (aliases), kept for DSN and the trace. */
  | { readonly kind: 'add-recipient'; readonly address: string; readonly original?: string }
  | { readonly kind: 'remove-recipient'; readonly address: string }
  /** Envelope sender; `null` is the null sender. */
  | { readonly kind: 'set-sender'; readonly address: string | null }
  /** Envelope sender for this recipient alone (forwarding); reports still go to the message's own. */
  | { readonly kind: 'set-recipient-sender'; readonly recipient: string; readonly address: string }
  /**
   * The message as it stood before this answer's edits is kept in the quarantine, once the edited one is settled; that
   * one goes on. Where several plugins ask, the first one's is kept. `why` is for the trace and the quarantine's list.
   */
  | { readonly kind: 'quarantine-original'; readonly why: string; readonly reason?: QuarantineReason }
  /** The envelope sender did not send this: nobody is told what becomes of it, neither now nor from the queue. */
  | { readonly kind: 'mark-forged' };

export type MessageAnswer = Verdict & { readonly edits?: readonly Edit[] };
