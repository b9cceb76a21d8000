// Which account an address belongs to. All `local` domains share their user names; a `virtual` domain has its own.
// A backend that cannot say stays `unavailable` all the way up (invariant I4).
import type { Account, Directory, Lookup } from '../accounts/directory.ts';
import type { DomainOptions } from '../config/gateway-options.ts';
import type { Address } from '../mail/address.ts';

export interface MailboxLookup {
  domainKind(domain: string): 'local' | 'virtual' | 'relay' | 'foreign';
  /** The account that mail for `address` lands in; a subaddress (RFC 5233) finds its user. */
  find(address: Pick<Address, 'local' | 'domain'>): Promise<Lookup<Account>>;
}

/** User part of a local part such as `user+detail`; all of it where there is no detail. */
export function userPart(local: string, delimiter: string): string {
  const at = delimiter === '' ? -1 : local.indexOf(delimiter, 1);
  return at < 0 ? local : local.slice(0, at);
}

export function createMailboxLookup(
  directory: Directory,
  domains: readonly DomainOptions[],
  delimiter: string,
): MailboxLookup {
  const kinds = new Map(domains.map(domain => [domain.name, domain.kind]));
  const localDomains = domains.filter(domain => domain.kind === 'local').map(domain => domain.name);

  /** RFC 5321 §4.1.2: a receiver should not depend on the case of local parts; account names are lower case. */
  async function findExact(local: string, domain: string): Promise<Lookup<Account>> {
    const names =
      kinds.get(domain) === 'local' ? [domain, ...localDomains.filter(other => other !== domain)] : [domain];
    for (const name of names) {
      const found = await directory.find(`${local.toLowerCase()}@${name}`);
      if (found.kind !== 'none') return found;
    }
    return { kind: 'none' };
  }

  return {
    domainKind: domain => kinds.get(domain) ?? 'foreign',
    async find(address) {
      // RFC 5321 §4.5.1: `postmaster` without a domain is this host's.
      const domain = address.domain === '' ? (localDomains[0] ?? '') : address.domain;
      const kind = kinds.get(domain);
      if (kind !== 'local' && kind !== 'virtual') return { kind: 'none' };
      const whole = await findExact(address.local, domain);
      const user = userPart(address.local, delimiter);
      return whole.kind === 'none' && user !== address.local ? findExact(user, domain) : whole;
    },
  };
}
