// RFC 6785: the script runs because of an IMAP command. The host says what happened through `environment`; the message is
// not new, so what only makes sense at delivery is an error, and nothing is "kept" because it is there already.
import type { Call } from '../contract.ts';
import { defineExtension } from '../extension.ts';
import { setInternalFlags } from './imap4flags.ts';

export const imapsieve = defineExtension({
  name: 'imapsieve',
  implies: ['environment', 'imap4flags'],
  begin(run) {
    const flags = run.host.environment?.('imap.flags');
    if (flags !== undefined) setInternalFlags(run, [flags]);
  },
});

/** RFC 6785 §3.10, §4.6: there is no delivery and no envelope here. */
export function refuseInImap(call: Call): void {
  if (call.run.setting('imap'))
    throw call.error(`'${call.name}' cannot be used in a script that an IMAP command started`);
}
