// The language that users' scripts are written in here, and where their scripts are kept.
import type { Clock } from '../lib/clock.ts';
import { checkScript } from '../sieve/check-script.ts';
import type { Registry } from '../sieve/contract.ts';
import { openScriptStore, type SieveScripts } from '../sieve/script-store.ts';
import { standardRegistry } from '../sieve/standard.ts';
import type { State } from '../state/state.ts';

/** Extensions that this gateway has nothing to answer with: what is not announced is not required in vain. */
const withoutPort = ['extlists', 'mboxmetadata', 'servermetadata', 'mailboxid', 'imapsieve'];

export const ruleRegistry = (): Registry => standardRegistry([], { disable: withoutPort });

export function openScripts(state: State, clock: Clock, registry: Registry): Promise<SieveScripts> {
  return openScriptStore({ state, clock, check: content => checkScript(content, { registry }) });
}
