// How a message reaches its recipients. The direct path (before 250) and the queue runner share these: a transport is
// asked for some recipients of one message and answers for each of them.
import type { Cancellation } from '../lib/cancellation.ts';
import type { ClientFacts } from '../mail/client-facts.ts';
import type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { Reply } from '../mail/reply.ts';
import type { Rope } from '../mail/rope.ts';
import type { TraceStep } from '../mail/trace.ts';

export type { ClientFacts } from '../mail/client-facts.ts';

export interface DeliveryJob {
  /** Queue id of the message. */
  readonly id: string;
  readonly sender: ReversePath;
  /** Envelope parameters that travel on: BODY, SMTPUTF8, REQUIRETLS, RET, ENVID. */
  readonly envelope: Omit<Envelope, 'recipients' | 'sender'>;
  readonly form: Rope;
  /** `form`, read already; absent for what comes from the queue. */
  readonly message?: Message;
  readonly recipients: readonly Recipient[];
  /** ms since the epoch. */
  readonly receivedAt: number;
  readonly client?: ClientFacts;
}

/** What a host out in the world said, for DSNs. Absent for inner hosts (invariant I6). */
export interface RemoteWord {
  readonly host: string;
  /** The reply as it came, e.g. `550 5.1.1 unknown user`. */
  readonly text: string;
}

/** `steps`: the `deliver` hooks that were asked, for the trace. */
export type DeliveryOutcome = { readonly steps?: readonly TraceStep[] } & (
  | {
      readonly kind: 'delivered';
      readonly detail: string;
      /** The next hop takes over DSN duty (RFC 3461 §5.2.2). */
      readonly dsnPassed?: boolean;
      /** Given to a next hop, not to a mailbox: a success DSN says `relayed` (RFC 3464 §2.3.3). */
      readonly relayed?: boolean;
    }
  | {
      readonly kind: 'deferred';
      readonly reply: Reply<4>;
      readonly why: string;
      /** The whole destination is in trouble, not just this recipient. */
      readonly destination?: boolean;
      readonly remote?: RemoteWord;
    }
  | { readonly kind: 'failed'; readonly reply: Reply<5>; readonly why: string; readonly remote?: RemoteWord }
);

export interface Transport {
  readonly name: string;
  /** One outcome per recipient, in order. Never throws for a failure of delivery; a throw is a bug and counts as deferred. */
  deliver(job: DeliveryJob, recipients: readonly Recipient[], stop: Cancellation): Promise<readonly DeliveryOutcome[]>;
}

/** Where a recipient goes. `destination` groups queue entries for concurrency and back-off: a domain, a next hop, `local`. */
export interface Route {
  readonly transport: Transport;
  readonly destination: string;
  /** Try before 250 (local mailbox, next hop that is up), or always through the queue (remote Internet mail). */
  readonly direct: boolean;
}

export type RouteAnswer =
  | { readonly kind: 'route'; readonly route: Route }
  | { readonly kind: 'unavailable'; readonly why: string }
  | { readonly kind: 'none'; readonly reply: Reply<5>; readonly why: string };

/** `unavailable`: a lookup backend is down; the caller defers (invariant I4). */
export type RouteLookup = (recipient: Recipient) => Promise<RouteAnswer>;
