// Where each recipient goes: a mailbox here, or out through the relay.
import type { DomainOptions } from '../config/gateway-options.ts';
import type { RouteAnswer, RouteLookup, Transport } from '../queue/transport.ts';

export interface RouteParts {
  readonly domains: readonly DomainOptions[];
  readonly local: Transport;
  /** For every domain that is not served here. */
  readonly relay?: RouteLookup;
}

export function createRouteLookup({ domains, local, relay }: RouteParts): RouteLookup {
  const kinds = new Map(domains.map(domain => [domain.name, domain.kind]));
  const here: RouteAnswer = { kind: 'route', route: { transport: local, destination: 'local', direct: true } };
  return async recipient => {
    const { domain } = recipient.address;
    // RFC 5321 §4.5.1: `postmaster` without a domain is this host's.
    const kind = domain === '' ? 'local' : kinds.get(domain);
    if (kind === 'local' || kind === 'virtual') return here;
    return relay ? relay(recipient) : { kind: 'unavailable', why: `No route to '${domain}'` };
  };
}
