// Rules at delivery: the gateway's scripts before, the user's, the gateway's after, as one result that is carried out once.
// Never a lost message: what fails for now defers, what fails for good leaves the message in the inbox and tells the owner.
// A user without a script, under a gateway without scripts, costs one look into a cache.
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import { parseMailbox } from '../mail/address.ts';
import type { Recipient } from '../mail/envelope.ts';
import { type Message, readMessage } from '../mail/message.ts';
import { type Reply, replies } from '../mail/reply.ts';
import type { Rope } from '../mail/rope.ts';
import type { MailStore } from '../mailstore/mailbox.ts';
import type { RuleOptions, RuleRunner, Rules, WithMessage } from '../plugin/contract.ts';
import type { DeliveryOutcome, RouteLookup } from '../queue/transport.ts';
import { compile } from '../sieve/check-script.ts';
import type { Program, Registry, SieveHost, SieveResult } from '../sieve/contract.ts';
import { formatDiagnostics } from '../sieve/diagnostic.ts';
import { type ExecutionResult, execute } from '../sieve/execute.ts';
import type { SieveEnvelope, TrackingPort } from '../sieve/ports.ts';
import { run } from '../sieve/run.ts';
import type { ActiveScript, SieveScripts } from '../sieve/script-store.ts';
import type { SettingsInput } from '../sieve/settings.ts';
import { outcomeOf, withReturnPath } from './local-transport.ts';
import { type MailboxLookup, userPart } from './mailbox-lookup.ts';
import { mailboxPort, type Owner, outgoingPort, scriptPort, sendOnce } from './sieve-host.ts';
import type { SieveMemory } from './sieve-memory.ts';
import { nextHopPort } from './sieve-next-hop.ts';
import { ruleNotice } from './sieve-notice.ts';
import { createStoreBatch, type StoreBatch } from './store-batch.ts';
import type { Submitter } from './submitter.ts';

export interface RuleParts {
  readonly hostname: string;
  readonly registry: Registry;
  readonly scripts: SieveScripts;
  readonly memory: SieveMemory;
  readonly mail: MailStore;
  readonly lookup: MailboxLookup;
  readonly submitter: Pick<Submitter, 'send'>;
  /** To where the mailboxes of `relay` domains are, without rules. */
  readonly relayRoutes: RouteLookup;
  readonly recipientDelimiter: string;
  readonly defaultQuotaBytes: number;
  readonly clock: Clock;
  readonly log: Logger;
}

type Answer = Awaited<ReturnType<RuleRunner['deliver']>>;
interface RuleOwner extends Owner {
  /** The mailbox is another server's. */
  readonly onNextHop: boolean;
}
interface GlobalScript {
  readonly program: Program;
  readonly domain: string | undefined;
}

const noRules: Answer = { kind: 'continue' };
const noticeSeconds = 86_400;
const retrySeconds = 7 * 86_400;
const maxPrograms = 2000;

/** Errors of a script file; `program` where there is none. */
async function readScript(
  file: string,
  registry: Registry,
): Promise<{ readonly errors: readonly string[]; readonly program?: Program }> {
  let source: Buffer;
  try {
    source = await readFile(file);
  } catch (error) {
    return { errors: [`Cannot read '${file}': ${(error as Error).message}`] };
  }
  const compiled = compile(source, { registry, name: file });
  if (compiled.ok) return { errors: [], program: compiled.program };
  const errors = compiled.diagnostics.filter(({ severity }) => severity === 'error');
  return { errors: errors.map(({ script: _, ...error }) => `${file}:${formatDiagnostics([error])}`) };
}

export const checkRuleFile = async (file: string, registry: Registry): Promise<readonly string[]> =>
  (await readScript(file, registry)).errors;

/** Both read what an earlier entry of the chain wrote; a message that none looked at is "not tested". */
export const verdictSources = (
  spamField: string,
  virusField: string,
): Required<Pick<SettingsInput, 'spamtest' | 'virustest'>> => ({
  spamtest: {
    header: spamField,
    pattern: 'score=(-?[0-9.]+)',
    scale: 'score',
    maxHeader: { header: spamField, pattern: 'required=([0-9.]+)' },
  },
  virustest: { header: virusField, pattern: '^([A-Za-z]+)', scale: 'text', texts: { clean: 1, infected: 5 } },
});

