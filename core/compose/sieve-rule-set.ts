// What one configuration says about rules, and what runs at delivery and over stored mail have in common.
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import type { MailStore } from '../mailstore/mailbox.ts';
import type { Metadata } from '../mailstore/metadata.ts';
import type { RuleOptions } from '../plugin/contract.ts';
import type { RouteLookup } from '../queue/transport.ts';
import type { SieveHost } from '../sieve/contract.ts';
import type { SieveEnvelope } from '../sieve/ports.ts';
import type { SieveScripts } from '../sieve/script-store.ts';
import type { SettingsInput } from '../sieve/settings.ts';
import type { Forwarding } from './forwarding.ts';
import type { MailboxLookup } from './mailbox-lookup.ts';
import { CompiledScripts, type GlobalScript } from './sieve-compiled.ts';
import type { OrderedScripts } from './sieve-evaluate.ts';
import { scriptPort } from './sieve-host.ts';
import { createListFiles, type ListFiles } from './sieve-lists.ts';
import type { SieveMemory } from './sieve-memory.ts';
import { programPort } from './sieve-programs.ts';
import type { Submitter } from './submitter.ts';
import { userPath } from './user-path.ts';

export interface RuleParts {
  readonly hostname: string;
  readonly scripts: SieveScripts;
  readonly memory: SieveMemory;
  readonly metadata: Metadata;
  readonly mail: MailStore;
  readonly lookup: MailboxLookup;
  readonly submitter: Pick<Submitter, 'send'>;
  readonly forwarding: Forwarding;
  /** To where the mailboxes of `relay` domains are, without rules. */
  readonly relayRoutes: RouteLookup;
  readonly recipientDelimiter: string;
  /** Where users manage their scripts (RFC 5804 §3); undefined where nowhere. */
  readonly sieveUrl: string | undefined;
  readonly defaultQuotaBytes: number;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface RuleSet {
  readonly parts: RuleParts;
  readonly options: RuleOptions;
  readonly settings: SettingsInput;
  readonly compiled: CompiledScripts;
  /** The gateway's scripts for this user. */
  global(user: string): Pick<OrderedScripts, 'before' | 'after'>;
  /** The ports that do not depend on where the message is. */
  ports(
    user: string,
    envelope: SieveEnvelope,
    imap: boolean,
  ): Pick<SieveHost, 'clock' | 'scripts' | 'tracking' | 'lists' | 'programs' | 'newId'>;
}

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
    ...(options.programs ? { programTimeoutMs: options.programs.timeoutMs } : {}),
    ...verdictSources(options.spamField, options.virusField),
  };
}

/** Rejects where a script of the gateway does not compile, with all errors. */
export async function openRuleSet(parts: RuleParts, options: RuleOptions): Promise<RuleSet> {
  const compiled = new CompiledScripts(options.programs !== undefined);
  const kind = { own: true, imap: false };
  const [before, after] = [await compiled.load(options.before, kind), await compiled.load(options.after, kind)];
  const lists: ListFiles = createListFiles(options.lists);
  const { clock } = parts;
  return {
    parts,
    options,
    settings: settingsOf(options, parts),
    compiled,
    global(user) {
      const domain = user.slice(user.lastIndexOf('@') + 1);
      const forUser = (scripts: readonly GlobalScript[]) =>
        scripts.flatMap(each => (each.domain === undefined || each.domain === domain ? each.program : []));
      return { before: forUser(before), after: forUser(after) };
    },
    ports: (user, envelope, imap) => ({
      clock,
      scripts: scriptPort(user, parts.scripts, options.globalFolder, compiled, imap),
      tracking: parts.memory.of(user),
      lists: lists.of(file => userPath(file, '/', user)),
      ...(options.programs ? { programs: programPort(options.programs, user, envelope) } : {}),
      newId: () => randomId(clock.now()),
    }),
  };
}
