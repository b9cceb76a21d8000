// Mail that the gateway itself makes (a plugin's notice, an automatic reply): past the chain, straight to delivery, with
// a trace of its own. It begins with the queue where it cannot be settled at once, as all mail does.
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import { parseMailbox } from '../mail/address.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import { readMessage } from '../mail/message.ts';
import { bufferRope } from '../mail/rope.ts';
import type { TraceSink } from '../mail/trace.ts';
import type { Host } from '../plugin/contract.ts';
import type { Settle } from '../smtp/ports.ts';

export interface SubmitterParts {
  readonly settle: Settle;
  readonly clock: Clock;
  readonly traceSink: TraceSink;
}

function recipientOf(text: string): Recipient {
  const parsed = parseMailbox(text);
  if (parsed.kind !== 'address') throw new Error(`Cannot submit mail to '${text}': not an address`);
  return { address: parsed.address };
}

export function createSubmitter(parts: SubmitterParts): { readonly submit: Host['submit'] } {
  return {
    async submit(mail) {
      const { clock } = parts;
      const id = randomId(clock.now());
      const receivedAt = clock.now();
      const begun = clock.monotonic();
      const sender = mail.sender === null ? null : recipientOf(mail.sender).address;
      const recipients = mail.recipients.map(recipientOf);
      const envelope: Envelope = { sender, recipients, smtputf8: false, requireTls: false };
      const message = await readMessage(bufferRope(mail.bytes));
      const settlement = await parts.settle({
        id,
        receivedAt,
        envelope,
        deliverable: { kind: 'deliver', message, sender, recipients, originals: new Map() },
        signal: new AbortController().signal,
      });
      const { reply } = settlement;
      const subject = message.headers.get('subject')?.value;
      parts.traceSink.record({
        id,
        sessionId: id,
        receivedAt,
        listener: mail.origin,
        client: { address: 'local', port: 0, helo: mail.origin },
        sender: sender?.text ?? '',
        size: message.size,
        ...(subject === undefined ? {} : { subject }),
        steps: [],
        recipients: settlement.recipients,
        reply: `${reply.code} ${reply.enhanced} ${reply.text}`,
        outcome: reply.code < 300 ? 'accepted' : reply.code < 500 ? 'deferred' : 'rejected',
        ms: clock.monotonic() - begun,
      });
      if (reply.code >= 300) throw new Error(`Cannot submit mail from '${mail.origin}': ${reply.code} ${reply.text}`);
      return id;
    },
  };
}
