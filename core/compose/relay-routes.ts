// The `routes` of the configuration as the queue's route lookup. Relay, queue and configuration know nothing of one
// another; here they meet.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { GatewayOptions, RouteOptions } from '../config/gateway-options.ts';
import type { ConfigProblem, LoadedConfig } from '../config/load.ts';
import { ConfigError } from '../config/load.ts';
import { longestSocketPath } from '../lib/socket-path.ts';
import type { Address } from '../mail/address.ts';
import type { Reply } from '../mail/reply.ts';
import type { RouteAnswer, RouteLookup, Transport } from '../queue/transport.ts';
import { createRouteTable, destinationOf, parseNextHop, type RelayTarget, type RouteEntry } from '../relay/route.ts';
import type { Relay, RelayTransport } from '../relay/smtp-transport.ts';
import type { TlsPolicy } from '../relay/tls-policy.ts';
import { parseTransportMap } from '../relay/transport-map.ts';
import { readSecret } from './secret.ts';

function tlsPolicy(route: RouteOptions): TlsPolicy {
  return route.tls === 'pinned'
    ? { kind: 'pinned', fingerprints: route.fingerprint === undefined ? [] : [route.fingerprint] }
    : { kind: route.tls };
}

function readEntries(
  config: LoadedConfig,
  env?: Readonly<Record<string, string | undefined>>,
): { readonly entries: readonly RouteEntry[]; readonly problems: readonly ConfigProblem[] } {
  const problems: ConfigProblem[] = [];
  const entries = config.options.routes.map((route, index): RouteEntry => {
    const problem = (key: string, message: string): void =>
      void problems.push(config.locate(['routes', index, key], message));
    const hosts = route.hosts.flatMap(text => {
      const hop = parseNextHop(text, route.protocol === 'lmtp' ? 24 : 25);
      if (!hop)
        problem(
          'hosts',
          `'${text}' is not a next hop: expected 'host', 'host:port', '[address]:port' or the path of a socket (at most ${longestSocketPath} bytes)`,
        );
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
      downgrade: route.downgrade,
      ...(route.connections === undefined ? {} : { connections: route.connections }),
      direct: route.direct && hosts.length > 0 && route.ratePerMinute === undefined,
    };
    return { pattern: route.domain, target };
  });
  for (const [index, file] of config.options.routeMaps.entries()) {
    const problem = (message: string): void => void problems.push(config.locate(['routeMaps', index], message));
    try {
      const text = readFileSync(path.resolve(config.folder, file), 'utf8');
      const map = parseTransportMap(text, { tls: { kind: 'opportunistic' }, direct: true });
      for (const { line, message } of map.problems) problem(`${file}:${line}: ${message}`);
      for (const { pattern, target } of map.entries) {
        if (target.kind === 'local') problem(`${file}: '${pattern}' is local: name it in \`domains\` instead`);
        // As in Postfix, what is found by MX waits for no client.
        const direct = target.kind === 'relay' && target.hosts.length > 0 && !target.hosts.some(hop => hop.mx);
        entries.push({ pattern, target: target.kind === 'relay' ? { ...target, direct } : target });
      }
    } catch (error) {
      problem(`Cannot read the map: ${(error as Error).message}`);
    }
  }
  return { entries, problems };
}

/** What can be said of the routes without starting anything. */
export const checkRoutes = (config: LoadedConfig): readonly ConfigProblem[] => readEntries(config).problems;

const byMx: RelayTarget = { kind: 'relay', protocol: 'smtp', hosts: [], tls: { kind: 'opportunistic' }, direct: false };

/** As Postfix's discard(8). */
const discard: Transport = {
  name: 'discard',
  deliver: async (_job, recipients) => recipients.map(() => ({ kind: 'delivered', detail: 'discarded by its route' })),
};

/** `error:5.1.2 text`, as Postfix's error(8). */
function refusal(text: string): Reply<5> {
  const [, enhanced = '5.1.2', words = ''] = /^(5\.\d{1,3}\.\d{1,3})?\s*(.*)$/s.exec(text) ?? [];
  return { code: 550, enhanced: enhanced as Reply<5>['enhanced'], text: words || 'Recipient domain takes no mail' };
}

export interface RelayRoutes {
  readonly lookUp: RouteLookup;
  /** The next hop of an address, to be asked about it. Undefined where mail for it goes nowhere. */
  backend(address: Address): { readonly destination: string; readonly transport: RelayTransport } | undefined;
  /** Least time between two messages to a destination, ms. */
  intervalMs(destination: string): number;
  /** Most attempts at once at a destination. */
  connections(destination: string): number;
}

/** @throws ConfigError where a route is not valid. */
export function createRelayRoutes(
  config: LoadedConfig,
  relay: Relay,
  env: Readonly<Record<string, string | undefined>>,
): RelayRoutes {
  const { entries, problems } = readEntries(config, env);
  if (problems.length > 0) throw new ConfigError(problems);
  const table = createRouteTable(entries, config.options.recipientDelimiter);
  const intervals = new Map<string, number>();
  const connections = new Map<string, number>();
  config.options.routes.forEach((route, index) => {
    const target = entries[index]?.target;
    if (target?.kind !== 'relay') return;
    const destination = destinationOf(target, route.domain);
    if (route.ratePerMinute !== undefined) intervals.set(destination, Math.ceil(60_000 / route.ratePerMinute));
    if (route.connections !== undefined) connections.set(destination, route.connections);
  });
  return {
    async lookUp({ address }) {
      const { domain } = address;
      const target = table.lookUp(address)?.target ?? byMx;
      if (target.kind === 'error')
        return { kind: 'none', reply: refusal(target.text), why: `Route of '${domain}' is an error` };
      if (target.kind === 'local') return { kind: 'unavailable', why: `Route of '${domain}' is local` };
      const answer: RouteAnswer = {
        kind: 'route',
        route:
          target.kind === 'discard'
            ? { transport: discard, destination: 'discard', direct: true }
            : {
                transport: relay.transport(target, domain),
                destination: destinationOf(target, domain),
                direct: target.direct,
              },
      };
      return answer;
    },
    backend(address) {
      const target = table.lookUp(address)?.target ?? byMx;
      if (target.kind !== 'relay') return undefined;
      return { destination: destinationOf(target, address.domain), transport: relay.transport(target, address.domain) };
    },
    intervalMs: destination => intervals.get(destination) ?? 0,
    connections: destination => connections.get(destination) ?? config.options.queue.concurrency,
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
