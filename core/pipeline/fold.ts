// How the verdicts of several plugins become one outcome. First answer: whoever does not say `continue` settles the
// hook. Message: plugins run one after the other, each on what those before it made of the message; quarantine is a mark
// that stays while the chain goes on, and a later refusal or discard still wins over it.
import type { Deliverable } from '../mail/deliverable.ts';
import type { Envelope } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { HookName } from '../plugin/contract.ts';
import type { Draft } from './apply-edits.ts';
import type { GateOutcome, MessageOutcome } from './chain.ts';
import { hookTable } from './hook-table.ts';
import type { LoadedEntry } from './loaded-entry.ts';
import type { Decision } from './run-hook.ts';

/** Runs the hook of one entry. */
export type Ask = (entry: LoadedEntry) => Decision | Promise<Decision>;

/** First answer wins; undefined when every plugin continued. `failed`: an entry broke and its `onError` went on. */
export async function firstAnswer(
  entries: readonly LoadedEntry[],
  ask: Ask,
): Promise<{ readonly decision: Decision | undefined; readonly failed: boolean }> {
  let failed = false;
  for (const entry of entries) {
    const asked = ask(entry);
    const decision = asked instanceof Promise ? await asked : asked;
    if (decision.answer.kind !== 'continue') return { decision, failed };
    if (decision.failed) failed = true;
  }
  return { decision: undefined, failed };
}

const settled: GateOutcome = { kind: 'ok', settled: true };
const unopposed: GateOutcome = { kind: 'ok', settled: false };

/** Name under which the trace shows what the gateway itself decided. */
export const gateway = 'postern';

export function refusal(decision: Decision): Extract<GateOutcome, { kind: 'refused' }> | undefined {
  const { answer, plugin } = decision;
  if (answer.kind !== 'reject' && answer.kind !== 'defer') return undefined;
  return { kind: 'refused', reply: answer.reply, plugin, why: answer.why };
}

/** Where somebody must accept and nobody did. An entry that broke may have been the one: then it is no final refusal. */
export function unclaimed(hook: HookName, failed: boolean): Extract<GateOutcome, { kind: 'refused' }> | undefined {
  const rule = hookTable[hook];
  if (!rule.unclaimed) return undefined;
  return failed
    ? { kind: 'refused', reply: rule.failed, plugin: gateway, why: 'Nobody accepted, and a plugin failed' }
    : { kind: 'refused', reply: rule.unclaimed, plugin: gateway, why: 'No plugin accepted' };
}

export async function foldGate(hook: HookName, entries: readonly LoadedEntry[], ask: Ask): Promise<GateOutcome> {
  const { decision, failed } = await firstAnswer(entries, ask);
  if (decision) return refusal(decision) ?? settled;
  return unclaimed(hook, failed) ?? unopposed;
}

/** An outcome that ends the chain at once. */
function finalOutcome({ answer, plugin }: Decision): MessageOutcome | undefined {
  switch (answer.kind) {
    case 'reject':
    case 'defer':
      return { kind: 'refused', reply: answer.reply, plugin, why: answer.why };
    case 'discard':
      return { kind: 'discard', plugin, why: answer.why };
    default:
      return undefined;
  }
}

/** `ask` runs one entry on the message as the entries before it left it. */
export async function foldMessage(
  entries: readonly LoadedEntry[],
  envelope: Envelope,
  message: Message,
  ask: (entry: LoadedEntry, draft: Draft) => Decision | Promise<Decision>,
): Promise<MessageOutcome> {
  let draft: Draft = { message, sender: envelope.sender, recipients: envelope.recipients, originals: new Map() };
  let mark: Required<Pick<Deliverable, 'plugin' | 'reason' | 'why'>> | undefined;
  for (const entry of entries) {
    const asked = ask(entry, draft);
    const decision = asked instanceof Promise ? await asked : asked;
    const { plugin, answer } = decision;
    const outcome = finalOutcome(decision);
    if (outcome) return outcome;
    draft = decision.draft ?? draft;
    if (answer.kind === 'quarantine') mark ??= { plugin, reason: answer.reason ?? 'policy', why: answer.why };
    if (answer.kind === 'accept') break;
  }
  return mark ? { kind: 'quarantine', ...draft, ...mark } : { kind: 'deliver', ...draft };
}
