// Masquerading: inner host names are hidden behind the domain, `bob@pc7.example.org` leaves as `bob@example.org`. The
// first entry that fits counts; `!name` leaves that domain and what is below it as it is.
import { type Address, makeAddress } from '../../core/plugin/index.ts';

export type Masquerade = (address: Address) => Address;

export function createMasquerade(domains: readonly string[], exceptUsers: readonly string[]): Masquerade {
  const entries = domains.map(text => ({ domain: text.replace(/^!/, '').toLowerCase(), keep: text.startsWith('!') }));
  const users = new Set(exceptUsers.map(user => user.toLowerCase()));
  return address => {
    if (users.has(address.local.toLowerCase())) return address;
    for (const { domain, keep } of entries) {
      if (address.domain === domain) return address;
      if (address.domain.endsWith(`.${domain}`)) return keep ? address : makeAddress(address.local, domain);
    }
    return address;
  };
}
