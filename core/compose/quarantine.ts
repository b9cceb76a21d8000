// The quarantine as the settling of mail needs it, and as an administrator works with it. A release hands the message to
// the queue in the same transaction that marks it as released: a second release sends nothing, whatever crashes between.
import path from 'node:path';
import type { Logger } from 'pino';
import type { LoadedConfig } from '../config/load.ts';
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import type { QuarantineReason } from '../mail/deliverable.ts';
import { type Message, readMessage } from '../mail/message.ts';
import type { TraceEnd } from '../mail/trace.ts';
import type { Chain, Lesson } from '../pipeline/chain.ts';
import { type NewKeptMail, originalId, type StoredMail, unreleased } from '../quarantine/kept-mail.ts';
import type { KeptQuery } from '../quarantine/query.ts';
import { type KeptCounts, type KeptLimits, type KeptMailStore, openKeptMail } from '../quarantine/store.ts';
import { pendingRecipient, type QueuedMessage, type QueuePolicy } from '../queue/entry.ts';
import type { Settlement, SettleRequest } from '../queue/judge.ts';
import type { Quarantine } from '../queue/settle.ts';
import type { QueueStore } from '../queue/store.ts';
import { type State, StateError } from '../state/state.ts';
import type { TraceStore } from '../state/trace-store.ts';

export const quarantineLimits = ({ options }: LoadedConfig): KeptLimits => ({
  retentionMs: options.quarantine.retention,
  reasons: options.quarantine.reasons satisfies Partial<Record<QuarantineReason, number>>,
  maxBytes: options.quarantine.maxSize,
});

/** `config`: the one that counts now. */
export function openQuarantine(
  state: State,
  dataFolder: string,
  config: () => LoadedConfig,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): Promise<KeptMailStore> {
  return openKeptMail({
    state,
    folder: path.join(dataFolder, 'quarantine'),
    clock,
    limits: () => quarantineLimits(config()),
    warn: (message, details) => log.warn(details, message),
  });
}

function described(
  request: SettleRequest,
  message: Message,
  end: TraceEnd,
): Omit<NewKeptMail, 'id' | 'reason' | 'plugin' | 'why'> {
  const { sender: _sender, recipients: _recipients, ...envelope } = request.envelope;
  const { deliverable, client } = request;
  const subject = message.headers.get('subject')?.value;
  const messageId = message.headers.get('message-id')?.value;
  const trace = request.trace?.(end);
  return {
    message: request.id,
    receivedAt: request.receivedAt,
    ...(subject === undefined ? {} : { subject }),
    ...(messageId === undefined ? {} : { messageId }),
    facts: {
      sender: deliverable.sender,
      recipients: deliverable.recipients,
      originals: Object.fromEntries(deliverable.originals),
      envelope,
      ...(client === undefined ? {} : { client }),
    },
    form: message.rope,
    ...(trace === undefined ? {} : { trace }),
  };
}

const replyOf = ({ reply }: Settlement): string => `${reply.code} ${reply.enhanced} ${reply.text}`;

/** What the settler asks for. */
export function createQuarantine(store: KeptMailStore): Quarantine {
  return {
    hold(request, settlement) {
      const { plugin = '', reason = 'policy', why = '' } = request.deliverable;
      const end: TraceEnd = {
        outcome: 'quarantined',
        reply: replyOf(settlement),
        recipients: settlement.recipients,
      };
      const { message } = request.deliverable;
      return store.keep({ id: request.id, reason, plugin, why, ...described(request, message, end) });
    },
    keep(request, { message, plugin, reason, why }) {
      const end: TraceEnd = { outcome: 'accepted', reply: '' };
      return store.keep({ id: originalId(request.id), reason, plugin, why, ...described(request, message, end) });
    },
    async conclude(request, settlement) {
      if (!settlement) {
        await store.remove([originalId(request.id)]);
        return;
      }
      const outcome = request.deliverable.kind === 'quarantine' ? 'quarantined' : 'accepted';
      const trace = request.trace?.({ outcome, reply: replyOf(settlement), recipients: settlement.recipients });
      if (trace) await store.retrace(originalId(request.id), trace);
    },
  };
}

export type ReleaseResult =
  | { readonly kind: 'released'; readonly queueId: string; readonly recipients: readonly string[] }
  /** Before: nothing was sent now. */
  | { readonly kind: 'already'; readonly recipients: readonly string[] }
  | { readonly kind: 'unknown' }
  /** Addresses that the message was not sent to. */
  | { readonly kind: 'strangers'; readonly addresses: readonly string[] };

export interface QuarantineAdmin {
  list(query: KeptQuery): Promise<readonly StoredMail[]>;
  /** By its id, or by the queue id of the message whose original it is. */
  show(id: string): Promise<StoredMail | undefined>;
  message(mail: StoredMail): Promise<Message>;
  /** To all of its recipients, or to those of them that `to` names. */
  release(id: string, to?: readonly string[]): Promise<ReleaseResult>;
  /** Resolves to how many there were. */
  delete(ids: readonly string[]): Promise<number>;
  counts(): Promise<KeptCounts>;
}

