// Asks the chain's `deliver` hook before the route's own transport: a plugin may deliver a recipient itself, drop it, or
// refuse it. The direct path and the queue both come through here.
import type { Recipient } from '../mail/envelope.ts';
import { readMessage } from '../mail/message.ts';
import type { TraceStep } from '../mail/trace.ts';
import type { Chain, DeliverOutcome } from '../pipeline/chain.ts';
import type { Session } from '../plugin/contract.ts';
import { attempt } from '../queue/attempt.ts';
import type { DeliveryJob, DeliveryOutcome, Transport } from '../queue/transport.ts';

/** The session is long over when the queue delivers: what is known of it was kept with the message. */
function sessionOf(job: DeliveryJob): Session {
  const { client } = job;
  return {
    id: job.id,
    listener: 'queue',
    role: 'smtp',
    local: { address: '', port: 0 },
    remote: {
      address: client?.address ?? '',
      port: client?.port ?? 0,
      ...(client?.name === undefined ? {} : { name: client.name }),
    },
  };
}

/** What the plugin says it did: evidence of its step, or nothing. */
function saidBy(plugin: string, steps: readonly TraceStep[]): string {
  const evidence = steps.findLast(step => step.plugin === plugin)?.evidence ?? {};
  const said = Object.values(evidence).map(String).join('; ');
  return said === '' ? '' : `: ${said}`;
}

function outcomeOf(outcome: Exclude<DeliverOutcome, { kind: 'route' }>, steps: readonly TraceStep[]): DeliveryOutcome {
  if (outcome.kind !== 'refused') {
    if (outcome.kind === 'delivered')
      return { kind: 'delivered', detail: `by plugin ${outcome.plugin}${saidBy(outcome.plugin, steps)}` };
    return { kind: 'delivered', detail: `discarded by plugin ${outcome.plugin}: ${outcome.why ?? ''}` };
  }
  const { reply, why } = outcome;
  return reply.code >= 500
    ? { kind: 'failed', reply: reply as Extract<DeliveryOutcome, { kind: 'failed' }>['reply'], why }
    : { kind: 'deferred', reply: reply as Extract<DeliveryOutcome, { kind: 'deferred' }>['reply'], why };
}

export function withDeliverHook(transport: Transport, chain: () => Chain): Transport {
  return {
    name: transport.name,
    async deliver(job, recipients, stop) {
      const current = chain();
      if (!current.delivers) return transport.deliver(job, recipients, stop);
      const message = job.message ?? (await readMessage(job.form));
      const { client } = job;
      const request = {
        id: job.id,
        session: sessionOf(job),
        helo: client?.helo ?? '',
        ...(client?.identity === undefined ? {} : { identity: { name: client.identity, mechanism: '' } }),
        envelope: { ...job.envelope, sender: job.sender, recipients: job.recipients },
        message,
        stop,
      };
      const asked = await Promise.all(recipients.map(recipient => current.deliver(request, recipient)));
      const rest = recipients.filter((_, index) => asked[index]?.outcome.kind === 'route');
      // Whatever the route's transport does, what plugins delivered is delivered.
      const routed = rest.length > 0 ? await attempt(transport, job, rest, stop) : [];
      const byRecipient = new Map<Recipient, DeliveryOutcome | undefined>(
        rest.map((recipient, index) => [recipient, routed[index]]),
      );
      return recipients.map((recipient, index) => {
        const { outcome, steps = [] } = asked[index] ?? {};
        if (outcome !== undefined && outcome.kind !== 'route') return { ...outcomeOf(outcome, steps), steps };
        const given = byRecipient.get(recipient);
        if (!given) throw new Error(`Transport '${transport.name}' gave no outcome for a recipient`);
        return { ...given, steps };
      });
    },
  };
}
