// One attempt at delivery, for the direct path and the queue alike: asks a transport and makes sure that an answer for
// each recipient comes back, whatever the transport does. Its faults are deferrals (invariant I3).
import type { Recipient } from '../mail/envelope.ts';
import type { DeliveryJob, DeliveryOutcome, Transport } from './transport.ts';

const fault = (why: string): DeliveryOutcome => ({
  kind: 'deferred',
  reply: { code: 451, enhanced: '4.3.0', text: 'Temporary failure, try again later' },
  why,
});

/** One outcome per recipient, in order. Never rejects. */
export async function attempt(
  transport: Transport,
  job: DeliveryJob,
  recipients: readonly Recipient[],
  signal: AbortSignal,
): Promise<readonly DeliveryOutcome[]> {
  let outcomes: readonly DeliveryOutcome[];
  try {
    outcomes = await transport.deliver(job, recipients, signal);
  } catch (error) {
    const why = `Transport "${transport.name}" threw: ${error instanceof Error ? error.message : String(error)}`;
    return recipients.map(() => fault(why));
  }
  if (outcomes.length === recipients.length) return outcomes;
  const why = `Transport "${transport.name}" answered for ${outcomes.length} of ${recipients.length} recipients`;
  return recipients.map((_, index) => outcomes[index] ?? fault(why));
}
