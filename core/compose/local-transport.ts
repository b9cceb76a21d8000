// Final delivery to the Maildirs of this gateway: adds Return-Path (RFC 5321 §4.4) and stores one form for all
// recipients of a message, hard-linked. A mailbox that cannot be written defers; nothing is half-delivered.
import type { Account } from '../accounts/directory.ts';
import type { Recipient } from '../mail/envelope.ts';
import type { Rope } from '../mail/rope.ts';
import type { DeliveryResult, DeliveryTarget, MailStore } from '../mailstore/mailbox.ts';
import type { DeliveryJob, DeliveryOutcome, Transport } from '../queue/transport.ts';
import type { MailboxLookup } from './mailbox-lookup.ts';

const unknownUser: DeliveryOutcome = {
  kind: 'failed',
  reply: { code: 550, enhanced: '5.1.1', text: 'No such user here' },
  why: 'No account for this address',
};

export function outcomeOf(result: DeliveryResult): DeliveryOutcome {
  switch (result.kind) {
    case 'stored':
      return { kind: 'delivered', detail: 'stored in mailbox' };
    case 'overquota':
      return { kind: 'deferred', reply: { code: 452, enhanced: '4.2.2', text: 'Mailbox full' }, why: result.why };
    case 'tempfail':
      return {
        kind: 'deferred',
        reply: result.full
          ? { code: 452, enhanced: '4.3.1', text: 'Insufficient system storage' }
          : { code: 451, enhanced: '4.3.0', text: 'Mailbox temporarily unavailable' },
        why: result.why,
      };
    case 'nomailbox':
      return {
        kind: 'deferred',
        reply: { code: 451, enhanced: '4.2.0', text: 'Mailbox temporarily unavailable' },
        why: result.why,
      };
  }
}

/** The form that is stored: RFC 5321 §4.4 wants Return-Path in front, once, at final delivery. */
export function withReturnPath({ sender, form }: Pick<DeliveryJob, 'sender' | 'form'>): Rope {
  const field = Buffer.from(`Return-Path: <${sender?.text ?? ''}>\r\n`, 'utf8');
  return { size: field.length + form.size, pieces: [field, ...form.pieces] };
}

/** `defaultQuotaBytes`: for accounts without a quota of their own; 0 = none. */
export function createLocalTransport(store: MailStore, lookup: MailboxLookup, defaultQuotaBytes: number): Transport {
  async function targetOf(recipient: Recipient): Promise<DeliveryOutcome | DeliveryTarget> {
    const found = await lookup.find(recipient.address);
    if (found.kind === 'none') return unknownUser;
    if (found.kind === 'unavailable') {
      return {
        kind: 'deferred',
        reply: { code: 451, enhanced: '4.3.0', text: 'Mailbox temporarily unavailable' },
        why: found.why,
      };
    }
    const account: Account = found.value;
    const quotaBytes = account.quotaBytes ?? defaultQuotaBytes;
    return { user: account.name, ...(quotaBytes > 0 ? { quotaBytes } : {}) };
  }

  return {
    name: 'local',
    async deliver(job, recipients) {
      const plans = await Promise.all(recipients.map(targetOf));
      // Two recipients may name one mailbox (`bob`, `bob+list`): it gets one copy, and both are told.
      const targets = new Map<string, DeliveryTarget>();
      for (const plan of plans) if ('user' in plan) targets.set(plan.user, plan);
      const results = targets.size > 0 ? await store.deliver(withReturnPath(job), [...targets.values()]) : [];
      const outcomes = new Map([...targets.keys()].map((user, index) => [user, results[index]]));
      return plans.map(plan => {
        if (!('user' in plan)) return plan;
        const result = outcomes.get(plan.user);
        return result
          ? outcomeOf(result)
          : {
              kind: 'deferred',
              reply: { code: 451, enhanced: '4.3.0', text: 'Mailbox temporarily unavailable' },
              why: 'The store gave no result',
            };
      });
    },
  };
}
