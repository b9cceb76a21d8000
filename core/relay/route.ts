// Where mail for a recipient goes: the most specific entry of the route table wins. The ideas of Postfix map one to one:
// `transport(5)` lines are entries, `relayhost` is the entry `*`, [brackets] skip MX records.
import { fitsSocket } from '../lib/socket-path.ts';
import type { Address } from '../mail/address.ts';
import type { RelayCredentials } from './client.ts';
import type { TlsPolicy } from './tls-policy.ts';

export interface NextHop {
  /** Host name, IP address, or path of a socket (LMTP). */
  readonly host: string;
  readonly port: number;
  /** Look up MX records of `host` rather than its addresses. */
  readonly mx: boolean;
}

export interface RelayTarget {
  readonly kind: 'relay';
  readonly protocol: 'smtp' | 'lmtp';
  /** In order of preference; empty: by MX records of the recipient's domain. */
  readonly hosts: readonly NextHop[];
  /** `opportunistic` becomes DANE or MTA-STS where a domain found by MX publishes them. */
  readonly tls: TlsPolicy;
  readonly implicitTls?: boolean;
  readonly credentials?: RelayCredentials;
  /** Tell the next hop who the client was; it must trust us. */
  readonly clientFacts?: 'xclient' | 'xforward';
  /** Use BDAT where offered. Default true. */
  readonly chunking?: boolean;
  /** What becomes of 8-bit content at a server without 8BITMIME (RFC 6152 §3). Default: convert. */
  readonly downgrade?: 'convert' | 'bounce';
  /** Most connections to one of the hosts; default: the relay's. */
  readonly connections?: number;
  /** Try before 250. */
  readonly direct: boolean;
}

export type RouteTarget =
  | RelayTarget
  /** Delivered here. */
  | { readonly kind: 'local' }
  | { readonly kind: 'discard' }
  /** Refused with these words. */
  | { readonly kind: 'error'; readonly text: string };

export interface RouteEntry {
  /** `user@example.org`, `user@`, `example.org`, `.example.org` (its subdomains), `*` (everything else). */
  readonly pattern: string;
  readonly target: RouteTarget;
}

export interface RouteTable {
  lookUp(address: Address): RouteEntry | undefined;
}

/** Order of transport(5): the whole address, without its extension, the domain, its parents, the default. */
export function createRouteTable(entries: readonly RouteEntry[], delimiter = '+'): RouteTable {
  const table = new Map<string, RouteEntry>();
  for (const entry of entries) {
    const key = entry.pattern.toLowerCase();
    if (!table.has(key)) table.set(key, entry);
  }
  return {
    lookUp({ local, domain }) {
      const user = local.toLowerCase();
      const cut = delimiter === '' ? -1 : user.indexOf(delimiter);
      const base = cut > 0 ? user.slice(0, cut) : user;
      const labels = domain.split('.');
      const keys = [
        `${user}@${domain}`,
        `${base}@${domain}`,
        domain,
        ...labels.map((_, index) => `.${labels.slice(index + 1).join('.')}`).slice(0, -1),
        '*',
      ];
      for (const key of keys) {
        const entry = table.get(key);
        if (entry) return entry;
      }
      return undefined;
    },
  };
}

/** `host`, `host:port`, `[host]`, `[host]:port`, `[::1]:port`, `2001:db8::1`, `/path` of a socket. Undefined for what is none of these. */
export function parseNextHop(text: string, defaultPort: number, byMx = false): NextHop | undefined {
  if (text.startsWith('/')) return fitsSocket(text) ? { host: text, port: 0, mx: false } : undefined;
  const match = /^(?:\[([^\]\s]+)\]|([^\s[\]]+?))(?::([a-z0-9-]+))?$/i.exec(text);
  if (!match) return undefined;
  const [, bracketed, plain, portText] = match;
  // An IPv6 address without brackets has no port.
  if (plain !== undefined && (text.match(/:/g)?.length ?? 0) > 1)
    return /^[0-9a-f:.]+$/i.test(text) ? { host: text, port: defaultPort, mx: false } : undefined;
  const port = portText === undefined ? defaultPort : (namedPorts[portText.toLowerCase()] ?? Number(portText));
  if (!Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
  const host = (bracketed?.replace(/^ipv6:/i, '') ?? plain ?? '').toLowerCase().replace(/\.$/, '');
  if (host === '') return undefined;
  return { host, port, mx: bracketed === undefined && byMx };
}

const namedPorts: Readonly<Record<string, number>> = {
  smtp: 25,
  submission: 587,
  smtps: 465,
  submissions: 465,
  lmtp: 24,
};

/** Groups queue entries and back-off: what goes to the same hosts shares their trouble. */
export function destinationOf(target: RelayTarget, domain: string): string {
  if (target.hosts.length === 0) return domain;
  const list = target.hosts.map(({ host, port, mx }) => `${mx ? host : `[${host}]`}:${port}`).join(',');
  return `${target.protocol}:${list}`;
}
