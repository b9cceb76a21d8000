// Rules for mailboxes on a next hop: filing and flags are told in what another mail server understands. Fields of these
// names from outside were removed by the chain entry, so the next hop may believe them.
import { Cancellation } from '../lib/cancellation.ts';
import type { Clock } from '../lib/clock.ts';
import { makeAddress } from '../mail/address.ts';
import { encodeWords } from '../mail/encoded-words.ts';
import type { Recipient } from '../mail/envelope.ts';
import { bufferRope, concatRopes, type Rope } from '../mail/rope.ts';
import type { RuleOptions, WithMessage } from '../plugin/contract.ts';
import type { DeliveryOutcome, RouteLookup } from '../queue/transport.ts';
import { HostError, type MailboxPort, type StoreRequest } from '../sieve/ports.ts';

export interface NextHopParts {
  readonly routes: RouteLookup;
  readonly clock: Clock;
  readonly recipientDelimiter: string;
}

const isInbox = (name: string): boolean => name.toUpperCase() === 'INBOX';

/** Fields in front of the message that say what the rules decided. */
function marks({ mailbox, flags, specialUse }: StoreRequest, options: RuleOptions['nextHop']): Rope {
  const junk =
    specialUse?.toLowerCase() === '\\junk' ||
    options.junkMailboxes.some(name => name.toLowerCase() === mailbox.toLowerCase()) ||
    flags.some(flag => flag.toLowerCase() === '$junk');
  const fields: (readonly [string, string])[] = [];
  if (!isInbox(mailbox) && options.mailboxField !== '') fields.push([options.mailboxField, encodeWords(mailbox)]);
  if (flags.length > 0 && options.flagsField !== '') fields.push([options.flagsField, encodeWords(flags.join(' '))]);
  if (junk) fields.push(...Object.entries(options.junkFields));
  return bufferRope(Buffer.from(fields.map(([name, value]) => `${name}: ${value}\r\n`).join(''), 'latin1'));
}

/** `bob@inner` → `bob+Lists@inner`, where the name of the mailbox can stand in an address. */
function addressed(to: Recipient, mailbox: string, delimiter: string): Recipient {
  if (isInbox(mailbox) || delimiter === '' || !/^[\w.-]+$/.test(mailbox)) return to;
  const { local, domain } = to.address;
  const at = local.indexOf(delimiter, 1);
  return { ...to, address: makeAddress(`${at < 0 ? local : local.slice(0, at)}${delimiter}${mailbox}`, domain) };
}

/** Every mailbox exists as far as we know. `failed` hears what the next hop said to a message that it did not take. */
export function nextHopPort(
  at: WithMessage,
  to: Recipient,
  parts: NextHopParts,
  options: RuleOptions['nextHop'],
  failed: (outcome: Exclude<DeliveryOutcome, { kind: 'delivered' }>) => void,
): MailboxPort {
  const { recipients: _, sender, ...envelope } = at.envelope;
  return {
    exists: async () => true,
    async store(request) {
      const recipient = options.subaddress ? addressed(to, request.mailbox, parts.recipientDelimiter) : to;
      const answer = await parts.routes(to);
      if (answer.kind !== 'route') throw new HostError('temporary', answer.why);
      const job = {
        id: at.id,
        sender,
        envelope,
        form: concatRopes(marks(request, options), request.message),
        recipients: [recipient],
        receivedAt: parts.clock.now(),
        client: { address: at.session.remote.address, port: at.session.remote.port, helo: at.helo },
      };
      const [outcome] = await answer.route.transport.deliver(job, [recipient], Cancellation.following(at.signal));
      if (outcome === undefined) throw new HostError('temporary', 'The transport gave no outcome');
      if (outcome.kind === 'delivered') return;
      failed(outcome);
      throw new HostError(outcome.kind === 'failed' ? 'permanent' : 'temporary', outcome.why);
    },
  };
}
