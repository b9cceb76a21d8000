// The accounts of `fetch` in the configuration as pollers.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import type { FetchOptions } from '../config/gateway-options.ts';
import { ConfigError, type ConfigProblem, type LoadedConfig } from '../config/load.ts';
import { openImap } from '../intake/imap-mailbox.ts';
import type { IntakeMemory } from '../intake/memory.ts';
import { createPoller, type Poller } from '../intake/poller.ts';
import { openPop3 } from '../intake/pop3-mailbox.ts';
import type { Inject } from '../intake/ports.ts';
import type { RemoteMailbox } from '../intake/remote-mailbox.ts';
import type { Clock } from '../lib/clock.ts';
import { parseMailbox } from '../mail/address.ts';
import { readSecret } from './secret.ts';

const ports = {
  pop3: { implicit: 995, starttls: 110, none: 110 },
  imap: { implicit: 993, starttls: 143, none: 143 },
} as const;

/** Everything that can change meanwhile (password, authorities) is read for each poll. */
function open(
  account: FetchOptions,
  config: LoadedConfig,
  parts: FetchParts,
  signal: AbortSignal,
): Promise<RemoteMailbox> {
  const password = readSecret(account.password, config.folder, parts.env);
  if (password instanceof Error) return Promise.reject(password);
  const ca = account.ca === undefined ? undefined : readFileSync(path.resolve(config.folder, account.ca), 'utf8');
  const remote = {
    host: account.host,
    port: account.port ?? ports[account.protocol][account.tls],
    implicitTls: account.tls === 'implicit',
    startTls: account.tls === 'starttls',
    trust: {
      servername: account.host,
      ...(ca === undefined ? {} : { ca }),
      ...(account.fingerprint === undefined ? {} : { fingerprint: account.fingerprint }),
    },
    username: account.username,
    password,
    token: account.login === 'xoauth2',
    mailbox: account.mailbox,
    clock: parts.clock,
    timeoutMs: account.timeout,
    signal,
  };
  return account.protocol === 'pop3' ? openPop3(remote) : openImap(remote);
}

function createOne(
  account: FetchOptions,
  config: LoadedConfig,
  parts: FetchParts,
  { inject, memory }: { readonly inject: Inject; readonly memory: IntakeMemory },
): Poller {
  const recipient = parseMailbox(account.recipient, { smtputf8: true });
  if (recipient.kind === 'error') throw new ConfigError(fetchProblems(config));
  const ours = new Set(config.options.domains.map(domain => domain.name));
  return createPoller({
    options: {
      name: account.name,
      protocol: `${account.protocol.toUpperCase()}${account.tls === 'none' ? '' : 'S'}`,
      host: account.host,
      recipient: recipient.address,
      ...(account.recipientFields.length === 0
        ? {}
        : {
            multidrop: {
              fields: account.recipientFields,
              prefix: account.recipientPrefix,
              isOurs: (domain: string) => ours.has(domain),
            },
          }),
      skipHops: account.skipHops,
      delete: account.delete,
      keepMs: account.keepFor,
      refused: account.refused,
      intervalMs: account.interval,
      maxIntervalMs: Math.max(account.maxInterval, account.interval),
      maxMessages: account.maxMessages,
      maxSize: config.options.message.maxSize,
    },
    open: signal => open(account, config, parts, signal),
    memory,
    inject,
    hostname: parts.hostname,
    spoolFile: path.join(parts.spoolDir, `fetch-${account.name}.incoming`),
    clock: parts.clock,
    log: parts.log,
  });
}

/** What is wrong with the accounts, before any of them is asked. */
export const fetchProblems = (config: LoadedConfig): readonly ConfigProblem[] =>
  config.options.fetch.flatMap(({ recipient }, index) =>
    parseMailbox(recipient, { smtputf8: true }).kind === 'error'
      ? [config.locate(['fetch', index, 'recipient'], `'${recipient}' is not an address`)]
      : [],
  );

/** Of the gateway, for pollers. */
export interface FetchParts {
  readonly hostname: string;
  readonly spoolDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface FetchAccounts {
  /** The pollers become those of the configuration; what is unchanged goes on. */
  apply(config: LoadedConfig): Promise<void>;
  list(): readonly Poller[];
  close(): Promise<void>;
}

export function createFetchAccounts(
  parts: FetchParts,
  to: { readonly inject: Inject; readonly memory: IntakeMemory },
): FetchAccounts {
  let running: ReadonlyMap<string, Poller> = new Map();
  return {
    async apply(config) {
      const next = new Map<string, Poller>();
      const wanted = config.options.fetch.map(account => ({
        account,
        key: JSON.stringify([account, config.options.domains, config.options.message.maxSize]),
      }));
      const gone = [...running].filter(([key]) => !wanted.some(each => each.key === key));
      // Before its successor begins: two must not fetch from one account.
      await Promise.all(gone.map(([, poller]) => poller.close()));
      for (const { account, key } of wanted) next.set(key, running.get(key) ?? createOne(account, config, parts, to));
      running = next;
    },
    list: () => [...running.values()],
    async close() {
      await Promise.all([...running.values()].map(poller => poller.close()));
    },
  };
}
