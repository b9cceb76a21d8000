// Mail that comes by another way than a listener goes through the same chain, with the same hooks in the same order, and
// leaves the same trace; then into the queue.
import type { Logger } from 'pino';
import type { Inject, IntakeMail, IntakeResult } from '../intake/ports.ts';
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import { needsSmtputf8 } from '../mail/address.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import { type Message, readMessage } from '../mail/message.ts';
import { type Reply, replies } from '../mail/reply.ts';
import { bufferRope, concatRopes } from '../mail/rope.ts';
import type { TraceRecipient, TraceSink } from '../mail/trace.ts';
import type { Chain, ChainSession, GateOutcome } from '../pipeline/chain.ts';
import type { Session } from '../plugin/contract.ts';
import type { Enqueuer, Refused } from '../queue/enqueue.ts';
import type { Settle } from '../smtp/ports.ts';

export interface InjectorParts {
  readonly chain: () => Chain;
  readonly enqueuer: Enqueuer;
  /** For what the chain quarantines. */
  readonly settle: Settle;
  readonly hostname: string;
  readonly clock: Clock;
  readonly trace: TraceSink;
  readonly log: Logger;
}

/** What the chain said: who gets it, or why nobody does. */
type Passed =
  | { readonly kind: 'refused'; readonly reply: Reply<4 | 5>; readonly why: string }
  | { readonly kind: 'accepted'; readonly recipients: readonly Recipient[]; readonly refused: readonly Refused[] };

const relayingDenied: Reply<5> = replies.relayDenied;

const refusalOf = (outcome: GateOutcome): { readonly reply: Reply<4 | 5>; readonly why: string } | undefined =>
  outcome.kind === 'refused' ? { reply: outcome.reply, why: `${outcome.plugin}: ${outcome.why}` } : undefined;

/** Everything before the data. */
async function envelopeStage(
  session: ChainSession,
  mail: IntakeMail,
  id: string,
  envelope: Envelope,
  message: Message,
): Promise<Passed> {
  const empty = { ...envelope, recipients: [] };
  for (const gate of [
    () => session.connect(),
    () => session.helo(mail.client.helo),
    () => session.mail(id, { ...empty, declaredSize: message.size }),
  ]) {
    const refusal = refusalOf(await gate());
    if (refusal) return { kind: 'refused', ...refusal };
  }
  const recipients: Recipient[] = [];
  const refused: Refused[] = [];
  for (const recipient of envelope.recipients) {
    const outcome = await session.rcpt({ ...envelope, recipients }, recipient);
    const refusal =
      refusalOf(outcome) ??
      (outcome.kind === 'ok' && !outcome.settled ? { reply: relayingDenied, why: 'nobody accepted' } : undefined);
    if (!refusal) recipients.push(recipient);
    else if (refusal.reply.code < 500 && !mail.last) return { kind: 'refused', ...refusal };
    else refused.push({ recipient, ...refusal });
  }
  const [first] = refused;
  if (recipients.length === 0 && first) return { kind: 'refused', reply: first.reply, why: first.why };
  return { kind: 'accepted', recipients, refused };
}

