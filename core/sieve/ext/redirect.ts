// Action redirect, RFC 5228 §4.2. Loops are stopped twice: by the number of Received fields, and by a field that says
// whose rules sent the message on. The null sender stays null.

import { addressKey, parseOneAddress } from '../addresses.ts';
import type { Complain, Execution, Meeting } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { prependField } from '../edit-message.ts';
import { defineExtension } from '../extension.ts';
import type { OutgoingMail } from '../ports.ts';
import { HostError } from '../ports.ts';
import type { Entry } from '../result.ts';
import type { SieveSettings } from '../settings.ts';

const loopField = 'X-Sieve-Redirected-From';

/** RFC 5228 §2.4.2.3 */
export function checkOutboundAddress(text: string, complain: Complain): void {
  if (!parseOneAddress(text)) complain(`${quote(text)} is not a valid address`);
}

/** RFC 5228 §4.2, for settings `redirectFrom` and `notify.from`; the null sender stays null. */
export function senderBySetting(
  choice: SieveSettings['redirectFrom'] | Exclude<SieveSettings['notify']['from'], 'default'>,
  execution: Execution,
): string {
  const { envelope } = execution;
  if (choice === 'null' || envelope.from === '') return '';
  if (choice === 'sender') return envelope.from;
  if (choice === 'recipient') return envelope.to;
  if (choice === 'original-recipient') return envelope.originalTo ?? envelope.to;
  if (choice === 'user') return ownerOf(execution);
  return choice.fixed;
}

export const ownerOf = (execution: Execution): string => execution.setting('userAddress') ?? execution.envelope.to;

function meets(entry: Entry, earlier: Entry): Meeting {
  if (earlier.action === 'reject' || earlier.action === 'ereject')
    return { conflict: `Action 'redirect' cannot be combined with '${earlier.action}' (line ${earlier.line})` };
  if (earlier.action !== 'redirect') return 'both';
  const same = (key: string): boolean =>
    addressKey(String(entry.arguments[key] ?? '')) === addressKey(String(earlier.arguments[key] ?? ''));
  return same('address') && same('list') ? 'drop' : 'both';
}

function refuseLoop(execution: Execution): void {
  const { headers } = execution.original;
  const hops = headers.all('received').length;
  const owner = addressKey(ownerOf(execution));
  if (hops > execution.setting('redirectMaxHops'))
    throw new HostError('permanent', `Message has passed ${hops} servers, redirecting it looks like a loop`);
  if (headers.all(loopField).some(field => addressKey(field.value.replace(/^<|>$/g, '')) === owner))
    throw new HostError('permanent', 'Message was redirected from here before, this is a loop');
}

async function recipients(entry: Entry, execution: Execution): Promise<readonly string[]> {
  const { address, list } = entry.arguments;
  if (typeof list !== 'string') return [parseOneAddress(String(address))?.text ?? String(address)];
  const members = await execution.host.lists?.members?.(list);
  if (!members) throw new HostError('permanent', `Members of list ${quote(list)} cannot be had`);
  return members;
}

async function execute(entry: Entry, execution: Execution): Promise<void> {
  refuseLoop(execution);
  const to = await recipients(entry, execution);
  const message = prependField(entry.message, loopField, `<${ownerOf(execution)}>`);
  const from = senderBySetting(execution.setting('redirectFrom'), execution);
  const { dsn, deliverBy } = entry.arguments as Pick<OutgoingMail, 'dsn' | 'deliverBy'>;
  await execution.send({
    from,
    to,
    message: message.rope,
    reason: 'redirect',
    ...(dsn ? { dsn } : {}),
    ...(deliverBy ? { deliverBy } : {}),
  });
  execution.detail = `sent to ${to.join(', ')}`;
}

export const redirect = defineExtension({
  name: 'redirect',
  always: true,
  hidden: true,
  commands: [
    {
      name: 'redirect',
      arguments: [{ name: 'address', type: 'string', check: checkOutboundAddress }],
      run: call => call.act({ action: 'redirect', arguments: { address: call.string('address') }, cancelsKeep: true }),
    },
  ],
  actions: [{ name: 'redirect', meets, sends: true, prepare: async (_, execution) => refuseLoop(execution), execute }],
});
