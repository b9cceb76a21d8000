// One attempt at delivery, for the direct path and the queue alike: asks a transport and makes sure that an answer for
// each recipient comes back, whatever the transport does. Its faults are deferrals (invariant I3).
import type { Cancellation } from '../lib/cancellation.ts';
import type { Recipient } from '../mail/envelope.ts';
import type { DeliveryJob, DeliveryOutcome, Transport } from './transport.ts';

const fault = (why: string): DeliveryOutcome => ({
  kind: 'deferred',
  reply: { code: 451, enhanced: '4.3.0', text: 'Temporary failure, try again later' },
  why,
});

/** One outcome per recipient, in order. Never rejects. Recipients that have a sender of their own go out apart. */
export async function attempt(
  transport: Transport,
  job: DeliveryJob,
  recipients: readonly Recipient[],
  stop: Cancellation,
): Promise<readonly DeliveryOutcome[]> {
  if (recipients.every(recipient => recipient.sender === undefined))
    return attemptTogether(transport, job, recipients, stop);
  const groups = new Map<string | undefined, Recipient[]>();
  for (const recipient of recipients) {
    const group = groups.get(recipient.sender?.text);
    if (group) group.push(recipient);
    else groups.set(recipient.sender?.text, [recipient]);
  }
  const outcomes = new Map<Recipient, DeliveryOutcome | undefined>();
  for (const group of groups.values()) {
    const own = { ...job, sender: group[0]?.sender ?? job.sender };
    const answers = await attemptTogether(transport, own, group, stop);
    for (const [index, recipient] of group.entries()) outcomes.set(recipient, answers[index]);
  }
  return recipients.map(recipient => outcomes.get(recipient) ?? fault('No outcome'));
}

async function attemptTogether(
  transport: Transport,
  job: DeliveryJob,
  recipients: readonly Recipient[],
  stop: Cancellation,
): Promise<readonly DeliveryOutcome[]> {
  let outcomes: readonly DeliveryOutcome[];
  try {
    outcomes = await transport.deliver(job, recipients, stop);
  } catch (error) {
    const why = `Transport "${transport.name}" threw: ${error instanceof Error ? error.message : String(error)}`;
    return recipients.map(() => fault(why));
  }
  if (outcomes.length === recipients.length) return outcomes;
  const why = `Transport "${transport.name}" answered for ${outcomes.length} of ${recipients.length} recipients`;
  return recipients.map((_, index) => outcomes[index] ?? fault(why));
}
