// Reads files of Postfix's transport(5): `pattern  transport:nexthop`, `#` comments, lines that begin with white space
// continue the one before. Transports: smtp, relay (MX unless in [brackets]), lmtp (`inet:host:port`, `unix:/path`),
// local and virtual (here), discard, error and retry (the rest is the reason).

import { mapLines } from '../lib/map-lines.ts';
import { parseNextHop, type RelayTarget, type RouteEntry, type RouteTarget } from './route.ts';
import type { TlsPolicy } from './tls-policy.ts';

export interface MapProblem {
  /** 1-based line. */
  readonly line: number;
  readonly message: string;
}

export interface TransportMap {
  readonly entries: readonly RouteEntry[];
  readonly problems: readonly MapProblem[];
}

export interface MapDefaults {
  readonly tls: TlsPolicy;
  readonly direct: boolean;
}

export function parseTransportMap(text: string, defaults: MapDefaults): TransportMap {
  const entries: RouteEntry[] = [];
  const problems: MapProblem[] = [];
  for (const { line, text: content } of mapLines(text)) {
    const [pattern = '', ...rest] = content.split(/\s+/);
    const value = rest.join(' ');
    const target = value === '' ? 'Transport is missing' : parseTarget(value, defaults);
    if (typeof target === 'string') problems.push({ line, message: target });
    else if (target !== undefined) entries.push({ pattern: pattern.toLowerCase(), target });
  }
  return { entries, problems };
}

/** A sentence where it makes no sense; undefined where the line says "as if it were not listed" (`:`). */
function parseTarget(value: string, defaults: MapDefaults): RouteTarget | string | undefined {
  const colon = value.indexOf(':');
  const name = colon < 0 ? value : value.slice(0, colon);
  const hop = colon < 0 ? '' : value.slice(colon + 1);
  switch (name) {
    case 'local':
    case 'virtual':
      return { kind: 'local' };
    case 'discard':
      return { kind: 'discard' };
    case 'error':
    case 'retry':
      return { kind: 'error', text: hop.trim() };
    case 'lmtp':
      return parseLmtp(hop, defaults);
    case '':
      return hop === '' ? undefined : relayTo(hop, defaults, false);
    case 'smtp':
    case 'relay':
    case 'smtps':
      return relayTo(hop, defaults, name === 'smtps');
    default:
      return `Unknown transport "${name}"`;
  }
}

/** Several hops, separated by commas, are tried in order (as in Postfix 3.5 and later). */
function relayTo(text: string, defaults: MapDefaults, implicitTls: boolean): RelayTarget | string {
  const names = text.split(/[,\s]+/).filter(each => each !== '');
  const hosts = names.map(each => parseNextHop(each, implicitTls ? 465 : 25, true));
  const bad = names.find((_, index) => hosts[index] === undefined);
  if (bad !== undefined) return `Not a next hop: "${bad}"`;
  const { tls, direct } = defaults;
  return { kind: 'relay', protocol: 'smtp', hosts: hosts.filter(each => each !== undefined), tls, implicitTls, direct };
}

function parseLmtp(text: string, { tls, direct }: MapDefaults): RelayTarget | string {
  const place = text.startsWith('unix:') ? text.slice(5) : text.replace(/^inet:/, '');
  const host = parseNextHop(place, 24);
  return host ? { kind: 'relay', protocol: 'lmtp', hosts: [host], tls, direct } : `Not an LMTP server: "${text}"`;
}
