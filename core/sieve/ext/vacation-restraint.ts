// When vacation does not answer: RFC 5230 §4.5, §4.6 and RFC 3834 §2. A machine, a list, somebody who wrote to somebody
// else and the owner never get a reply.

import { addressKey, parseAddressList, parseOneAddress } from '../addresses.ts';
import type { Execution } from '../contract.ts';
import type { Entry } from '../result.ts';

const robots =
  /^(mailer-daemon|listserv|majordomo|mailman|postmaster-bounces|noreply|no-reply|do-not-reply|donotreply|bounces?|owner-.*|.*-(owner|request|relay|bounces?|outgoing|errors))$/i;

const recipientFields = ['to', 'cc', 'bcc', 'resent-to', 'resent-cc', 'resent-bcc'];

function ownAddresses(entry: Entry, execution: Execution): ReadonlySet<string> {
  const { envelope } = execution;
  const original = execution.setting('vacation').useOriginalRecipient ? envelope.originalTo : undefined;
  const given = (entry.arguments['addresses'] as readonly string[] | undefined) ?? [];
  const all = [
    envelope.to,
    execution.setting('userAddress'),
    original,
    ...execution.setting('userAddresses'),
    ...given.map(address => parseOneAddress(address)?.text ?? address),
  ];
  return new Set(all.filter(address => address !== undefined).map(addressKey));
}

/** The reason for silence as a sentence, or undefined: answer. */
export function whySilent(entry: Entry, execution: Execution): string | undefined {
  const { headers } = entry.message;
  const sender = execution.envelope.from;
  if (sender === '') return 'no reply: the sender is null';
  const address = parseOneAddress(sender);
  if (!address) return 'no reply: the sender is not a valid address';
  if (robots.test(address.local)) return `no reply: ${sender} is a machine`;
  const own = ownAddresses(entry, execution);
  if (own.has(addressKey(sender))) return 'no reply: the owner is the sender';
  const list = [...headers].find(field => /^list-/i.test(field.name));
  if (list) return `no reply: the message came through a list (${list.name})`;
  const automatic = headers.all('auto-submitted').find(field => !/^no\b/i.test(field.value));
  if (automatic) return 'no reply: the message was sent automatically (Auto-Submitted)';
  const precedence = headers.all('precedence').find(field => /^(bulk|list|junk)\b/i.test(field.value));
  if (precedence) return `no reply: Precedence is ${precedence.value}`;
  const suppress = headers.all('x-auto-response-suppress').find(field => /\b(all|oof)\b/i.test(field.value));
  if (suppress) return 'no reply: the sender asks for none (X-Auto-Response-Suppress)';
  // RFC 5230 §4.6
  if (execution.setting('vacation').skipRecipientCheck) return undefined;
  const named = recipientFields.some(name =>
    headers.all(name).some(field => parseAddressList(field.value).some(to => own.has(addressKey(to.text)))),
  );
  return named ? undefined : 'no reply: no address of the owner stands in To, Cc or Bcc';
}
