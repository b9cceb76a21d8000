// The `deliver` hook: asked once per recipient, before the reply or much later from the queue, so it has no session of
// its own and annotations of the earlier hooks are gone.
import { Cancellation } from '../lib/cancellation.ts';
import type { Recipient } from '../mail/envelope.ts';
import type { Chain, DeliverOutcome, DeliverRequest } from './chain.ts';
import { Steps } from './chain-session.ts';
import { firstAnswer, refusal } from './fold.ts';
import type { Stage } from './hook-context.ts';
import type { LoadedEntry } from './loaded-entry.ts';
import { Results } from './results.ts';
import { type Decision, HookCall, type HookRunner } from './run-hook.ts';

function outcomeOf(decision: Decision | undefined): DeliverOutcome {
  if (!decision) return { kind: 'route' };
  const { plugin, answer } = decision;
  if (answer.kind === 'discard') return { kind: 'discard', plugin, why: answer.why };
  return refusal(decision) ?? { kind: 'delivered', plugin };
}

export async function deliverHook(
  entries: readonly LoadedEntry[],
  runner: HookRunner,
  request: DeliverRequest,
  to: Recipient,
): ReturnType<Chain['deliver']> {
  const steps = new Steps(runner.clock.monotonic());
  const stage: Stage = {
    session: request.session,
    helo: request.helo,
    identity: request.identity,
    envelope: request.envelope,
    id: request.id,
    message: request.message,
    sessionResults: new Results(),
    transactionResults: new Results(),
    parent: request.stop ?? new Cancellation(),
  };
  const { decision } = await firstAnswer(entries, entry =>
    new HookCall(runner, entry, 'deliver', stage, steps).run(to),
  );
  return { outcome: outcomeOf(decision), steps: steps.list };
}
