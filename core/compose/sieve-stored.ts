// Rules over mail that is there already: scripts that IMAP commands start (RFC 6785), the administrator's by pair of
// mailboxes and the user's by metadata of the mailbox, and scripts that a client applies (FILTER=SIEVE).
import type {
  EventCause,
  Filtered,
  FilterSpec,
  MailboxEvent,
  MailFilter,
  RuleUser,
  StoredMailRules,
} from '../imap/ports.ts';
import type { Mailbox } from '../mailstore/mailbox.ts';
import type { RuleOptions } from '../plugin/contract.ts';
import type { Program, SieveHost } from '../sieve/contract.ts';
import { type Diagnostic, formatDiagnostics } from '../sieve/diagnostic.ts';
import { execute } from '../sieve/execute.ts';
import type { SieveEnvelope } from '../sieve/ports.ts';
import { ScriptError } from '../sieve/script-store.ts';
import { errorsOf } from './sieve-compiled.ts';
import { evaluateScripts, type OrderedScripts } from './sieve-evaluate.ts';
import { globalSource, outgoingPort } from './sieve-host.ts';
import { tellOwner } from './sieve-notice.ts';
import type { RuleSet } from './sieve-rule-set.ts';
import { StoredMessage } from './sieve-stored-message.ts';

/** RFC 6785 §2.3.1 */
const scriptEntry = '/shared/imapsieve/script';

/** A script of the gateway that listens to a pair of mailboxes. */
interface Listener {
  readonly on: RuleOptions['imap']['mailboxes'][number];
  readonly before: Program | undefined;
  readonly after: Program | undefined;
}

interface Personal {
  readonly script: { readonly name: string; readonly hash: string };
  readonly program: Program;
}

interface Ran {
  readonly stored: StoredMessage;
  readonly errors: readonly Diagnostic[];
  readonly warnings: readonly Diagnostic[];
}

export type StoredRules = StoredMailRules;

/** Rejects where a script of the gateway does not compile, with all errors. */
export async function openStoredRules(set: RuleSet): Promise<StoredRules> {
  const load = async (file: string | undefined): Promise<Program | undefined> =>
    file === undefined ? undefined : (await set.compiled.load([{ file }], { own: true, imap: true }))[0]?.program;
  const listeners: Listener[] = [];
  for (const on of set.options.imap.mailboxes)
    listeners.push({ on, before: await load(on.before), after: await load(on.after) });
  const rules = new Stored(set, listeners);
  const { sieveUrl } = set.parts;
  return {
    ...(set.options.imap.userScripts && sieveUrl !== undefined ? { sieveUrl } : {}),
    filter: set.options.imap.filter,
    listens: (user, cause, mailbox, from) => rules.listens(user, cause, mailbox, from),
    event: event => rules.event(event),
    openFilter: (user, spec) => rules.openFilter(user, spec),
  };
}

class Stored {
  readonly #set: RuleSet;
  readonly #listeners: readonly Listener[];

  constructor(set: RuleSet, listeners: readonly Listener[]) {
    this.#set = set;
    this.#listeners = listeners;
  }

