// The servers of a directory, one of which is asked: those written down, or those that the SRV records of a domain name,
// looked up at each connect. A server stays the one in use as long as the records name it and it answers: another one
// counts its changes for itself, so changing means a whole read.
import type { DirectoryOptions } from '../config/gateway-options.ts';
import type { Clock } from '../lib/clock.ts';
import { createFailover, type Failover } from '../lib/failover.ts';
import { connectLdap, type LdapConnection, type LdapOptions } from '../net/ldap.ts';
import { lookUpSrv, type SrvRecord } from '../net/srv.ts';
import type { Dns } from '../plugin/contract.ts';
import { lookUpAddresses } from '../relay/mx.ts';

export interface DirectoryServerParts {
  readonly clock: Clock;
  readonly dns: Dns;
  /** A server stopped working, or (without a reason) works again. */
  readonly onChange: (server: string, why: string | undefined) => void;
  readonly random?: () => number;
}

export interface DirectoryServers {
  /** Connects to the first that answers. Rejects with what each said, or with why there is none. */
  connect(signal: AbortSignal): Promise<{ readonly server: string; readonly connection: LdapConnection }>;
}

const retryMs = 60_000;

/** Names of the records, in the order to ask: domain controllers of Active Directory, then LDAP of anybody. */
export const srvNames = (domain: string): readonly string[] => [
  `_ldap._tcp.dc._msdcs.${domain}`,
  `_ldap._tcp.${domain}`,
];

/** `common`: how to speak to each of them. */
export function createDirectoryServers(
  options: Pick<DirectoryOptions, 'urls' | 'domain' | 'startTls' | 'ldapsPort' | 'timeout'>,
  common: Omit<LdapOptions, 'url' | 'startTls'>,
  parts: DirectoryServerParts,
): DirectoryServers {
  const { clock, dns, random = Math.random } = parts;
  const { domain } = options;
  const failover = (urls: readonly string[]): Failover<string> =>
    createFailover(urls, url => url, { clock, attemptMs: options.timeout, retryMs, onChange: parts.onChange });
  let servers = failover(options.urls);
  let named = '';
  let inUse: string | undefined;

  const urlOf = ({ target, port }: SrvRecord): string =>
    options.startTls ? `ldap://${target}:${port}` : `ldaps://${target}:${options.ldapsPort}`;

  async function discover(name: string, signal: AbortSignal): Promise<void> {
    const found = await findServers(dns, name, random, signal);
    // The same servers keep their order, which chance had a part in, and what is known of their health.
    const now = found
      .map(record => `${record.priority} ${urlOf(record)}`)
      .sort()
      .join();
    if (now === named) return;
    named = now;
    servers = failover([...new Set(inOrder(found, urlOf, inUse).map(urlOf))]);
  }

  async function open(url: string, signal: AbortSignal, attempt: AbortSignal): Promise<LdapConnection> {
    const ldap = { ...common, url, startTls: options.startTls && url.startsWith('ldap:') };
    // Names that DNS gave are asked of the same DNS; what is written down may stand in /etc/hosts.
    if (domain === undefined) return connectLdap(ldap, signal);
    const host = new URL(url).hostname;
    const answer = await lookUpAddresses(dns, host, [4, 6], attempt);
    if (answer.kind !== 'addresses') throw new Error(answer.kind === 'none' ? `${host} has no address` : answer.why);
    let failure: unknown;
    for (const address of answer.addresses) {
      attempt.throwIfAborted();
      try {
        return await connectLdap({ ...ldap, address }, signal);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  return {
    async connect(signal) {
      if (domain !== undefined) await discover(domain, signal);
      return servers.run(signal, async (url, attempt) => {
        // The connection lives on when the attempt to open it is over, so it has the longer signal.
        const connection = await open(url, signal, attempt);
        if (attempt.aborted) {
          await connection.close();
          throw attempt.reason;
        }
        inUse = url;
        return { server: url, connection };
      });
    },
  };
}

/** The server in use first among those of its priority. */
function inOrder(
  records: readonly SrvRecord[],
  urlOf: (record: SrvRecord) => string,
  inUse: string | undefined,
): readonly SrvRecord[] {
  const rank = (record: SrvRecord): number => (urlOf(record) === inUse ? 0 : 1);
  return [...records].sort((a, b) => a.priority - b.priority || rank(a) - rank(b));
}

async function findServers(
  dns: Dns,
  domain: string,
  random: () => number,
  signal: AbortSignal,
): Promise<readonly SrvRecord[]> {
  const reasons: string[] = [];
  for (const name of srvNames(domain)) {
    const answer = await lookUpSrv(dns, name, random, signal);
    if (answer.kind === 'hosts') {
      // RFC 4513 §3.1.3: the name that the certificate must bear shall not be one that a forged answer chose.
      const usable = answer.hosts.filter(({ target }) => answer.secure || `.${target}`.endsWith(`.${domain}`));
      if (usable.length > 0) return usable;
      const outside = answer.hosts.map(({ target }) => target).join(', ');
      reasons.push(`${name} names only hosts outside ${domain} (${outside}), without DNSSEC`);
    } else reasons.push(answer.kind === 'none' ? `${name} does not exist` : answer.why);
  }
  throw new Error(`No server of the directory is known: ${reasons.join('; ')}`);
}
