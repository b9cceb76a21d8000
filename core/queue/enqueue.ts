// Mail that nobody waits for on a line (from `sendmail`, fetched from another server) goes into the queue at once,
// whatever its route, in one commit with the mark that its source needs never to give it to us again. So a crash at any
// instant leaves either both or neither: no loss and no duplicate. Who refused what is reported like any failed delivery.
import type { Clock } from '../lib/clock.ts';
import type { Recipient } from '../mail/envelope.ts';
import type { Reply } from '../mail/reply.ts';
import type { Statement } from '../state/state.ts';
import { failed, pendingRecipient, type QueuedRecipient, type QueuePolicy } from './entry.ts';
import { messageOf, type SettleRequest } from './judge.ts';
import type { QueueStore } from './store.ts';
import type { RouteLookup } from './transport.ts';

export interface EnqueueParts {
  readonly store: QueueStore;
  readonly routes: RouteLookup;
  readonly policy: QueuePolicy;
  readonly clock: Clock;
  readonly wake?: (destinations: readonly string[]) => void;
}

/** A recipient that is refused for good: its sender gets a report. */
export interface Refused {
  readonly recipient: Recipient;
  readonly reply: Reply<4 | 5>;
  readonly why: string;
}

export interface Enqueuer {
  /** Resolves once message and `also` are durable; rejects with neither of them. */
  enqueue(request: SettleRequest, refused: readonly Refused[], also: readonly Statement[]): Promise<void>;
}

export function createEnqueuer({ store, routes, policy, clock, wake }: EnqueueParts): Enqueuer {
  const destinationOf = async (recipient: Recipient): Promise<string> => {
    const answer = await routes(recipient).catch(() => undefined);
    // The runner asks again; a table that is broken now may be whole then.
    return answer?.kind === 'route' ? answer.route.destination : `unrouted:${recipient.address.domain}`;
  };

  return {
    async enqueue(request, refused, also) {
      const message = messageOf(request, policy);
      const now = clock.now();
      const { recipients, originals } = request.deliverable;
      const pending = await Promise.all(
        recipients.map(async (recipient, index): Promise<QueuedRecipient> => {
          const original = originals.get(recipient.address.text);
          const from = { recipient, destination: await destinationOf(recipient), dueAt: now };
          return pendingRecipient(message, index, original === undefined ? from : { ...from, original }, policy);
        }),
      );
      const reports = refused.flatMap(({ recipient, reply, why }, index) => {
        const from = { recipient, destination: 'refused', dueAt: now };
        const entry = pendingRecipient(message, recipients.length + index, from, policy);
        return failed(message, entry, { reply, why }, now) ?? [];
      });
      const entries = [...pending, ...reports];
      if (entries.length === 0) await store.state.write(also);
      else await store.addWith({ message, recipients: entries }, also);
      wake?.(entries.map(entry => entry.destination));
    },
  };
}
