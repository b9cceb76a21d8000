// How many connections at once and how many in a time, per address, per network (/24, /64) and in all. Counts are
// bounded by the live connections, rates by two windows' worth of addresses.

import { type CidrSet, networkKey, unmapAddress } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';

export interface ConnectionLimitOptions {
  /** Live connections; absent = no limit. */
  readonly total?: number;
  readonly perAddress?: number;
  /** Per IPv4 /24 and IPv6 /64. */
  readonly perNetwork?: number;
  /** New connections per address (IPv6: per /64) in `perMs`, as a sliding window. */
  readonly rate?: { readonly count: number; readonly perMs: number };
  /** Addresses that only `total` binds: own networks, monitoring. */
  readonly exempt?: CidrSet;
}

export type Admission =
  /** `release` exactly once, when the connection is gone; harmless when repeated. */
  | { readonly kind: 'ok'; release(): void }
  | { readonly kind: 'refused'; readonly why: 'total' | 'address' | 'network' | 'rate' };

export interface ConnectionLimits {
  admit(address: string): Admission;
  readonly live: number;
}

const maxRateEntries = 50_000;

export function connectionLimits(options: ConnectionLimitOptions, clock: Clock): ConnectionLimits {
  const addresses = new Map<string, number>();
  const networks = new Map<string, number>();
  const overRate = options.rate ? slidingWindow(options.rate, clock) : () => false;
  let live = 0;

  function refusal(address: string, network: string): 'total' | 'address' | 'network' | 'rate' | undefined {
    if (options.total !== undefined && live >= options.total) return 'total';
    if (options.exempt?.has(address)) return undefined;
    if (options.perAddress !== undefined && (addresses.get(address) ?? 0) >= options.perAddress) return 'address';
    if (options.perNetwork !== undefined && (networks.get(network) ?? 0) >= options.perNetwork) return 'network';
    // A whole /64 belongs to one customer, so it counts as one address.
    return overRate(address.includes(':') ? network : address) ? 'rate' : undefined;
  }

  return {
    get live() {
      return live;
    },
    admit(given) {
      const address = unmapAddress(given);
      const network = networkOf(address);
      const why = refusal(address, network);
      if (why) return { kind: 'refused', why };
      live += 1;
      add(addresses, address, 1);
      if (network !== '') add(networks, network, 1);
      let released = false;
      return {
        kind: 'ok',
        release() {
          if (released) return;
          released = true;
          live -= 1;
          add(addresses, address, -1);
          if (network !== '') add(networks, network, -1);
        },
      };
    },
  };
}

/** The /64 of an IPv6 address, the /24 of an IPv4 address. */
const networkOf = (address: string): string =>
  address.includes(':') ? networkKey(address, 24, 64) : address.slice(0, address.lastIndexOf('.') + 1);

function add(counts: Map<string, number>, key: string, by: number): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count > 0) counts.set(key, count);
  else counts.delete(key);
}

/** Counts a hit; true when it is one too many. The last window counts with the share that still overlaps. */
function slidingWindow(
  rate: { readonly count: number; readonly perMs: number },
  clock: Clock,
): (key: string) => boolean {
  let current = new Map<string, number>();
  let previous = new Map<string, number>();
  let startedAt = clock.monotonic();
  return key => {
    const now = clock.monotonic();
    if (now - startedAt >= rate.perMs || current.size >= maxRateEntries) {
      const whole = Math.floor((now - startedAt) / rate.perMs);
      previous = whole > 1 ? new Map() : current;
      current = new Map();
      startedAt = whole < 1 ? now : startedAt + whole * rate.perMs;
    }
    const overlap = 1 - (now - startedAt) / rate.perMs;
    const seen = current.get(key) ?? 0;
    if (seen + (previous.get(key) ?? 0) * overlap >= rate.count) return true;
    current.set(key, seen + 1);
    return false;
  };
}
