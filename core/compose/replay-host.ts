// What plugins are given in a replay: the world as it is, to look at only. They resolve names and ask engines as ever; what
// they write goes to a scratch folder and into memory; nothing is delivered, submitted, learnt or logged in.
import type { Logger } from 'pino';
import type { Directory } from '../accounts/directory.ts';
import type { LoadedConfig } from '../config/load.ts';
import { cidrSet } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import type { Dns, Host, Memory, Remembered } from '../plugin/contract.ts';
import { pass } from '../plugin/verdicts.ts';
import type { MemoryStore } from '../state/memory.ts';
import { createMailboxLookup } from './mailbox-lookup.ts';
import { createPluginHosts } from './plugin-host.ts';

/** Reads through to `real`; what is written stays here. */
function overlay(real: Memory, clock: Clock): Memory {
  const written = new Map<string, Remembered | undefined>();
  const alive = (entry: Remembered | undefined): entry is Remembered =>
    entry !== undefined && entry.expiresAt > clock.now();
  const get: Memory['get'] = async key => {
    if (!written.has(key)) return real.get(key);
    const entry = written.get(key);
    return alive(entry) ? entry.value : undefined;
  };
  return {
    get,
    async set(key, value, ttlMs) {
      written.set(key, { key, value, expiresAt: clock.now() + ttlMs });
    },
    async delete(key) {
      const there = (await get(key)) !== undefined;
      written.set(key, undefined);
      return there;
    },
    async list(prefix, limit) {
      const found = new Map((await real.list(prefix, limit)).map(entry => [entry.key, entry]));
      for (const [key, entry] of written) {
        if (!key.startsWith(prefix)) continue;
        if (alive(entry)) found.set(key, entry);
        else found.delete(key);
      }
      return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1)).slice(0, limit);
    },
  };
}

export interface ReplayHostParts {
  /** Whose chain it is. */
  readonly config: LoadedConfig;
  readonly hostname: string;
  readonly log: Logger;
  readonly clock: Clock;
  readonly dns: Dns;
  readonly directory: Directory;
  readonly memory: MemoryStore;
  readonly scratchFolder: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export function createReplayHost(parts: ReplayHostParts): (entryName: string) => Host {
  const { config, clock, directory } = parts;
  const { options } = config;
  const relayClients = cidrSet(options.relayNetworks);
  const lookOnly: Directory = {
    find: name => directory.find(name),
    domains: () => directory.domains(),
    authenticate: async () => ({ kind: 'unavailable', why: 'Nobody logs in during a replay' }),
  };
  const { hostFor } = createPluginHosts().over({
    hostname: parts.hostname,
    log: parts.log,
    clock,
    dns: parts.dns,
    directory: lookOnly,
    exchanges: { judge: async () => ({ kind: 'unavailable', why: 'Nobody logs in during a replay' }) },
    lookup: createMailboxLookup(lookOnly, options.domains, options.recipientDelimiter),
    // Recipients elsewhere were verified when the message came; their servers are not asked again.
    recipients: { verify: () => undefined },
    isRelayClient: address => relayClients.has(address),
    dataFolder: parts.scratchFolder,
    configFolder: config.folder,
    env: parts.env,
    memory: { of: owner => overlay(parts.memory.of(owner), clock) },
    postmaster: undefined,
    submit: async () => 'replay',
    rules: { open: () => Promise.reject(new Error('Rules are not opened in a replay')) },
    rulesRevision: '',
  });
  // The deliver hook is never run, so no rules are.
  const rules: Host['rules'] = { open: async () => ({ deliver: async () => pass }) };
  return entryName => ({ ...hostFor(entryName), rules });
}
