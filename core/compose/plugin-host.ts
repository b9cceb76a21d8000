// What each plugin is given: one `Host` per chain entry, over the parts of this gateway.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import type { Directory } from '../accounts/directory.ts';
import type { Clock } from '../lib/clock.ts';
import { parseMailbox } from '../mail/address.ts';
import type { Dns, Host, Mailboxes, Rules } from '../plugin/contract.ts';
import type { MemoryStore } from '../state/memory.ts';
import type { MailboxLookup } from './mailbox-lookup.ts';
import { readSecret } from './secret.ts';

export interface HostParts {
  readonly hostname: string;
  readonly log: Logger;
  readonly clock: Clock;
  readonly dns: Dns;
  readonly directory: Directory;
  readonly lookup: MailboxLookup;
  readonly isRelayClient: (address: string) => boolean;
  readonly dataFolder: string;
  readonly configFolder: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly submit: Host['submit'];
  readonly rules: Rules;
  readonly memory: MemoryStore;
}

/** Whose memory it is; commands open the same one. */
export const memoryOwner = (entryName: string): string => `plugin:${entryName}`;

function mailboxesOf(parts: HostParts): Mailboxes {
  return {
    domainKind: parts.lookup.domainKind,
    async exists(address) {
      const parsed = parseMailbox(address);
      if (parsed.kind !== 'address') return { kind: 'none' };
      const found = await parts.lookup.find(parsed.address);
      return found.kind === 'found' ? (found.value.disabled ? { kind: 'none' } : { kind: 'found' }) : found;
    },
    async authenticate(credentials, remoteAddress) {
      const result = await parts.directory.authenticate(credentials.username, credentials.password, {
        address: remoteAddress,
        service: 'smtp',
      });
      return result.kind === 'ok' ? { kind: 'ok', name: result.account.name } : result;
    },
  };
}

export function createPluginHost(parts: HostParts): (entryName: string) => Host {
  const mailboxes = mailboxesOf(parts);
  return entryName => {
    const dataDir = path.join(parts.dataFolder, 'plugins', entryName.replace(/[^\w.-]/g, '_'));
    mkdirSync(dataDir, { recursive: true });
    return {
      hostname: parts.hostname,
      log: parts.log.child({ plugin: entryName }),
      clock: parts.clock,
      dns: parts.dns,
      mailboxes,
      rules: parts.rules,
      memory: parts.memory.of(memoryOwner(entryName)),
      isRelayClient: parts.isRelayClient,
      dataDir,
      resolvePath: name => path.resolve(parts.configFolder, name),
      readSecret(secret) {
        const read = readSecret(secret, parts.configFolder, parts.env);
        if (read instanceof Error) throw read;
        return read;
      },
      submit: parts.submit,
    };
  };
}
