// Rules at delivery: the gateway's scripts before, the user's, the gateway's after, as one result that is carried out once.
// Never a lost message: what fails for now defers, what fails for good leaves the message in the inbox and tells the owner.
// A user without a script, under a gateway without scripts, costs one look into a cache.
import type { Recipient } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import { type Reply, replies } from '../mail/reply.ts';
import type { RuleOptions, RuleRunner, WithMessage } from '../plugin/contract.ts';
import type { DeliveryOutcome } from '../queue/transport.ts';
import type { SieveHost, SieveResult } from '../sieve/contract.ts';
import { type Diagnostic, formatDiagnostics } from '../sieve/diagnostic.ts';
import { type ExecutionResult, execute } from '../sieve/execute.ts';
import type { SieveEnvelope } from '../sieve/ports.ts';
import type { ActiveScript } from '../sieve/script-store.ts';
import { outcomeOf, withReturnPath } from './local-transport.ts';
import { userPart } from './mailbox-lookup.ts';
import { errorsOf } from './sieve-compiled.ts';
import { evaluateScripts, type OrderedScripts } from './sieve-evaluate.ts';
import { mailboxPort, type Owner, outgoingPort, sendOnce } from './sieve-host.ts';
import { nextHopPort } from './sieve-next-hop.ts';
import { tellOwner } from './sieve-notice.ts';
import { openRuleSet, type RuleParts, type RuleSet } from './sieve-rule-set.ts';
import { openStoredRules, type StoredRules } from './sieve-stored.ts';
import { createStoreBatch, type StoreBatch } from './store-batch.ts';

type Answer = Awaited<ReturnType<RuleRunner['deliver']>>;
interface RuleOwner extends Owner {
  /** The mailbox is another server's. */
  readonly onNextHop: boolean;
}

const noRules: Answer = { kind: 'continue' };
const retrySeconds = 7 * 86_400;

/** What the client or the sender hears of a refusal: the script's own text on one line. */
function refusalReply(text: string): Reply<5> {
  const line = text.replace(/[^\x21-\x7e]+/g, ' ').trim();
  return { code: 550, enhanced: '5.7.1', text: line === '' ? 'Message refused by the recipient' : line.slice(0, 400) };
}

const describe = (executed: ExecutionResult): readonly string[] =>
  executed.outcomes.map(
    ({ entry, state, detail }) => `${entry.action} ${state}${detail === undefined ? '' : `: ${detail}`}`,
  );

/** The message stays as it is, in the inbox: the ordinary delivery does that, and shares one file among recipients. */
const isPlainKeep = (result: SieveResult): boolean =>
  result.status === 'ok' &&
  result.afterwards.length === 0 &&
  result.actions.length === 1 &&
  result.actions.every(
    ({ action, implicit, flags, message }) =>
      action === 'keep' && implicit && flags.length === 0 && message === result.original,
  );

class Runner implements RuleRunner {
  readonly #set: RuleSet;
  readonly #batches = new WeakMap<Message, StoreBatch>();

  constructor(set: RuleSet) {
    this.#set = set;
  }

  async deliver(at: WithMessage, to: Recipient): Promise<Answer> {
    const batch = this.#batchOf(at);
    const leave = batch.enter();
    try {
      return await this.#deliver(at, to, batch);
    } finally {
      leave();
    }
  }

  #batchOf(at: WithMessage): StoreBatch {
    const known = this.#batches.get(at.message);
    if (known) return known;
    const { sender } = at.envelope;
    const batch = createStoreBatch(this.#set.parts.mail, form => withReturnPath({ sender, form }));
    this.#batches.set(at.message, batch);
    return batch;
  }

  async #deliver(at: WithMessage, to: Recipient, batch: StoreBatch): Promise<Answer> {
    const owner = await this.#ownerOf(to);
    if (!owner) return noRules;
    const script = await this.#set.parts.scripts.active(owner.user);
    const { before, after } = this.#set.global(owner.user);
    if (script === undefined && before.length === 0 && after.length === 0) return noRules;
    const kind = { own: false, imap: false };
    const compiled = script && this.#set.compiled.compile(script.content, script.name, kind, script.hash);
    const delivery = new Delivery(this.#set, at, to, owner, script, batch);
    // What compiled when it was stored may not with another release.
    if (compiled?.ok === false) await delivery.tellOwner(errorsOf(compiled.diagnostics));
    return delivery.run({ before, after, personal: compiled?.ok ? compiled.program : undefined });
  }

  /** Unknown users, and a directory that cannot say, are the ordinary delivery's business. */
  async #ownerOf({ address }: Recipient): Promise<RuleOwner | undefined> {
    const { lookup, recipientDelimiter, defaultQuotaBytes } = this.#set.parts;
    if (lookup.domainKind(address.domain) === 'relay') {
      const user = `${userPart(address.local, recipientDelimiter).toLowerCase()}@${address.domain}`;
      return { user, onNextHop: true };
    }
    const found = await lookup.find(address);
    if (found.kind !== 'found') return undefined;
    const quotaBytes = found.value.quotaBytes ?? defaultQuotaBytes;
    return { user: found.value.name, onNextHop: false, ...(quotaBytes > 0 ? { quotaBytes } : {}) };
  }
}

