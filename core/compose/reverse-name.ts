import { unmapAddress } from '../lib/cidr.ts';
import type { Dns } from '../plugin/contract.ts';

/** The name whose address record leads back to `address` (RFC 8601 §2.7.3, iprev); undefined where there is none. */
export function verifiedReverseName(dns: Dns): (address: string) => Promise<string | undefined> {
  return async address => {
    const names = await dns.ptr(address);
    if (names.kind !== 'found') return undefined;
    for (const name of names.records.slice(0, 5)) {
      const forward = await (address.includes(':') ? dns.aaaa(name) : dns.a(name));
      if (forward.kind === 'found' && forward.records.some(record => unmapAddress(record) === unmapAddress(address)))
        return name;
    }
    return undefined;
  };
}
