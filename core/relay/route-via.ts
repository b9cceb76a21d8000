// The route of a recipient that an operator sent elsewhere (`postern queue reroute`).
import type { Recipient } from '../mail/envelope.ts';
import { destinationOf, parseNextHop, type RelayTarget } from './route.ts';
import type { Relay, RelayTransport } from './smtp-transport.ts';

export type ViaAnswer =
  | {
      readonly kind: 'route';
      readonly route: { readonly transport: RelayTransport; readonly destination: string; readonly direct: boolean };
    }
  | { readonly kind: 'unavailable'; readonly why: string };

/** `via`: a next hop; a name without brackets is looked up by MX, as in Postfix. */
export async function routeVia(relay: Relay, via: string, { address }: Recipient): Promise<ViaAnswer> {
  const hop = parseNextHop(via, 25, true);
  if (!hop) return { kind: 'unavailable', why: `Not a next hop: "${via}"` };
  const target: RelayTarget = {
    kind: 'relay',
    protocol: 'smtp',
    hosts: [hop],
    tls: { kind: 'opportunistic' },
    direct: false,
  };
  const destination = destinationOf(target, address.domain);
  return {
    kind: 'route',
    route: { transport: relay.transport(target, address.domain), destination, direct: false },
  };
}