export function createInjector(parts: InjectorParts): Inject {
  const { clock, enqueuer } = parts;

  async function inject(mail: IntakeMail): Promise<IntakeResult> {
    const id = randomId(clock.now());
    const begun = clock.monotonic();
    const facts: Session = {
      id,
      listener: mail.origin,
      role: mail.role,
      local: { address: '127.0.0.1', port: 0 },
      remote: { address: mail.client.address, port: 0 },
    };
    const session = parts.chain().openSession(facts);
    try {
      if (mail.identity) session.update(facts, mail.identity);
      const message = await readMessage(concatRopes(bufferRope(mail.trace(id)), mail.message));
      const all = [...mail.envelope.recipients.map(each => each.address), mail.envelope.sender];
      const smtputf8 = all.some(address => address !== null && needsSmtputf8(address));
      const envelope: Envelope = { ...mail.envelope, body: '8BITMIME', smtputf8, requireTls: false };
      const outcome = await decide(session, mail, id, envelope, message);
      record(session, mail, id, message, begun, outcome);
      return outcome;
    } finally {
      session.endTransaction();
      session.end();
    }
  }

  async function decide(
    session: ChainSession,
    mail: IntakeMail,
    id: string,
    envelope: Envelope,
    message: Message,
  ): Promise<IntakeResult> {
    const request = {
      id,
      receivedAt: mail.receivedAt,
      signal: new AbortController().signal,
      forged: mail.refusals === 'tell',
      client: {
        address: mail.client.address,
        helo: mail.client.helo,
        protocol: 'ESMTP',
        // Nobody repeats it for us: a recipient's own 4xx is queued.
        identity: mail.identity?.name ?? mail.origin,
      },
    };
    const refuse = async (reply: Reply<4 | 5>, why: string): Promise<IntakeResult> => {
      if (reply.code < 500 && !mail.last) return { kind: 'deferred', id, reply: reply as Reply<4>, why };
      if (mail.refusals === 'tell') return { kind: 'refused', id, reply: reply as Reply<5>, why };
      const nobody = {
        kind: 'deliver',
        message,
        sender: envelope.sender,
        recipients: [],
        originals: new Map(),
      } as const;
      const refused = envelope.recipients.map(recipient => ({ recipient, reply, why }));
      await enqueuer.enqueue({ ...request, envelope, deliverable: nobody }, refused, mail.also('refused'));
      return { kind: 'taken', id };
    };

    const passed = await envelopeStage(session, mail, id, envelope, message);
    if (passed.kind === 'refused') return refuse(passed.reply, passed.why);
    const accepted: Envelope = { ...envelope, recipients: passed.recipients };
    const outcome = await session.message(accepted, message);
    if (outcome.kind === 'refused') return refuse(outcome.reply, `${outcome.plugin}: ${outcome.why}`);
    if (outcome.kind === 'discard') {
      const none = { kind: 'deliver', message, sender: null, recipients: [], originals: new Map() } as const;
      await enqueuer.enqueue({ ...request, envelope: accepted, deliverable: none }, passed.refused, mail.also('taken'));
      return { kind: 'taken', id };
    }
    if (outcome.kind === 'quarantine') {
      const settled = await parts.settle({ ...request, envelope: accepted, deliverable: outcome });
      if (settled.reply.code >= 300) return refuse(settled.reply as Reply<4 | 5>, 'cannot be quarantined');
      const none = { ...outcome, kind: 'deliver', recipients: [] } as const;
      await enqueuer.enqueue({ ...request, envelope: accepted, deliverable: none }, passed.refused, mail.also('taken'));
      return { kind: 'taken', id };
    }
    await enqueuer.enqueue(
      { ...request, envelope: accepted, deliverable: outcome },
      passed.refused,
      mail.also('taken'),
    );
    return { kind: 'taken', id };
  }

  function record(
    session: ChainSession,
    mail: IntakeMail,
    id: string,
    message: Message,
    begun: number,
    result: IntakeResult,
  ): void {
    const subject = message.headers.get('subject')?.value;
    const outcome = { taken: 'accepted', refused: 'rejected', deferred: 'deferred' }[result.kind];
    const each = (address: string): TraceRecipient =>
      result.kind === 'taken' ? { address, outcome: 'queued' } : { address, outcome, detail: result.why };
    parts.trace.record({
      id,
      sessionId: id,
      receivedAt: mail.receivedAt,
      listener: mail.origin,
      client: {
        address: mail.client.address,
        port: 0,
        helo: mail.client.helo,
        ...(mail.identity ? { identity: mail.identity.name } : {}),
      },
      sender: mail.envelope.sender?.text ?? '',
      size: message.size,
      ...(subject === undefined ? {} : { subject }),
      steps: session.steps(),
      recipients: mail.envelope.recipients.map(({ address }) => each(address.text)),
      reply:
        result.kind === 'taken'
          ? `250 2.0.0 Accepted as ${id}`
          : `${result.reply.code} ${result.reply.enhanced} ${result.reply.text}`,
      outcome,
      ms: clock.monotonic() - begun,
    });
  }

  return async mail => {
    try {
      return await inject(mail);
    } catch (error) {
      parts.log.error({ err: error, origin: mail.origin }, 'Mail cannot be taken now');
      return { kind: 'deferred', id: '', reply: replies.tryLater, why: (error as Error).message };
    }
  };
}
