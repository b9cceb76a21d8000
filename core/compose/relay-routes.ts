// The `routes` of the configuration as the queue's route lookup. Relay, queue and configuration know nothing of one
// another; here they meet.
import type { GatewayOptions, RouteOptions } from '../config/gateway-options.ts';
import type { ConfigProblem, LoadedConfig } from '../config/load.ts';
import { ConfigError } from '../config/load.ts';
import type { RouteAnswer, RouteLookup } from '../queue/transport.ts';
import { createRouteTable, destinationOf, parseNextHop, type RelayTarget, type RouteEntry } from '../relay/route.ts';
import type { Relay } from '../relay/smtp-transport.ts';
import type { TlsPolicy } from '../relay/tls-policy.ts';
import { readSecret } from './secret.ts';

function tlsPolicy(route: RouteOptions): TlsPolicy {
  return route.tls === 'pinned'
    ? { kind: 'pinned', fingerprints: route.fingerprint === undefined ? [] : [route.fingerprint] }
    : { kind: route.tls };
}

function readEntries(config: LoadedConfig, env: Readonly<Record<string, string | undefined>>): readonly RouteEntry[] {
  const problems: ConfigProblem[] = [];
  const entries = config.options.routes.map((route, index): RouteEntry => {
    const problem = (key: string, message: string): void =>
      void problems.push(config.locate(['routes', index, key], message));
    const hosts = route.hosts.flatMap(text => {
      const hop = parseNextHop(text, route.protocol === 'lmtp' ? 24 : 25);
      if (!hop) problem('hosts', `'${text}' is not a next hop: expected 'host', 'host:port' or '[address]:port'`);
      return hop ? [hop] : [];
    });
    const secret = route.password === undefined ? undefined : readSecret(route.password, config.folder, env);
    if (secret instanceof Error) problem('password', secret.message);
    if ((route.username === undefined) !== (secret === undefined))
      problem(secret === undefined ? 'username' : 'password', `'username' and 'password' go together`);
    const target: RelayTarget = {
      kind: 'relay',
      protocol: route.protocol,
      hosts,
      tls: tlsPolicy(route),
      implicitTls: route.implicitTls,
      ...(route.clientFacts === 'none' ? {} : { clientFacts: route.clientFacts }),
      ...(route.username !== undefined && typeof secret === 'string'
        ? { credentials: { username: route.username, password: secret } }
        : {}),
      direct: route.direct && hosts.length > 0,
    };
    return { pattern: route.domain, target };
  });
  if (problems.length > 0) throw new ConfigError(problems);
  return entries;
}

const byMx: RelayTarget = { kind: 'relay', protocol: 'smtp', hosts: [], tls: { kind: 'opportunistic' }, direct: false };

/** @throws ConfigError where a route is not valid. */
export function createRelayRoutes(
  config: LoadedConfig,
  relay: Relay,
  env: Readonly<Record<string, string | undefined>>,
): RouteLookup {
  const table = createRouteTable(readEntries(config, env), config.options.recipientDelimiter);
  return async recipient => {
    const { domain } = recipient.address;
    const target = table.lookUp(recipient.address)?.target ?? byMx;
    if (target.kind !== 'relay') return { kind: 'unavailable', why: `Route of '${domain}' is '${target.kind}'` };
    const answer: RouteAnswer = {
      kind: 'route',
      route: {
        transport: relay.transport(target, domain),
        destination: destinationOf(target, domain),
        direct: target.direct,
      },
    };
    return answer;
  };
}

/** Addresses and ports that are our own: mail must not be relayed to them. */
export function ownAddress(options: () => GatewayOptions): (address: string, port: number) => boolean {
  return (address, port) =>
    options().listeners.some(
      listener =>
        ['smtp', 'submission', 'lmtp'].includes(listener.role) &&
        listener.port === port &&
        (listener.address === address ||
          ((listener.address === '0.0.0.0' || listener.address === '::') && ['127.0.0.1', '::1'].includes(address))),
    );
}
