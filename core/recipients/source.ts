// What every source of recipients answers. A source that cannot say is never one that says no (invariant I4).
import type { Address } from '../mail/address.ts';

export type Verification =
  | { readonly kind: 'found'; readonly why: string }
  | { readonly kind: 'none'; readonly why: string }
  | { readonly kind: 'unavailable'; readonly why: string };

export interface RecipientSource {
  verify(address: Address, signal: AbortSignal): Promise<Verification>;
}

/** Lookup key of an address. RFC 5321 §2.4 leaves the case of local parts to the host; all that are fronted ignore it. */
export const keyOf = ({ local, domain }: Pick<Address, 'local' | 'domain'>): string =>
  `${local.toLowerCase()}@${domain.toLowerCase()}`;

/** The address itself, then without its extension (RFC 5233), as Postfix looks addresses up. */
export function keysOf(address: Pick<Address, 'local' | 'domain'>, delimiter: string): readonly string[] {
  const at = delimiter === '' ? -1 : address.local.indexOf(delimiter, 1);
  const whole = keyOf(address);
  return at < 0 ? [whole] : [whole, keyOf({ ...address, local: address.local.slice(0, at) })];
}
