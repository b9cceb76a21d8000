// What a source of mail needs from the rest; `compose/intake.ts` connects it.
import type { Recipient, ReversePath } from '../mail/envelope.ts';
import type { Reply } from '../mail/reply.ts';
import type { Rope } from '../mail/rope.ts';
import type { Identity } from '../plugin/contract.ts';
import type { Statement } from '../state/state.ts';
import type { TakenAs } from './memory.ts';

/** Mail that did not come over a listener, on its way into the chain. */
export interface IntakeMail {
  /** Name in log and trace, such as `sendmail` or `fetch:provider`. */
  readonly origin: string;
  readonly role: 'smtp' | 'submission';
  readonly client: { readonly address: string; readonly helo: string };
  readonly identity?: Identity;
  readonly envelope: {
    readonly sender: ReversePath;
    readonly recipients: readonly Recipient[];
    readonly ret?: 'FULL' | 'HDRS';
    readonly envid?: string;
  };
  /** Our trace field for the queue id that it gets. */
  trace(id: string): Buffer;
  readonly message: Rope;
  /** ms since the epoch; when it expires counts from here. */
  readonly receivedAt: number;
  /**
   * Who hears of a refusal: the sender by a report (a local user, whom we know), or the caller. Mail from elsewhere has
   * a sender who may be forged, so nobody out there is ever told anything (invariant I6).
   */
  readonly refusals: 'report' | 'tell';
  /** No more 4xx: what cannot be taken now is refused. */
  readonly last?: boolean;
  /** Committed together with the message, so that the source is never asked for it again. */
  also(as: TakenAs): readonly Statement[];
}

export type IntakeResult =
  /** In the queue, reported, or discarded; `also` is committed. */
  | { readonly kind: 'taken'; readonly id: string }
  /** By the chain, for good. Nothing is committed. */
  | { readonly kind: 'refused'; readonly id: string; readonly reply: Reply<5>; readonly why: string }
  | { readonly kind: 'deferred'; readonly id: string; readonly reply: Reply<4>; readonly why: string };

/** Runs the chain and the queue. Never rejects: what goes wrong is a deferral. */
export type Inject = (mail: IntakeMail) => Promise<IntakeResult>;
