// Mail that the gateway itself makes (a plugin's notice, an automatic reply): past the chain, straight to delivery, with
// a trace of its own. It begins with the queue where it cannot be settled at once, as all mail does.
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import { needsSmtputf8, parseMailbox } from '../mail/address.ts';
import type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
import { type Message, readMessage } from '../mail/message.ts';
import type { Reply } from '../mail/reply.ts';
import { bufferRope } from '../mail/rope.ts';
import type { TraceSink } from '../mail/trace.ts';
import type { Host } from '../plugin/contract.ts';
import type { Settle } from '../smtp/ports.ts';

export interface SubmitterParts {
  readonly settle: Settle;
  readonly clock: Clock;
  readonly traceSink: TraceSink;
  /** Signatures for what plugins write. */
  readonly sign?: (message: Message) => Promise<Message>;
}

/** Mail of our own with all that an envelope may say. */
export interface OwnMail {
  readonly sender: ReversePath;
  readonly recipients: readonly Recipient[];
  readonly message: Message;
  /** Shown in the trace as where it came from. */
  readonly origin: string;
  readonly envelope?: Pick<Envelope, 'ret' | 'envid'>;
}

export interface Submitter {
  readonly submit: Host['submit'];
  /** Resolves to the queue id once the mail is durable or delivered. Rejects with `NotSubmittedError`. */
  send(mail: OwnMail): Promise<string>;
}

/** Nobody has taken the mail; `reply` is what a client would have heard. */
export class NotSubmittedError extends Error {
  override readonly name = 'NotSubmittedError';
  readonly reply: Reply;
  constructor(origin: string, reply: Reply) {
    super(`Cannot submit mail from '${origin}': ${reply.code} ${reply.text}`);
    this.reply = reply;
  }
}

function recipientOf(text: string): Recipient {
  const parsed = parseMailbox(text);
  if (parsed.kind !== 'address') throw new Error(`Cannot submit mail to '${text}': not an address`);
  return { address: parsed.address };
}

export function createSubmitter(parts: SubmitterParts): Submitter {
  const { clock } = parts;

  async function send(mail: OwnMail): Promise<string> {
    const id = randomId(clock.now());
    const receivedAt = clock.now();
    const begun = clock.monotonic();
    const { sender, recipients, message } = mail;
    const smtputf8 = [...recipients.map(each => each.address), ...(sender ? [sender] : [])].some(needsSmtputf8);
    const envelope: Envelope = { sender, recipients, smtputf8, requireTls: false, ...mail.envelope };
    const settlement = await parts.settle({
      id,
      receivedAt,
      envelope,
      deliverable: { kind: 'deliver', message, sender, recipients, originals: new Map() },
      signal: { aborted: false },
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
    if (reply.code >= 300) throw new NotSubmittedError(mail.origin, reply);
    return id;
  }

  return {
    send,
    async submit(mail) {
      const sender = mail.sender === null ? null : recipientOf(mail.sender).address;
      const recipients = mail.recipients.map(recipientOf);
      const message = await readMessage(bufferRope(mail.bytes));
      return send({ sender, recipients, message: (await parts.sign?.(message)) ?? message, origin: mail.origin });
    },
  };
}
