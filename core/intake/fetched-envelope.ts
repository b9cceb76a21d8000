// A message that lay in a mailbox has lost its envelope. What the provider wrote into its fields gives it back, as far as
// it can be trusted: the topmost ones, which are the provider's own.
import { addressBytes, cidrSet } from '../lib/cidr.ts';
import { type Address, parseMailbox, parsePath } from '../mail/address.ts';
import { mailboxesOf, parseAddressList } from '../mail/address-list.ts';
import type { ReversePath } from '../mail/envelope.ts';
import type { HeaderList } from '../mail/headers.ts';
import { parseReceived } from '../mail/received.ts';

/** RFC 5321 §4.4: written at final delivery. Without one nobody is told of anything: the null sender. */
export function senderOf(headers: HeaderList): ReversePath {
  const field = headers.get('return-path');
  if (!field) return null;
  const parsed = parsePath(field.value.trim(), { smtputf8: true });
  return parsed.kind === 'path' ? parsed.address : null;
}

export interface Multidrop {
  /** Fields that the provider writes the recipient into, the first that is there counts. */
  readonly fields: readonly string[];
  /** What some providers put before the address, such as `account-`. */
  readonly prefix: string;
  isOurs(domain: string): boolean;
}

/** The recipient that the provider noted; undefined where there is none or it is not ours. */
export function recipientOf(headers: HeaderList, { fields, prefix, isOurs }: Multidrop): Address | undefined {
  for (const name of fields) {
    const field = headers.get(name);
    if (!field) continue;
    const [box] = mailboxesOf(parseAddressList(field.value));
    if (!box) return undefined;
    const local = prefix !== '' && box.local.startsWith(prefix) ? box.local.slice(prefix.length) : box.local;
    const parsed = parseMailbox(`${local}@${box.domain}`, { smtputf8: true });
    return parsed.kind === 'address' && isOurs(parsed.address.domain) ? parsed.address : undefined;
  }
  return undefined;
}

/** RFC 1918, RFC 6598, RFC 4193, loopback and link-local: hops inside the provider. */
const inside = cidrSet([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '::1/128',
  'fc00::/7',
  'fe80::/10',
]);

export interface FoundClient {
  readonly address: string;
  readonly helo: string;
}

/** For mail whose client nobody knows; no list has this address and no SPF record names it. */
export const unknownClient: FoundClient = { address: '0.0.0.0', helo: 'unknown' };

const bracketed = /\[(?:IPv6:)?([0-9a-f.:]+)\]/i;

/** Who gave the message to the provider: the topmost hop from a public address, or the one `skip` below it. */
export function clientOf(headers: HeaderList, skip: number): FoundClient {
  let left = skip;
  for (const field of headers.all('received').slice(0, 20)) {
    const { clauses, tcpInfo } = parseReceived(field.value);
    const from = clauses.get('from');
    const address = bracketed.exec(tcpInfo ?? '')?.[1] ?? bracketed.exec(from ?? '')?.[1];
    if (address === undefined || !addressBytes(address) || inside.has(address)) continue;
    if (left-- > 0) continue;
    return { address, helo: from ?? 'unknown' };
  }
  return unknownClient;
}