export interface QuarantineParts {
  readonly store: KeptMailStore;
  readonly queue: QueueStore;
  readonly policy: QueuePolicy;
  readonly traces: TraceStore;
  readonly clock: Clock;
  /** There is new work in the queue. */
  readonly wake?: () => void;
}

/** The sender of such mail is not told when a released message cannot be delivered: it is probably somebody else. */
const unreported: ReadonlySet<string> = new Set<QuarantineReason>(['forged', 'virus']);

export function createQuarantineAdmin(parts: QuarantineParts): QuarantineAdmin {
  const { store, queue, policy, traces, clock } = parts;

  async function show(id: string): Promise<StoredMail | undefined> {
    const exact = await store.find(id);
    if (exact) return exact;
    const [related] = await store.search({ message: id, limit: 1 });
    return related;
  }

  /** To be committed together: the released message in the queue, and that it was released. */
  async function handOver(mail: StoredMail, recipients: StoredMail['facts']['recipients'], queueId: string) {
    const now = clock.now();
    const { sender, envelope, client, originals } = mail.facts;
    const message: QueuedMessage = {
      id: queueId,
      receivedAt: now,
      expiresAt: now + policy.lifetimeMs,
      sender,
      envelope,
      form: store.form(mail),
      reports: !unreported.has(mail.reason),
      ...(client === undefined ? {} : { client }),
    };
    const entries = recipients.map((recipient, index) => {
      const original = originals[recipient.address.text];
      const from = { recipient, destination: 'quarantine', dueAt: now };
      return pendingRecipient(message, index, original === undefined ? from : { ...from, original }, policy);
    });
    const releases = recipients.map(({ address }) => ({ address: address.text, at: now, queueId }));
    await queue.addWith({ message, recipients: entries }, store.releaseStatements(mail.id, releases));
  }

  function record(mail: StoredMail, addresses: readonly string[], queueId: string): void {
    const at = clock.now();
    const isOriginal = mail.id !== mail.message;
    for (const address of addresses)
      traces.append(mail.message, {
        at,
        address,
        outcome: 'released',
        detail: `${isOriginal ? 'the original, ' : ''}as ${queueId}`,
      });
    traces.record({
      id: queueId,
      sessionId: queueId,
      receivedAt: at,
      listener: 'quarantine',
      client: { address: 'local', port: 0, helo: 'quarantine' },
      sender: mail.facts.sender?.text ?? '',
      size: mail.size,
      ...(mail.messageId === undefined ? {} : { messageId: mail.messageId }),
      ...(mail.subject === undefined ? {} : { subject: mail.subject }),
      steps: [],
      recipients: addresses.map(address => ({ address, outcome: 'queued', detail: `released from ${mail.id}` })),
      reply: '',
      outcome: 'accepted',
      ms: 0,
    });
  }

  async function release(id: string, to?: readonly string[]): Promise<ReleaseResult> {
    const mail = await show(id);
    if (!mail) return { kind: 'unknown' };
    const known = new Set(mail.facts.recipients.map(({ address }) => address.text.toLowerCase()));
    const strangers = (to ?? []).filter(address => !known.has(address.toLowerCase()));
    if (strangers.length > 0) return { kind: 'strangers', addresses: strangers };
    const recipients = unreleased(mail, to);
    const addresses = recipients.map(({ address }) => address.text);
    if (addresses.length === 0)
      return { kind: 'already', recipients: to ?? mail.releases.map(({ address }) => address) };
    const queueId = randomId(clock.now());
    try {
      await handOver(mail, recipients, queueId);
    } catch (error) {
      // Somebody else released it meanwhile, perhaps to some of them only.
      if (error instanceof StateError && error.code === 'constraint') return release(id, to);
      throw error;
    }
    record(mail, addresses, queueId);
    parts.wake?.();
    return { kind: 'released', queueId, recipients: addresses };
  }

  return {
    list: query => store.search(query),
    show,
    message: mail => readMessage(store.form(mail)),
    release,
    delete: ids => store.remove(ids),
    counts: () => store.counts(),
  };
}

/** Argument of the control command `learn`. */
export interface LearnRequest {
  readonly id: string;
  readonly as: 'spam' | 'ham';
}
export type LearnResult = { readonly kind: 'unknown' } | { readonly kind: 'told'; readonly lessons: readonly Lesson[] };

/** A person judged a quarantined message: the chain's engines learn from it. */
export async function learnKept(
  quarantine: QuarantineAdmin,
  chain: Pick<Chain, 'learn'>,
  argument = '',
): Promise<LearnResult> {
  const { id, as } = JSON.parse(argument) as LearnRequest;
  const mail = await quarantine.show(id);
  if (!mail) return { kind: 'unknown' };
  const recipients = mail.facts.recipients.map(({ address }) => address.text);
  return { kind: 'told', lessons: await chain.learn(await quarantine.message(mail), as, recipients) };
}
