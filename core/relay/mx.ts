// Which hosts take mail for a domain, in the order to try them. RFC 5321 §5.1, RFC 7505 (null MX).
import net from 'node:net';
import type { Dns } from '../plugin/contract.ts';

export interface MxHost {
  /** Lower case, no trailing dot. */
  readonly name: string;
  readonly preference: number;
}

export type MxAnswer =
  | {
      readonly kind: 'hosts';
      readonly hosts: readonly MxHost[];
      /** The list came by a validated answer: what DANE builds on (RFC 7672 §2.2.1). */
      readonly secure: boolean;
    }
  /** RFC 7505: the domain takes no mail. */
  | { readonly kind: 'null-mx' }
  /** RFC 5321 §5.1: we are the best host for the domain, yet it is not ours. */
  | { readonly kind: 'loop' }
  | { readonly kind: 'tempfail'; readonly why: string };

/** Hosts by preference; equal ones in random order. An address literal or a domain without MX is its own host. */
export async function lookUpMx(
  dns: Dns,
  domain: string,
  isOwnName: (name: string) => boolean,
  random: () => number,
  signal?: AbortSignal,
): Promise<MxAnswer> {
  const literal = addressLiteral(domain);
  if (literal !== undefined) return { kind: 'hosts', hosts: [{ name: literal, preference: 0 }], secure: false };
  const answer = await dns.mx(domain, signal);
  if (answer.kind === 'tempfail') return { kind: 'tempfail', why: `MX of ${domain}: ${answer.why}` };
  // The implicit MX; CNAMEs were followed by the resolver.
  if (answer.kind === 'none') return { kind: 'hosts', hosts: [{ name: domain, preference: 0 }], secure: false };
  const [only] = answer.records;
  if (answer.records.length === 1 && only?.exchange === '') return { kind: 'null-mx' };
  const named = answer.records.filter(record => record.exchange !== '');
  const own = Math.min(
    ...named.filter(record => isOwnName(record.exchange)).map(record => record.preference),
    Number.POSITIVE_INFINITY,
  );
  // RFC 5321 §5.1: hosts that are not better than ourselves would send it back.
  const better = named.filter(record => record.preference < own);
  if (better.length === 0) return { kind: 'loop' };
  const hosts = better
    .map(record => ({ name: record.exchange, preference: record.preference, order: random() }))
    .sort((a, b) => a.preference - b.preference || a.order - b.order)
    .map(({ name, preference }) => ({ name, preference }));
  return { kind: 'hosts', hosts, secure: answer.secure };
}

/** `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3) → the address. */
function addressLiteral(domain: string): string | undefined {
  const match = /^\[(?:ipv6:)?([0-9a-f.:]+)\]$/i.exec(domain);
  const address = match?.[1];
  return address !== undefined && net.isIP(address) !== 0 ? address : undefined;
}

export type AddressAnswer =
  | { readonly kind: 'addresses'; readonly addresses: readonly string[]; readonly secure: boolean }
  | { readonly kind: 'none' }
  | { readonly kind: 'tempfail'; readonly why: string };

/** IPv6 and IPv4 addresses of a host, families taking turns, IPv6 first (RFC 6724 in spirit, RFC 8305 §4). */
export async function lookUpAddresses(
  dns: Dns,
  host: string,
  families: readonly (4 | 6)[],
  signal?: AbortSignal,
): Promise<AddressAnswer> {
  if (net.isIP(host) !== 0) return { kind: 'addresses', addresses: [host], secure: false };
  // No resolver need know it (RFC 6761 §6.3).
  if (host === 'localhost') return { kind: 'addresses', addresses: ['127.0.0.1'], secure: false };
  const [v6, v4] = await Promise.all([
    families.includes(6) ? dns.aaaa(host, signal) : undefined,
    families.includes(4) ? dns.a(host, signal) : undefined,
  ]);
  const six = v6?.kind === 'found' ? v6.records : [];
  const four = v4?.kind === 'found' ? v4.records : [];
  const addresses: string[] = [];
  for (let index = 0; index < Math.max(six.length, four.length); index += 1) {
    const pair = [six[index], four[index]];
    addresses.push(...pair.filter(each => each !== undefined));
  }
  if (addresses.length > 0) {
    const secure = [v6, v4].every(each => each?.kind !== 'found' || each.secure);
    return { kind: 'addresses', addresses, secure };
  }
  const trouble = [v6, v4].find(each => each?.kind === 'tempfail');
  return trouble?.kind === 'tempfail'
    ? { kind: 'tempfail', why: `Address of ${host}: ${trouble.why}` }
    : { kind: 'none' };
}