/** One message for one user. */
class Delivery {
  readonly #set: RuleSet;
  readonly #at: WithMessage;
  readonly #owner: RuleOwner;
  readonly #script: ActiveScript | undefined;
  readonly #host: SieveHost;
  readonly #outgoing: ReturnType<typeof sendOnce>;
  #refused: string | undefined;
  #failed: Exclude<DeliveryOutcome, { kind: 'delivered' }> | undefined;

  constructor(
    set: RuleSet,
    at: WithMessage,
    to: Recipient,
    owner: RuleOwner,
    script: ActiveScript | undefined,
    batch: StoreBatch,
  ) {
    const { parts, options, settings } = set;
    this.#set = set;
    this.#at = at;
    this.#owner = owner;
    this.#script = script;
    const port = outgoingPort(parts, 'rules', reason => {
      this.#refused = reason;
    });
    this.#outgoing = sendOnce(port, parts.memory.of(owner.user), at.id);
    const failed = (outcome: DeliveryOutcome): void => {
      if (outcome.kind !== 'delivered') this.#failed = outcome;
    };
    const { user, quotaBytes } = owner;
    const mailboxes = owner.onNextHop
      ? nextHopPort(at, to, { ...parts, routes: parts.relayRoutes }, options.nextHop, failed)
      : mailboxPort(
          { user, ...(quotaBytes === undefined ? {} : { quotaBytes }) },
          parts.mail,
          parts.metadata,
          batch,
          result => failed(outcomeOf(result)),
        );
    const envelope = envelopeOf(at, to);
    this.#host = {
      message: at.message,
      envelope,
      mailboxes,
      outgoing: this.#outgoing.port,
      settings: { ...settings, userAddress: user, userAddresses: [to.address.text] },
      ...set.ports(user, envelope, false),
    };
  }

  async run(scripts: OrderedScripts): Promise<Answer> {
    const result = await evaluateScripts(scripts, this.#host, this.#at.log);
    if (result === 'deferred' || result === undefined)
      return result === undefined ? noRules : { kind: 'defer', reply: replies.tryLater, why: 'Rules failed for now' };
    await this.tellOwner(errorsOf(result.diagnostics));
    if (result.status === 'ok' && isPlainKeep(result)) return noRules;
    // Whoever asked has got another answer meanwhile and offers the message again.
    if (this.#at.signal.aborted) return { kind: 'defer', reply: replies.tryLater, why: 'Rules took too long' };
    const executed = await execute(result, this.#host);
    this.#at.evidence({ rules: describe(executed).join('; ') });
    return this.#conclude(executed);
  }

  async #conclude(executed: ExecutionResult): Promise<Answer> {
    if (executed.status === 'tempfail') {
      await this.#outgoing
        .keep(retrySeconds)
        .catch((error: unknown) => this.#at.log.warn({ err: error }, 'Sent mail could not be remembered'));
      const why = formatDiagnostics(executed.diagnostics);
      if (this.#failed?.kind === 'failed') return { kind: 'reject', reply: this.#failed.reply, why };
      return { kind: 'defer', reply: this.#failed?.reply ?? replies.tryLater, why };
    }
    await this.tellOwner(errorsOf(executed.diagnostics));
    if (this.#refused !== undefined && executed.refused !== undefined)
      return { kind: 'reject', reply: refusalReply(this.#refused), why: `Refused by the rules of ${this.#owner.user}` };
    const kept =
      executed.rescued || executed.outcomes.some(({ state, entry }) => state === 'done' && entry.action !== 'discard');
    if (kept) return { kind: 'accept' };
    return { kind: 'discard', why: `Discarded by the rules of ${this.#owner.user}` };
  }

  /** Of errors in the user's own script. */
  async tellOwner(errors: readonly Diagnostic[]): Promise<void> {
    if (errors.length === 0 || !this.#script) return;
    const { user, onNextHop } = this.#owner;
    const { message, log } = this.#at;
    await tellOwner(this.#set.parts, { user, onNextHop, script: this.#script, diagnostics: errors, message, log });
  }
}

function envelopeOf(at: WithMessage, to: Recipient): SieveEnvelope {
  const { sender, envid, ret } = at.envelope;
  const { orcpt, notify } = to;
  return {
    from: sender?.text ?? '',
    to: to.address.text,
    ...(orcpt?.type.toLowerCase() === 'rfc822' ? { originalTo: orcpt.address } : {}),
    ...(at.identity === undefined ? {} : { auth: at.identity.name }),
    ...(envid === undefined ? {} : { envid }),
    ...(ret === undefined ? {} : { ret }),
    ...(notify === undefined ? {} : { notify: notify.map(word => word.toUpperCase()) }),
    ...(orcpt === undefined ? {} : { orcpt: `${orcpt.type};${orcpt.address}` }),
  };
}

export interface GatewayRules {
  /** Rejects where a script of the gateway does not compile, with all errors. */
  open(options: RuleOptions): Promise<{ readonly runner: RuleRunner; readonly stored: StoredRules }>;
}

export const createRules = (parts: RuleParts): GatewayRules => ({
  async open(options) {
    const set = await openRuleSet(parts, options);
    return { runner: new Runner(set), stored: await openStoredRules(set) };
  },
});