function settingsOf(options: RuleOptions, parts: RuleParts): SettingsInput {
  return {
    hostname: parts.hostname,
    recipientDelimiter: parts.recipientDelimiter,
    maxActions: options.maxActions,
    maxRedirects: options.maxRedirects,
    maxSteps: options.maxSteps,
    redirectFrom: options.redirectSender,
    autoCreate: options.createMailboxes,
    vacation: { minSeconds: options.vacationMinSeconds, defaultSeconds: 604_800 },
    editheader: { maxFieldBytes: options.editMaxFieldBytes },
    ...verdictSources(options.spamField, options.virusField),
  };
}

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
  readonly #parts: RuleParts;
  readonly #options: RuleOptions;
  readonly #before: readonly GlobalScript[];
  readonly #after: readonly GlobalScript[];
  readonly #settings: SettingsInput;
  readonly #programs = new Map<string, Program | undefined>();
  readonly #batches = new WeakMap<Message, StoreBatch>();

  constructor(parts: RuleParts, options: RuleOptions, before: readonly GlobalScript[], after: readonly GlobalScript[]) {
    this.#parts = parts;
    this.#options = options;
    this.#before = before;
    this.#after = after;
    this.#settings = settingsOf(options, parts);
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
    const batch = createStoreBatch(this.#parts.mail, form => withReturnPath({ sender, form }));
    this.#batches.set(at.message, batch);
    return batch;
  }

  async #deliver(at: WithMessage, to: Recipient, batch: StoreBatch): Promise<Answer> {
    const owner = await this.#ownerOf(to);
    if (!owner) return noRules;
    const { user } = owner;
    const script = await this.#parts.scripts.active(user);
    const domain = user.slice(user.lastIndexOf('@') + 1);
    const forUser = ({ domain: only }: GlobalScript): boolean => only === undefined || only === domain;
    const before = this.#before.filter(forUser);
    const after = this.#after.filter(forUser);
    if (script === undefined && before.length === 0 && after.length === 0) return noRules;
    return new Delivery(this.#parts, this.#options, this.#settings, at, to, owner, batch).run({
      before,
      after,
      script,
      personal: script && this.#programOf(script),
    });
  }

  /** Unknown users, and a directory that cannot say, are the ordinary delivery's business. */
  async #ownerOf({ address }: Recipient): Promise<RuleOwner | undefined> {
    const { lookup, recipientDelimiter, defaultQuotaBytes } = this.#parts;
    if (lookup.domainKind(address.domain) === 'relay') {
      const user = `${userPart(address.local, recipientDelimiter).toLowerCase()}@${address.domain}`;
      return { user, onNextHop: true };
    }
    const found = await lookup.find(address);
    if (found.kind !== 'found') return undefined;
    const quotaBytes = found.value.quotaBytes ?? defaultQuotaBytes;
    return { user: found.value.name, onNextHop: false, ...(quotaBytes > 0 ? { quotaBytes } : {}) };
  }

  #programOf(script: ActiveScript): Program | undefined {
    if (this.#programs.has(script.hash)) return this.#programs.get(script.hash);
    const compiled = compile(script.content, { registry: this.#parts.registry, name: script.name });
    // What compiled when it was stored may not with another release.
    const program = compiled.ok ? compiled.program : undefined;
    if (this.#programs.size >= maxPrograms) this.#programs.clear();
    this.#programs.set(script.hash, program);
    return program;
  }
}

interface Scripts {
  readonly before: readonly GlobalScript[];
  readonly after: readonly GlobalScript[];
  readonly script: ActiveScript | undefined;
  readonly personal: Program | undefined;
}

/** One message for one user. */
class Delivery {
  readonly #parts: RuleParts;
  readonly #at: WithMessage;
  readonly #owner: RuleOwner;
  readonly #memory: TrackingPort;
  readonly #host: SieveHost;
  readonly #outgoing: ReturnType<typeof sendOnce>;
  #refused: string | undefined;
  #failed: Exclude<DeliveryOutcome, { kind: 'delivered' }> | undefined;

  constructor(
    parts: RuleParts,
    options: RuleOptions,
    settings: SettingsInput,
    at: WithMessage,
    to: Recipient,
    owner: RuleOwner,
    batch: StoreBatch,
  ) {
    this.#parts = parts;
    this.#at = at;
    this.#owner = owner;
    this.#memory = parts.memory.of(owner.user);
    const port = outgoingPort(parts.submitter, 'rules', reason => {
      this.#refused = reason;
    });
    this.#outgoing = sendOnce(port, this.#memory, at.id);
    const failed = (outcome: DeliveryOutcome): void => {
      if (outcome.kind !== 'delivered') this.#failed = outcome;
    };
    const { user, quotaBytes } = owner;
    const mailboxes = owner.onNextHop
      ? nextHopPort(at, to, { ...parts, routes: parts.relayRoutes }, options.nextHop, failed)
      : mailboxPort({ user, ...(quotaBytes === undefined ? {} : { quotaBytes }) }, parts.mail, batch, result =>
          failed(outcomeOf(result)),
        );
    this.#host = {
      message: at.message,
      envelope: envelopeOf(at, to),
      clock: parts.clock,
      mailboxes,
      outgoing: this.#outgoing.port,
      settings: { ...settings, userAddress: owner.user, userAddresses: [to.address.text] },
      scripts: scriptPort(owner.user, parts.scripts, options.globalFolder),
      tracking: this.#memory,
      newId: () => randomId(parts.clock.now()),
    };
  }

  async run(scripts: Scripts): Promise<Answer> {
    const { script } = scripts;
    if (script !== undefined && scripts.personal === undefined) {
      const message = 'Script does not compile with this release: please check it';
      await this.#notify(script, [{ severity: 'error', line: 1, column: 1, message }]);
    }
    const result = await this.#evaluate(scripts);
    if (result === 'deferred' || result === undefined)
      return result === undefined ? noRules : { kind: 'defer', reply: replies.tryLater, why: 'Rules failed for now' };
    const errors = result.diagnostics.filter(({ severity }) => severity === 'error');
    if (errors.length > 0 && script) await this.#notify(script, errors);
    if (result.status === 'ok' && isPlainKeep(result)) return noRules;
    const executed = await execute(result, this.#host);
    this.#at.evidence({ rules: describe(executed).join('; ') });
    return this.#conclude(executed, script);
  }

  /** Undefined: no script ran. */
  async #evaluate({ before, personal, after }: Scripts): Promise<SieveResult | 'deferred' | undefined> {
    let result: SieveResult | undefined;
    const programs = [
      ...before.map(each => each.program),
      ...(personal ? [personal] : []),
      ...after.map(e => e.program),
    ];
    for (const program of programs) {
      const next: SieveResult = await run(program, this.#host, result === undefined ? {} : { after: result });
      if (next.status === 'tempfail') return 'deferred';
      if (next.status !== 'ok' && program !== personal) {
        // The administrator's script must not spoil the user's.
        this.#at.log.warn({ script: program.name, errors: formatDiagnostics(next.diagnostics) }, 'Global rules failed');
        continue;
      }
      result = next;
      if (next.status !== 'ok' || !next.keep) return result;
    }
    return result;
  }

  async #conclude(executed: ExecutionResult, script: ActiveScript | undefined): Promise<Answer> {
    if (executed.status === 'tempfail') {
      await this.#outgoing
        .keep(retrySeconds)
        .catch((error: unknown) => this.#at.log.warn({ err: error }, 'Sent mail could not be remembered'));
      const why = formatDiagnostics(executed.diagnostics);
      if (this.#failed?.kind === 'failed') return { kind: 'reject', reply: this.#failed.reply, why };
      return { kind: 'defer', reply: this.#failed?.reply ?? replies.tryLater, why };
    }
    const errors = executed.diagnostics.filter(({ severity }) => severity === 'error');
    if (errors.length > 0 && script) await this.#notify(script, errors);
    if (this.#refused !== undefined && executed.refused !== undefined)
      return { kind: 'reject', reply: refusalReply(this.#refused), why: `Refused by the rules of ${this.#owner.user}` };
    const kept =
      executed.rescued || executed.outcomes.some(({ state, entry }) => state === 'done' && entry.action !== 'discard');
    if (kept) return { kind: 'accept' };
    return { kind: 'discard', why: `Discarded by the rules of ${this.#owner.user}` };
  }

  async #sendNotice(notice: Rope): Promise<void> {
    const to = parseMailbox(this.#owner.user);
    if (to.kind !== 'address') return;
    const message = await readMessage(notice);
    await this.#parts.submitter.send({ sender: null, recipients: [{ address: to.address }], message, origin: 'rules' });
  }

  async #notify(script: ActiveScript, diagnostics: Parameters<typeof ruleNotice>[0]['diagnostics']): Promise<void> {
    const { clock, hostname, mail } = this.#parts;
    const { message } = this.#at;
    const field = (name: string): string => message.headers.get(name)?.value ?? '';
    try {
      const key = `notice:${script.hash}`;
      if (await this.#memory.seen(key)) return;
      await this.#memory.remember(key, noticeSeconds);
      const notice = ruleNotice({
        user: this.#owner.user,
        hostname,
        clock,
        id: randomId(clock.now()),
        script: script.name,
        diagnostics,
        about: { from: field('from'), subject: field('subject'), messageId: field('message-id') },
      });
      if (this.#owner.onNextHop) await this.#sendNotice(notice);
      else await mail.deliver(withReturnPath({ sender: null, form: notice }), [{ user: this.#owner.user }]);
    } catch (error) {
      this.#at.log.warn({ err: error }, 'Owner of failed rules could not be told');
    }
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

export function createRules(parts: RuleParts): Rules {
  async function load(files: RuleOptions['before']): Promise<readonly GlobalScript[]> {
    const read = await Promise.all(files.map(({ file }) => readScript(file, parts.registry)));
    const errors = read.flatMap(each => each.errors);
    if (errors.length > 0) throw new Error(`Scripts do not compile: ${errors.join('; ')}`);
    return read.flatMap(({ program }, index) => (program ? [{ program, domain: files[index]?.domain }] : []));
  }
  return {
    async open(options) {
      return new Runner(parts, options, await load(options.before), await load(options.after));
    },
  };
}
