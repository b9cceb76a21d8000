// What each plugin is given: one `Host` per chain entry, over the parts of this gateway. A plugin that a reload keeps
// keeps its host, which then answers from the new configuration.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import type { AuthResult, Directory } from '../accounts/directory.ts';
import type { PendingExchanges } from '../accounts/sasl/pending-exchanges.ts';
import type { Clock } from '../lib/clock.ts';
import { parseMailbox } from '../mail/address.ts';
import type { Dns, Host, Judgement, Mailboxes } from '../plugin/contract.ts';
import type { MemoryStore } from '../state/memory.ts';
import { fileStamp } from './file-stamp.ts';
import type { MailboxLookup } from './mailbox-lookup.ts';
import type { RecipientPlan } from './recipient-sources.ts';
import { readSecret } from './secret.ts';
import type { GatewayRules } from './sieve-rules.ts';
import type { StoredRules } from './sieve-stored.ts';

export interface HostParts {
  readonly hostname: string;
  readonly log: Logger;
  readonly clock: Clock;
  readonly dns: Dns;
  readonly directory: Directory;
  readonly exchanges: Pick<PendingExchanges, 'judge'>;
  readonly lookup: MailboxLookup;
  readonly recipients: Pick<RecipientPlan, 'verify'>;
  readonly isRelayClient: (address: string) => boolean;
  readonly dataFolder: string;
  readonly configFolder: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly postmaster: string | undefined;
  readonly submit: Host['submit'];
  readonly rules: GatewayRules;
  readonly memory: MemoryStore;
  /** Equal where rules that are open would be opened the same way. */
  readonly rulesRevision: string;
}

/** Whose memory it is; commands open the same one. */
export const memoryOwner = (entryName: string): string => `plugin:${entryName}`;

/** What one entry has been given. */
interface Given {
  /** Of the configuration that runs now, whichever the plugin was set up under. */
  parts: HostParts;
  readonly setUpUnder: HostParts;
  /** Stamps of the files and values of the secrets that it asked for. */
  readonly files: Map<string, string>;
  readonly secrets: Map<Parameters<Host['readSecret']>[0], string>;
  usedRules: boolean;
  offers: Offers;
}

/** What entries of the chain do for other parts. */
export interface Offers {
  /** Rules over stored mail. */
  readonly storedRules?: StoredRules;
  readonly rewriteForwarded?: Parameters<Host['onForward']>[0];
}

export interface PluginHosts {
  /** Hosts for the entries of a configuration that is being loaded. */
  over(parts: HostParts): {
    hostFor(entryName: string): Host;
    /** Files and secrets that the entry asked for are as they were, and its rules would be opened the same way. */
    mayKeep(entryName: string): boolean;
    /** The configuration runs: entries that were kept answer from it too. */
    adopt(): void;
  };
  /** Of running entries; the later ones win. */
  offers(entryNames: readonly string[]): Offers;
}

const toJudgement = (result: AuthResult): Judgement =>
  result.kind === 'ok' ? { kind: 'ok', name: result.account.name } : result;

function mailboxesOf(given: Given): Mailboxes {
  return {
    domainKind: domain => given.parts.lookup.domainKind(domain),
    async exists(address, signal = new AbortController().signal) {
      const parsed = parseMailbox(address, { smtputf8: true });
      if (parsed.kind !== 'address') return { kind: 'none' };
      if (given.parts.lookup.domainKind(parsed.address.domain) === 'relay')
        return (await given.parts.recipients.verify(parsed.address, signal)) ?? { kind: 'unchecked' };
      const found = await given.parts.lookup.find(parsed.address);
      return found.kind === 'found' ? (found.value.disabled ? { kind: 'none' } : { kind: 'found' }) : found;
    },
    async authenticate(credentials, remoteAddress) {
      return toJudgement(
        await given.parts.directory.authenticate(credentials.username, credentials.password, {
          address: remoteAddress,
          service: 'smtp',
        }),
      );
    },
    judge: async exchange => toJudgement(await given.parts.exchanges.judge(exchange)),
  };
}

function hostOver(given: Given, entryName: string): Host {
  const { parts } = given;
  const dataDir = path.join(parts.dataFolder, 'plugins', entryName.replace(/[^\w.-]/g, '_'));
  mkdirSync(dataDir, { recursive: true });
  return {
    hostname: parts.hostname,
    log: parts.log.child({ plugin: entryName }),
    clock: parts.clock,
    dns: parts.dns,
    mailboxes: mailboxesOf(given),
    rules: {
      async open(options) {
        given.usedRules = true;
        const { runner, stored } = await given.parts.rules.open(options);
        given.offers = { ...given.offers, storedRules: stored };
        return runner;
      },
    },
    memory: parts.memory.of(memoryOwner(entryName)),
    get postmaster() {
      return given.parts.postmaster;
    },
    isRelayClient: address => given.parts.isRelayClient(address),
    dataDir,
    resolvePath(name) {
      const file = path.resolve(given.parts.configFolder, name);
      if (!given.files.has(file)) given.files.set(file, fileStamp(file));
      return file;
    },
    readSecret(secret) {
      const read = readSecret(secret, given.parts.configFolder, given.parts.env);
      if (read instanceof Error) throw read;
      given.secrets.set(secret, read);
      return read;
    },
    onForward(rewriteForwarded) {
      given.offers = { ...given.offers, rewriteForwarded };
    },
    submit: mail => given.parts.submit(mail),
  };
}

export function createPluginHosts(): PluginHosts {
  let running: ReadonlyMap<string, Given> = new Map();
  return {
    over(parts) {
      const fresh = new Map<string, Given>();
      return {
        hostFor(entryName) {
          const given: Given = {
            parts,
            setUpUnder: parts,
            files: new Map(),
            secrets: new Map(),
            usedRules: false,
            offers: {},
          };
          fresh.set(entryName, given);
          return hostOver(given, entryName);
        },
        mayKeep(entryName) {
          const given = running.get(entryName);
          if (!given) return false;
          if (given.usedRules && given.setUpUnder.rulesRevision !== parts.rulesRevision) return false;
          const secretsStand = [...given.secrets].every(
            ([secret, value]) => readSecret(secret, parts.configFolder, parts.env) === value,
          );
          return secretsStand && [...given.files].every(([file, stamp]) => fileStamp(file) === stamp);
        },
        adopt() {
          for (const given of running.values()) given.parts = parts;
          running = new Map([...running, ...fresh]);
        },
      };
    },
    offers: names => Object.assign({}, ...names.map(name => running.get(name)?.offers ?? {})) as Offers,
  };
}
