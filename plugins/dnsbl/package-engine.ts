// The npm package `dnsbl`, and the only file that knows it. What it cannot do is done around it: it takes every A record
// for a listing, so a hit is only a hint that our own resolver verifies; it takes every failure for "not listed", which
// is what failing open means here; it needs addresses without IPv4 mapping, and servers, or it asks public ones.
import { lookup } from 'dnsbl';

/** True when the package says "listed". A list that is silent is "not listed" after `timeoutMs`. */
export function packageSaysListed(
  address: string,
  zone: string,
  servers: readonly string[],
  timeoutMs: number,
): Promise<boolean> {
  return lookup(address, zone, { servers, timeout: timeoutMs });
}
