// The languages that scripts are written in here, and where users' scripts are kept.
import type { Clock } from '../lib/clock.ts';
import { checkScript } from '../sieve/check-script.ts';
import type { Registry } from '../sieve/contract.ts';
import { openScriptStore, type SieveScripts } from '../sieve/script-store.ts';
import { standardRegistry } from '../sieve/standard.ts';
import type { State } from '../state/state.ts';

const programWords = ['vnd.dovecot.pipe', 'vnd.dovecot.filter', 'vnd.dovecot.execute'];

export interface Language {
  /** For scripts that IMAP commands start (RFC 6785): at delivery `imapsieve` is unknown. */
  readonly imap?: boolean;
  /** For scripts of the gateway, where the administrator has named a folder of programs. */
  readonly programs?: boolean;
}

export const ruleRegistry = ({ imap = false, programs = false }: Language = {}): Registry =>
  standardRegistry([], { disable: imap ? [] : ['imapsieve'], enable: programs ? programWords : [] });

/** What users may store: for delivery or for IMAP commands. Only what can run at delivery can be active. */
export function openScripts(state: State, clock: Clock): Promise<SieveScripts> {
  const stored = ruleRegistry({ imap: true });
  const delivery = ruleRegistry();
  return openScriptStore({
    state,
    clock,
    check: content => checkScript(content, { registry: stored }),
    checkActive: content => checkScript(content, { registry: delivery }),
  });
}
