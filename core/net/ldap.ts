// LDAP for reading: connects, encrypts, binds, searches page by page (RFC 4511, RFC 2696). The only file that knows ldapts.
// Credentials never cross an unencrypted connection but to this very machine (invariant I8).
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { Client, type Entry } from 'ldapts';

export interface LdapOptions {
  /** `ldap://host:port` or `ldaps://host:port`. */
  readonly url: string;
  /** Upgrade `ldap://` by StartTLS (RFC 4511 §4.14). */
  readonly startTls: boolean;
  /** PEM file of the authorities that vouch for the server; default: those Node trusts. */
  readonly caFile?: string;
  /** Absent: anonymous. */
  readonly bind?: { readonly dn: string; readonly password: string };
  readonly timeoutMs: number;
  readonly pageSize: number;
}

export interface LdapEntry {
  readonly dn: string;
  /** Values as text; empty where there are none. Names ignore case. */
  values(attribute: string): readonly string[];
  /** The first value as bytes, in hex: for ids such as `objectGUID`. */
  hex(attribute: string): string | undefined;
}

export interface LdapSearch {
  readonly base: string;
  readonly scope: 'base' | 'sub';
  readonly filter: string;
  readonly attributes: readonly string[];
}

export interface LdapConnection {
  /** Page after page. */
  search(request: LdapSearch): AsyncIterable<readonly LdapEntry[]>;
  close(): Promise<void>;
}

/** Attributes of Active Directory that are no text. */
const binary = ['objectGUID', 'invocationId'];

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.');

/** Whether a password may be sent there. */
export function ldapIsPrivate({ url, startTls }: Pick<LdapOptions, 'url' | 'startTls'>): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'ldaps:' || startTls || isLoopback(hostname.replace(/^\[|\]$/g, ''));
}

function entryOf(entry: Entry): LdapEntry {
  const raw = (attribute: string): readonly (string | Buffer)[] => {
    const wanted = attribute.toLowerCase();
    const name = Object.keys(entry).find(key => key.toLowerCase() === wanted);
    const value = name === undefined || name === 'dn' ? undefined : entry[name];
    return value === undefined ? [] : Array.isArray(value) ? value : [value];
  };
  return {
    dn: entry.dn,
    values: attribute => raw(attribute).map(value => (typeof value === 'string' ? value : value.toString('utf8'))),
    hex(attribute) {
      const [value] = raw(attribute);
      if (value === undefined || value.length === 0) return undefined;
      return (typeof value === 'string' ? Buffer.from(value) : value).toString('hex');
    },
  };
}

/** Rejects where the server cannot be reached, its certificate is not good, or it refuses the credentials. */
export async function connectLdap(options: LdapOptions, signal: AbortSignal): Promise<LdapConnection> {
  signal.throwIfAborted();
  if (options.bind && !ldapIsPrivate(options))
    throw new Error(`Will not send a password to ${options.url} unencrypted`);
  const host = new URL(options.url).hostname.replace(/^\[|\]$/g, '');
  const tlsOptions = {
    ...(net.isIP(host) === 0 ? { servername: host } : {}),
    ...(options.caFile === undefined ? {} : { ca: readFileSync(options.caFile) }),
  };
  const client = new Client({
    url: options.url,
    timeout: options.timeoutMs,
    connectTimeout: options.timeoutMs,
    strictDN: false,
    ...(options.url.startsWith('ldaps:') ? { tlsOptions } : {}),
  });
  const close = async (): Promise<void> => {
    signal.removeEventListener('abort', onAbort);
    // A server that is gone need not be told.
    await client.unbind().catch(() => undefined);
  };
  const onAbort = (): void => void close();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    if (options.startTls) await client.startTLS({ host, ...tlsOptions });
    if (options.bind) await client.bind(options.bind.dn, options.bind.password);
  } catch (error) {
    await close();
    // The library's own words are often but a code.
    const { name, message } = error as Error;
    throw new Error(`${options.url}: ${name === 'Error' ? '' : `${name} `}${message.trim()}`, { cause: error });
  }
  return {
    async *search({ base, scope, filter, attributes }) {
      // The client connects again on its own: unencrypted, and as nobody.
      if (!client.isConnected || (options.bind && !client.isBound))
        throw new Error(`${options.url} closed the connection`);
      const request = { scope, filter, attributes: [...attributes], explicitBufferAttributes: binary };
      if (scope === 'base') {
        yield (await client.search(base, request)).searchEntries.map(entryOf);
        return;
      }
      for await (const page of client.searchPaginated(base, { ...request, paged: { pageSize: options.pageSize } })) {
        signal.throwIfAborted();
        yield page.searchEntries.map(entryOf);
      }
    },
    close,
  };
}
