// From the route table to a transport: what the queue asks for every recipient. Declares the shapes that it needs of the
// queue's ports; `gateway.ts` connects.
import type { Recipient } from '../mail/envelope.ts';
import type { Reply } from '../mail/reply.ts';
import type { RelayJob } from './envelope-lines.ts';
import type { RelayOutcome } from './outcome.ts';
import { destinationOf, parseNextHop, type RelayTarget, type RouteTable } from './route.ts';
import type { Relay } from './smtp-transport.ts';
import type { TlsPolicy } from './tls-policy.ts';

interface AnyTransport<Job, Outcome> {
  readonly name: string;
  deliver(job: Job, recipients: readonly Recipient[], signal: AbortSignal): Promise<readonly Outcome[]>;
}

export type LookupAnswer<Local> =
  | {
      readonly kind: 'route';
      readonly route: {
        readonly transport: Local | AnyTransport<RelayJob, RelayOutcome>;
        readonly destination: string;
        readonly direct: boolean;
      };
    }
  | { readonly kind: 'unavailable'; readonly why: string }
  | { readonly kind: 'none'; readonly reply: Reply<5>; readonly why: string };

export interface LookupParts<Local> {
  readonly relay: Relay;
  readonly table: RouteTable;
  /** Delivers into mailboxes of this gateway. */
  readonly local: Local;
  /** Final here, unless the table has an entry for the address or its domain. */
  readonly isLocalDomain: (domain: string) => boolean;
  /** For what has no entry. Default: by MX records, through the queue. */
  readonly fallback?: RelayTarget;
}

/** RFC 5321 §5.1, through the queue. */
export const byMx: RelayTarget = {
  kind: 'relay',
  protocol: 'smtp',
  hosts: [],
  tls: { kind: 'opportunistic' },
  direct: false,
};

const discard: AnyTransport<RelayJob, RelayOutcome> = {
  name: 'discard',
  deliver: (_job, recipients) =>
    Promise.resolve(recipients.map(() => ({ kind: 'delivered', detail: 'discarded', dsnPassed: true, relayed: true }))),
};

export function createRouteLookup<Local>(parts: LookupParts<Local>) {
  const { relay, table, local } = parts;
  const relayed = (target: RelayTarget, domain: string): LookupAnswer<Local> => ({
    kind: 'route',
    route: {
      transport: relay.transport(target, domain),
      destination: destinationOf(target, domain),
      direct: target.direct,
    },
  });

  return async ({ address }: Recipient): Promise<LookupAnswer<Local>> => {
    const entry = table.lookUp(address);
    const here = address.domain === '' || parts.isLocalDomain(address.domain);
    // The default of the table is for the world, not for our own domains.
    if (here && (entry === undefined || entry.pattern === '*'))
      return { kind: 'route', route: { transport: local, destination: 'local', direct: true } };
    const target = entry?.target ?? parts.fallback ?? byMx;
    switch (target.kind) {
      case 'relay':
        return relayed(target, address.domain);
      case 'local':
        return { kind: 'route', route: { transport: local, destination: 'local', direct: true } };
      case 'discard':
        return { kind: 'route', route: { transport: discard, destination: 'discard', direct: true } };
      case 'error':
        return {
          kind: 'none',
          reply: { code: 550, enhanced: '5.4.4', text: 'Recipient domain is not served' },
          why: target.text || 'Refused by the route table',
        };
    }
  };
}

/** The route of a recipient that an operator sent to `via` (a next hop as in the configuration; by MX without brackets). */
export async function routeVia(
  relay: Relay,
  via: string,
  { address }: Recipient,
): Promise<Exclude<LookupAnswer<never>, { kind: 'none' }>> {
  const hop = parseNextHop(via, 25, true);
  if (!hop) return { kind: 'unavailable', why: `Not a next hop: "${via}"` };
  const target: RelayTarget = { ...byMx, hosts: [hop] };
  return {
    kind: 'route',
    route: {
      transport: relay.transport(target, address.domain),
      destination: destinationOf(target, address.domain),
      direct: false,
    },
  };
}

/** An entry of `routes` in the configuration. */
export interface ConfiguredRoute {
  readonly domain: string;
  readonly hosts: readonly string[];
  readonly protocol: 'smtp' | 'lmtp';
  readonly tls: 'none' | 'opportunistic' | 'required' | 'verified' | 'pinned';
  readonly fingerprint?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly direct: boolean;
}

/** Throws for a host that is none, and for a pin without a fingerprint. */
export function targetOf(route: ConfiguredRoute): RelayTarget {
  const port = route.protocol === 'lmtp' ? 24 : 25;
  const hosts = route.hosts.map(text => {
    const hop = parseNextHop(text, port);
    if (!hop) throw new Error(`Route of "${route.domain}": "${text}" is not a next hop`);
    return hop;
  });
  const { username, password } = route;
  return {
    kind: 'relay',
    protocol: route.protocol,
    hosts,
    tls: policyOf(route),
    implicitTls: hosts.length > 0 && hosts.every(hop => hop.port === 465),
    // Without a next hop of our own it is Internet mail, which only the queue carries.
    direct: route.direct && hosts.length > 0,
    ...(username === undefined || password === undefined ? {} : { credentials: { username, password } }),
  };
}

function policyOf(route: ConfiguredRoute): TlsPolicy {
  if (route.tls !== 'pinned') return { kind: route.tls };
  if (route.fingerprint === undefined)
    throw new Error(`Route of "${route.domain}": \`tls: pinned\` needs a fingerprint`);
  return { kind: 'pinned', fingerprints: [route.fingerprint] };
}
