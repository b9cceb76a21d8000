// IP addresses and networks: RFC 4632 (prefixes), RFC 4291 (IPv6 text forms). An IPv4-mapped IPv6 address
// (`::ffff:192.0.2.1`, what a dual-stack socket reports) is the IPv4 address everywhere in this program.
import { BlockList, isIP } from 'node:net';

export interface Cidr {
  /** Canonical text of the address, IPv4 where it was IPv4-mapped. */
  readonly address: string;
  readonly family: 4 | 6;
  /** Leading bits that count. */
  readonly prefix: number;
}

export interface CidrSet {
  /** False for what is no IP address. */
  has(address: string): boolean;
  readonly size: number;
}

const mappedPattern = /^(?:0*:)*:?ffff:(?:(\d+\.\d+\.\d+\.\d+)|([0-9a-f]{1,4}):([0-9a-f]{1,4}))$/i;

/** The address without zone (`%eth0`), IPv4 where it is IPv4-mapped; what is no address is returned as it is. */
export function unmapAddress(address: string): string {
  if (!address.includes(':')) return address;
  const zone = address.indexOf('%');
  const bare = zone < 0 ? address : address.slice(0, zone);
  if (isIP(bare) !== 6) return address;
  const match = mappedPattern.exec(bare);
  if (!match) return bare.toLowerCase();
  if (match[1] !== undefined) return match[1];
  const high = Number.parseInt(match[2] ?? '', 16);
  const low = Number.parseInt(match[3] ?? '', 16);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** The 4 or 16 bytes of an address (unmapped first); undefined for what is no address. */
export function addressBytes(address: string): Uint8Array | undefined {
  const bare = unmapAddress(address);
  const family = isIP(bare);
  if (family === 4) return Uint8Array.from(bare.split('.'), Number);
  if (family !== 6) return undefined;
  let text = bare;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted) {
    const [, head, a, b, c, d] = dotted;
    const group = (high: unknown, low: unknown): string => (Number(high) * 256 + Number(low)).toString(16);
    text = `${head}${group(a, b)}:${group(c, d)}`;
  }
  const [left = '', right] = text.split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  const groups =
    right === undefined ? head : [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  const bytes = new Uint8Array(16);
  groups.forEach((group, index) => {
    const value = Number.parseInt(group, 16);
    bytes[index * 2] = value >> 8;
    bytes[index * 2 + 1] = value & 255;
  });
  return bytes;
}

/** One key per network of the given prefix lengths, for counting; what is no address is its own key. */
export function networkKey(address: string, prefix4: number, prefix6: number): string {
  const bytes = addressBytes(address);
  if (!bytes) return address;
  const prefix = bytes.length === 4 ? prefix4 : prefix6;
  const whole = prefix >> 3;
  const kept = Buffer.alloc(bytes.length);
  kept.set(bytes.subarray(0, whole));
  const rest = prefix & 7;
  if (rest > 0) kept[whole] = (bytes[whole] ?? 0) & (0xff00 >> rest);
  return bytes.length === 4 ? `${kept.join('.')}/${prefix}` : `${kept.toString('hex')}/${prefix}`;
}

/** `192.0.2.0/24`, `2001:db8::/32`, `[2001:db8::]/32` or a single address. Throws an Error that names what is wrong. */
export function parseCidr(text: string): Cidr {
  const slash = text.lastIndexOf('/');
  const given = (slash < 0 ? text : text.slice(0, slash)).trim().replace(/^\[(.*)\]$/, '$1');
  const address = unmapAddress(given);
  const family = isIP(address);
  if (family === 0) throw new Error(`Expected an IP address or a network such as '192.0.2.0/24', found '${text}'`);
  const bits = family === 4 ? 32 : 128;
  if (slash < 0) return { address, family: family as 4 | 6, prefix: bits };
  const digits = text.slice(slash + 1).trim();
  const mapped = family === 4 && given.includes(':');
  const prefix = /^\d{1,3}$/.test(digits) ? Number(digits) - (mapped ? 96 : 0) : -1;
  if (prefix < 0 || prefix > bits)
    throw new Error(`Expected a prefix length up to ${bits}, found '/${digits}' in '${text}'`);
  return { address, family: family as 4 | 6, prefix };
}

/** A set of networks. Throws as `parseCidr` does. */
export function cidrSet(networks: readonly string[]): CidrSet {
  const list = new BlockList();
  for (const { address, family, prefix } of networks.map(parseCidr))
    list.addSubnet(address, prefix, family === 4 ? 'ipv4' : 'ipv6');
  return {
    size: networks.length,
    has(address) {
      if (networks.length === 0) return false;
      const bare = unmapAddress(address);
      const family = isIP(bare);
      return family !== 0 && list.check(bare, family === 4 ? 'ipv4' : 'ipv6');
    },
  };
}
