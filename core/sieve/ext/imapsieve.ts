// RFC 6785: the script runs because of an IMAP command. The host says what happened through `environment`; the message is
// not new, so what only makes sense at delivery is an error, and nothing is "kept" because it is there already.
import type { Call } from '../contract.ts';
import { defineExtension } from '../extension.ts';

export const imapsieve = defineExtension({
  name: 'imapsieve',
  implies: ['environment', 'imap4flags'],
  // RFC 6785 §3.11
  conflicts: ['reject', 'ereject', 'vacation', 'vacation-seconds'],
});

/** RFC 6785 §3.11, §4.6: there is no delivery and no envelope here. */
export function refuseInImap(call: Call): void {
  if (call.run.setting('occasion') === 'imap-event')
    throw call.error(`'${call.name}' cannot be used in a script that an IMAP command started`);
}

/**
 * For actions that answer a delivery: true where there is none to answer and nothing is to be done
 * (draft-bosch-imap-filter-sieve-00 §4.10).
 */
export function answersNothing(call: Call): boolean {
  refuseInImap(call);
  return call.run.setting('occasion') === 'filter';
}
