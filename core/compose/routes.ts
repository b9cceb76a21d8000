// Where each recipient goes: a mailbox here, a configured next hop, or the Internet by MX. The first two are tried while
// the client waits; remote Internet mail always goes through the queue.
import type { GatewayOptions } from '../config/gateway-options.ts';
import type { Route, RouteLookup, Transport } from '../queue/transport.ts';

export interface RouteParts {
  readonly options: Pick<GatewayOptions, 'domains' | 'routes'>;
  readonly local: Transport;
  /** Transport of one configured route, by its place in `options.routes`. */
  readonly nextHops: readonly Transport[];
  /** By MX records; no route matched. */
  readonly internet: Transport;
}

export function createRouteLookup(parts: RouteParts): RouteLookup {
  const kinds = new Map(parts.options.domains.map(domain => [domain.name, domain.kind]));
  const firstLocal = parts.options.domains.find(domain => domain.kind === 'local')?.name ?? '';

  /** A full address wins over its domain, a domain over `.parent`, the longer parent over the shorter, `*` is last. */
  function match(local: string, domain: string): number {
    const labels = domain.split('.');
    const wanted = [`${local}@${domain}`, domain, ...labels.slice(1).map((_, index) => `.${labels.slice(index + 1).join('.')}`), '*'];
    for (const key of wanted) {
      const found = parts.options.routes.findIndex(route => route.domain.toLowerCase() === key);
      if (found >= 0) return found;
    }
    return -1;
  }

  return async recipient => {
    const domain = recipient.address.domain === '' ? firstLocal : recipient.address.domain;
    const kind = kinds.get(domain);
    if (kind === 'local' || kind === 'virtual') return found({ transport: parts.local, destination: 'local', direct: true });
    const index = match(recipient.address.local.toLowerCase(), domain);
    const route = parts.options.routes[index];
    const transport = parts.nextHops[index];
    if (route && transport) return found({ transport, destination: route.hosts.length > 0 ? `route:${route.domain}` : domain, direct: route.direct && route.hosts.length > 0 });
    return found({ transport: parts.internet, destination: domain, direct: false });
  };
}

const found = (route: Route): Awaited<ReturnType<RouteLookup>> => ({ kind: 'route', route });