  async listens(user: RuleUser, cause: EventCause, mailbox: Mailbox, from?: string): Promise<boolean> {
    try {
      if ((await this.#scriptName(user.account.name, mailbox.name)) !== '') return true;
      return (await this.#matching(user, cause, mailbox, from)).length > 0;
    } catch (error) {
      this.#set.parts.log.warn({ err: error, user: user.account.name }, 'Rules for an IMAP command cannot be found');
      return false;
    }
  }

  async event(event: MailboxEvent): Promise<void> {
    const { parts } = this.#set;
    const user = event.account.name;
    try {
      const matching = await this.#matching(event, event.cause, event.mailbox, event.from);
      const personal = await this.#personal(user, event.mailbox.name);
      const scripts: OrderedScripts = {
        before: matching.flatMap(({ before }) => before ?? []),
        personal: personal?.program,
        after: matching.flatMap(({ after }) => after ?? []),
      };
      for (const { uid, changedFlags = [] } of event.messages) {
        const environment = environmentOf(event, changedFlags);
        const ran = await this.#run(event, event.mailbox, uid, scripts, 'imap-event', environment);
        if (!ran) continue;
        if (ran.errors.length > 0 && personal) {
          const { message } = ran.stored;
          const { script } = personal;
          await tellOwner(parts, { user, onNextHop: false, script, diagnostics: ran.errors, message, log: parts.log });
        }
        const { cause, mailbox } = event;
        parts.log.info(
          { event: 'imap-rules', user, cause, mailbox: mailbox.name, uid, done: ran.stored.done },
          'rules ran after an IMAP command',
        );
      }
    } catch (error) {
      parts.log.warn({ err: error, user, cause: event.cause }, 'Rules after an IMAP command failed');
    }
  }

  async openFilter(user: RuleUser, spec: FilterSpec): Promise<MailFilter | { readonly errors: string }> {
    const found = await this.#filterScripts(user.account.name, spec);
    if ('errors' in found) return found;
    return {
      ...(found.warnings.length > 0 ? { warnings: sentences(found.warnings) } : {}),
      apply: async (mailbox, uid): Promise<Filtered> => {
        const ran = await this.#run(user, mailbox, uid, found.scripts, 'filter', {});
        if (!ran) return { changed: false };
        return {
          changed: ran.stored.done.length > 0,
          ...(ran.errors.length > 0 ? { errors: sentences(ran.errors) } : {}),
          ...(ran.warnings.length > 0 ? { warnings: sentences(ran.warnings) } : {}),
        };
      },
    };
  }

  /** draft-bosch-imap-filter-sieve-00 §3.2 */
  async #filterScripts(
    user: string,
    spec: FilterSpec,
  ): Promise<
    { readonly scripts: OrderedScripts; readonly warnings: readonly Diagnostic[] } | { readonly errors: string }
  > {
    const { scripts } = this.#set.parts;
    const kind = { own: spec.kind === 'global', imap: false };
    let name = 'name' in spec ? spec.name : '';
    let content: Buffer | undefined;
    try {
      if (spec.kind === 'script') content = spec.source;
      else if (spec.kind === 'personal') content = await scripts.get(user, spec.name);
      else if (spec.kind === 'global') content = await globalSource(this.#set.options.globalFolder, spec.name);
      else {
        const active = await scripts.active(user);
        content = active?.content;
        name = active?.name ?? '';
      }
    } catch (error) {
      if (!(error instanceof ScriptError)) throw error;
    }
    const { before, after } = spec.kind === 'delivery' ? this.#set.global(user) : { before: [], after: [] };
    if (content === undefined)
      return spec.kind === 'delivery'
        ? { scripts: { before, personal: undefined, after }, warnings: [] }
        : { errors: `There is no script "${name}"` };
    const compiled = this.#set.compiled.compile(content, name, kind);
    if (!compiled.ok) return { errors: sentences(compiled.diagnostics) };
    return { scripts: { before, personal: compiled.program, after }, warnings: compiled.diagnostics };
  }

  /** RFC 6785 §2.3.1: the mailbox's entry, or where there is none the server's; empty: no script. */
  async #scriptName(user: string, mailbox: string): Promise<string> {
    if (!this.#set.options.imap.userScripts) return '';
    const { metadata } = this.#set.parts;
    const own = (await metadata.entries(user, mailbox)).get(scriptEntry);
    return (own ?? (await metadata.entries(user, '')).get(scriptEntry))?.toString('utf8') ?? '';
  }

  /** Undefined where there is none, or none that can be used: then no script runs (RFC 6785 §2.3.1). */
  async #personal(user: string, mailbox: string): Promise<Personal | undefined> {
    const name = await this.#scriptName(user, mailbox);
    if (name === '') return undefined;
    try {
      const content = await this.#set.parts.scripts.get(user, name);
      const compiled = this.#set.compiled.compile(content, name, { own: false, imap: true });
      return compiled.ok ? { program: compiled.program, script: { name, hash: `imap:${name}` } } : undefined;
    } catch (error) {
      if (error instanceof ScriptError) return undefined;
      throw error;
    }
  }

  async #matching(
    user: RuleUser,
    cause: EventCause,
    mailbox: Mailbox,
    from: string | undefined,
  ): Promise<readonly Listener[]> {
    const some = this.#listeners.filter(({ on }) => on.causes.includes(cause));
    const byUse = some.some(({ on }) => on.name.startsWith('\\') || on.from?.startsWith('\\'));
    const all = byUse ? await user.mail.list() : [];
    const is = (wanted: string, name: string | undefined): boolean => {
      if (wanted === '*' || wanted === name) return true;
      const uses: readonly string[] = all.find(each => each.name === name)?.specialUse ?? [];
      return uses.some(use => use.toLowerCase() === wanted.toLowerCase());
    };
    return some.filter(({ on }) => is(on.name, mailbox.name) && (on.from === undefined || is(on.from, from)));
  }

  async #run(
    { account, mail }: RuleUser,
    mailbox: Mailbox,
    uid: number,
    scripts: OrderedScripts,
    occasion: 'imap-event' | 'filter',
    environment: Readonly<Record<string, string>>,
  ): Promise<Ran | undefined> {
    const { parts, options, settings } = this.#set;
    const user = account.name;
    const place = { user, mail, mailbox, metadata: parts.metadata };
    const { expunge } = options.imap;
    const stored = await StoredMessage.open(place, uid, { replaceEdited: occasion === 'filter', expunge });
    if (!stored) return undefined;
    // There is no envelope here; what is sent on comes from the owner (RFC 6785 §3.4).
    const envelope: SieveEnvelope = { from: occasion === 'filter' ? (stored.sender ?? user) : user, to: user };
    const host: SieveHost = {
      message: stored.message,
      envelope,
      flags: stored.flags,
      mailboxes: stored.port,
      outgoing: outgoingPort(parts, 'rules'),
      settings: {
        ...settings,
        userAddress: user,
        userAddresses: [user],
        defaultMailbox: mailbox.name,
        redirectFrom: 'user',
        occasion,
      },
      environment: item => (Object.hasOwn(environment, item) ? environment[item] : undefined),
      ...this.#set.ports(user, envelope, occasion === 'imap-event'),
    };
    const result = await evaluateScripts(scripts, host, parts.log);
    if (result === undefined) return undefined;
    if (result === 'deferred') return { stored, errors: [notNow], warnings: [] };
    const errors = errorsOf(result.diagnostics);
    const warnings = result.diagnostics.filter(({ severity }) => severity === 'warning');
    if (result.status !== 'ok') return { stored, errors, warnings };
    const executed = await execute(result, host);
    if (executed.status !== 'ok') return { stored, errors: errorsOf(executed.diagnostics), warnings };
    for (const { entry, state } of executed.outcomes)
      if (state === 'done' && !['keep', 'fileinto', 'discard'].includes(entry.action)) stored.done.push(entry.action);
    await stored.settle();
    return { stored, errors, warnings: [...warnings, ...executed.diagnostics] };
  }
}

const notNow: Diagnostic = { severity: 'error', line: 1, column: 1, message: 'Not possible now, try again later' };

const sentences = (diagnostics: readonly Diagnostic[]): string => formatDiagnostics(diagnostics).trimEnd();

/** RFC 6785 §4; the last two are Pigeonhole's. */
function environmentOf(event: MailboxEvent, changedFlags: readonly string[]): Readonly<Record<string, string>> {
  const { account, cause, mailbox, from } = event;
  return {
    'imap.user': account.name,
    'imap.email': account.name,
    'imap.cause': cause,
    'imap.mailbox': mailbox.name,
    'imap.changedflags': changedFlags.join(' '),
    ...(from === undefined ? {} : { 'vnd.dovecot.mailbox-from': from, 'vnd.dovecot.mailbox-to': mailbox.name }),
  };
}
