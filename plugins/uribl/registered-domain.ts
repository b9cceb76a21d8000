// The registered part of a host name, by the Public Suffix List: what somebody bought, and what lists of domains list.
import { parse } from 'tldts';

/**
 * `evil.co.uk` of `www.evil.co.uk`, `me.blogspot.com` of itself; undefined for what has no known top-level domain. A name
 * in other letters must have been turned into A-labels before.
 */
export function domainOf(host: string): string | undefined {
  const found = parse(host, { allowPrivateDomains: true, extractHostname: false, validateHostname: false });
  return (found.isIcann || found.isPrivate) && found.domain !== null ? found.domain.toLowerCase() : undefined;
}
