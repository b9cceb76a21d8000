// What each hook may answer and what the client hears by default. A `Record` over the hook names: a hook that is
// forgotten here does not compile. `connect`, `helo`, `auth`, `sasl`, `mail`, `rcpt` and `deliver` stop at the first answer that
// is not `continue`; `message` chains (each plugin sees the edits of those before it) and its quarantine is sticky.
import type { Reply } from '../mail/reply.ts';
import type { HookName } from '../plugin/contract.ts';
import type { Verdict } from '../plugin/verdicts.ts';

export interface HookRule {
  readonly legal: ReadonlySet<Verdict['kind']>;
  /** What an entry that failed means to the client under `onError: defer`. */
  readonly failed: Reply<4>;
  /** Where somebody must accept: what the client hears when nobody did. */
  readonly unclaimed?: Reply<5>;
}

const gate: HookRule['legal'] = new Set(['continue', 'accept', 'reject', 'defer']);
const failed: Reply<4> = { code: 451, enhanced: '4.3.0', text: 'Temporary local problem, please try again later' };

const login: HookRule = {
  legal: gate,
  // RFC 4954 §6: 454 4.7.0 for a server that cannot check, 535 5.7.8 for credentials that are wrong.
  failed: { code: 454, enhanced: '4.7.0', text: 'Temporary authentication failure' },
  unclaimed: { code: 535, enhanced: '5.7.8', text: 'Authentication credentials invalid' },
};

export const hookTable: Readonly<Record<HookName, HookRule>> = {
  // RFC 5321 §3.8: 421 is the only temporary reply that a client understands before EHLO.
  connect: {
    legal: gate,
    failed: { code: 421, enhanced: '4.3.0', text: 'Service temporarily not available', close: true },
  },
  helo: { legal: gate, failed },
  auth: login,
  sasl: login,
  mail: { legal: gate, failed },
  rcpt: {
    legal: gate,
    failed,
    unclaimed: { code: 550, enhanced: '5.7.1', text: 'Recipient not accepted here' },
  },
  message: { legal: new Set(['continue', 'accept', 'reject', 'defer', 'quarantine', 'discard']), failed },
  deliver: { legal: new Set(['continue', 'accept', 'reject', 'defer', 'discard']), failed },
};

/** In the order of a session. */
export const hookNames = Object.keys(hookTable) as readonly HookName[];

/** A record with a value for each hook. */
export const mapHooks = <T>(value: (hook: HookName) => T): Readonly<Record<HookName, T>> => ({
  connect: value('connect'),
  helo: value('helo'),
  auth: value('auth'),
  sasl: value('sasl'),
  mail: value('mail'),
  rcpt: value('rcpt'),
  message: value('message'),
  deliver: value('deliver'),
});
