// LDAP for reading: connects, encrypts, binds, searches page by page (RFC 4511, RFC 2696); attributes come whole, however
// many values they have. The only file that knows ldapts.
// Credentials never cross an unencrypted connection but to this very machine (invariant I8).
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import {
  Client,
  type ClientOptions,
  Control,
  type Entry,
  FilterParser,
  MessageResponseStatus,
  PagedResultsControl,
  type SearchOptions,
  SearchRequest,
  type SearchResponse,
  StatusCodeParser,
} from 'ldapts';
import { raceSignal } from '../lib/deadline.ts';
import { completeRanges, type RawAttributes } from './ldap-ranges.ts';

/** For the LDAP server of the test kit. */
export { BerReader, BerWriter, Control, ControlParser, PagedResultsControl } from 'ldapts';

export interface LdapOptions {
  /** `ldap://host:port` or `ldaps://host:port`. */
  readonly url: string;
  /** IP address to connect to; default: what the system knows of the host. Certificates are for the host either way. */
  readonly address?: string;
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
  /** OIDs of controls without a value that the server must heed or refuse (RFC 4511 §4.1.11). */
  readonly controls?: readonly string[];
}

export interface LdapConnection {
  /** Page after page. Where the server refuses, the error's `code` is the result code (a number, RFC 4511 §4.1.9). */
  search(request: LdapSearch): AsyncIterable<readonly LdapEntry[]>;
  close(): Promise<void>;
}

/** Attributes of Active Directory that are no text. */
const binary = ['objectGUID', 'invocationId'];

type PagedRequest = { readonly scope: 'base' | 'sub'; readonly filter: string } & Pick<
  SearchOptions,
  'attributes' | 'explicitBufferAttributes'
>;

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.');

/** Whether a password may be sent there. */
export function ldapIsPrivate({ url, startTls }: Pick<LdapOptions, 'url' | 'startTls'>): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'ldaps:' || startTls || isLoopback(hostname.replace(/^\[|\]$/g, ''));
}

function rawOf({ dn: _, ...attributes }: Entry): RawAttributes {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [name, Array.isArray(value) ? value : [value]]),
  );
}

function entryOf(dn: string, attributes: ReadonlyMap<string, readonly (string | Buffer)[]>): LdapEntry {
  return {
    dn,
    values: attribute =>
      (attributes.get(attribute.toLowerCase()) ?? []).map(value =>
        typeof value === 'string' ? value : value.toString('utf8'),
      ),
    hex(attribute) {
      const [value] = attributes.get(attribute.toLowerCase()) ?? [];
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
  const { address } = options;
  const client = new Client({
    url: options.url,
    timeout: options.timeoutMs,
    connectTimeout: options.timeoutMs,
    strictDN: false,
    ...(options.url.startsWith('ldaps:') ? { tlsOptions } : {}),
    ...(address === undefined ? {} : connectTo(address, options.url.startsWith('ldaps:'))),
  });
  const close = async (): Promise<void> => {
    signal.removeEventListener('abort', onAbort);
    // A server that is gone need not be told.
    await client.unbind().catch(() => undefined);
  };
  const onAbort = (): void => void close();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    // The client never comes back from a connection that is closed while it is made.
    if (options.startTls) await raceSignal(client.startTLS({ host, ...tlsOptions }), signal);
    // RFC 4513 §5.1.1: nobody is nobody by a bind too, and the connection is there.
    await raceSignal(client.bind(options.bind?.dn ?? '', options.bind?.password ?? ''), signal);
  } catch (error) {
    await close();
    // The library's own words are often but a code.
    const { name, message } = error as Error;
    throw new Error(`${options.url}: ${name === 'Error' ? '' : `${name} `}${message.trim()}`, { cause: error });
  }
  function usable(): void {
    signal.throwIfAborted();
    // The client connects again on its own: unencrypted, and as nobody.
    if (!client.isBound) throw new Error(`${options.url} closed the connection`);
  }
  return {
    async *search({ base, scope, filter, attributes, controls: oids = [] }) {
      const controls = oids.map(oid => new Control(oid, { critical: true }));
      const request = { scope, filter, attributes: [...attributes], explicitBufferAttributes: binary };
      const again = (dn: string) => async (attribute: string) => {
        usable();
        const one: SearchOptions = { scope: 'base', filter: '(objectClass=*)', attributes: [attribute] };
        const [entry] = (await client.search(dn, one, controls)).searchEntries;
        return entry && rawOf(entry);
      };
      const whole = async (entries: readonly Entry[]): Promise<readonly LdapEntry[]> => {
        const found: LdapEntry[] = [];
        for (const entry of entries)
          found.push(entryOf(entry.dn, await completeRanges(entry.dn, rawOf(entry), again(entry.dn))));
        return found;
      };
      usable();
      if (scope === 'base') {
        yield await whole((await client.search(base, request, controls)).searchEntries);
        return;
      }
      for await (const page of pages(client, base, request, controls, options.pageSize)) {
        signal.throwIfAborted();
        yield await whole(page);
      }
    },
    close,
  };
}

/** Most pages in a row without an entry. */
const maxEmptyPages = 1_000;

/**
 * RFC 2696 §3: the end is where no cookie comes. A page may be empty and others follow (a domain controller that ran out of
 * time for it), where the client's own paging would stop and the rest of the recipients would not exist. Its public methods
 * do not give the cookie, hence the private ones; a version without them does not compile.
 */
async function* pages(
  client: Client,
  base: string,
  { scope, filter, attributes, explicitBufferAttributes }: Required<PagedRequest>,
  controls: readonly Control[],
  size: number,
): AsyncGenerator<readonly Entry[]> {
  let cookie: Buffer = Buffer.alloc(0);
  for (let empty = 0; empty < maxEmptyPages; ) {
    const request = new SearchRequest({
      messageId: client['_nextMessageId'](),
      baseDN: base,
      scope,
      filter: FilterParser.parseString(filter),
      attributes,
      explicitBufferAttributes,
      controls: [...controls, new PagedResultsControl({ value: { size, cookie } })],
    });
    const answer: SearchResponse | undefined = await client['_send'](request);
    if (answer?.status !== MessageResponseStatus.Success) throw StatusCodeParser.parse(answer);
    const entries = answer.searchEntries.map(entry => entry.toObject(attributes, explicitBufferAttributes));
    if (entries.length > 0) yield entries;
    empty = entries.length > 0 ? 0 : empty + 1;
    const control = answer.controls?.find(each => each instanceof PagedResultsControl);
    cookie = control?.value?.cookie ?? Buffer.alloc(0);
    if (cookie.length === 0) return;
  }
  throw new Error('The server promises more and gives nothing');
}

/** How the client reaches a host whose address is known. */
function connectTo(
  address: string,
  secure: boolean,
): Pick<ClientOptions, 'createConnection' | 'createSecureConnection'> {
  const plain = (port: number): net.Socket => net.connect(port, address);
  const encrypted = (port: number, _host: string, more?: tls.ConnectionOptions): tls.TLSSocket =>
    tls.connect({ ...more, port, host: address });
  return secure
    ? { createSecureConnection: encrypted as typeof tls.connect }
    : { createConnection: plain as typeof net.connect };
}
