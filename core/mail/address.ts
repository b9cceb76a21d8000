// Mailbox addresses of the envelope. RFC 5321 §4.1.2 (Mailbox), RFC 6531 §3.3 (internationalised form).
// Read strictly: every spelling that is accepted has one canonical form, so that no rule about an address can be
// passed by by spelling it otherwise (invariant I2). Two things are wider than the standard because real mail needs it:
// local parts longer than 64 octets (bounce addresses that carry data) and `_` in a host name.
import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';

/** An address as the envelope carries it. Compare with `sameAddress`, never with `===` on the text. */
export interface Address {
  /** Local part with quoting removed, case as given. */
  readonly local: string;
  /** Domain in lower case, A-labels (`xn--`) as they travel, no trailing dot; `''` for a bare local part such as `postmaster`; an address literal keeps its brackets. */
  readonly domain: string;
  /** The canonical text, `local@domain`, the local part quoted where RFC 5321 §4.1.2 needs it. */
  readonly text: string;
}

/** Why a text is no address. `non-ascii` wants SMTPUTF8 (RFC 6531 §3.4), the others are syntax. */
export type AddressFault = 'empty' | 'too-long' | 'syntax' | 'local-part' | 'no-domain' | 'domain' | 'non-ascii';

export type ParsedAddress =
  | { readonly kind: 'address'; readonly address: Address }
  | { readonly kind: 'error'; readonly reason: AddressFault };

/** `address` is `null` for the null path `<>`. `sourceRoute` is what was stripped, e.g. `@a.example,@b.example`. */
export type ParsedPath =
  | { readonly kind: 'path'; readonly address: Address | null; readonly sourceRoute?: string }
  | { readonly kind: 'error'; readonly reason: AddressFault };

export interface AddressOptions {
  /** The client said SMTPUTF8: characters beyond ASCII are allowed. */
  readonly smtputf8?: boolean;
  /** Accept a local part without a domain. */
  readonly bareLocal?: boolean;
}

const maxLocalBytes = 256;
// RFC 5321 §4.5.3.1.2
const maxDomainBytes = 255;

const fault = (reason: AddressFault): { readonly kind: 'error'; readonly reason: AddressFault } => ({
  kind: 'error',
  reason,
});

// RFC 5321 §4.1.2 Dot-string, with UTF8-non-ascii of RFC 6531 §3.3.
const dotString = /^[\w!#$%&'*+/=?^`{|}~\u0080-\u{10ffff}-]+(?:\.[\w!#$%&'*+/=?^`{|}~\u0080-\u{10ffff}-]+)*$/u;
// qtextSMTP and quoted-pairSMTP
const quotedString = /^"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\u{10ffff}]|\\[\x20-\x7e])*"$/u;
const label = /^(?!-)[\w-]{1,63}(?<!-)$/;
// Ada's host parser would read other characters (`%`, `/`, `[` …) as parts of a URL.
const unicodeDomain = /^[\w.\u0080-\u{10ffff}-]+$/u;
const nonAscii = /[^\x00-\x7f]/;

/** End of the local part: the position of the `@` outside quotes, or the length where there is none. */
function localEnd(text: string): number {
  if (!text.startsWith('"')) {
    const at = text.indexOf('@');
    return at < 0 ? text.length : at;
  }
  for (let at = 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at + 1;
  }
  return text.length;
}

function parseLocal(text: string): string | undefined {
  if (Buffer.byteLength(text) > maxLocalBytes) return undefined;
  if (dotString.test(text)) return text;
  return quotedString.test(text) ? text.slice(1, -1).replace(/\\(.)/gs, '$1') : undefined;
}

/** RFC 5321 §4.1.3. No tag but `IPv6` was ever standardised, so a General-address-literal is not known. */
function parseLiteral(text: string): string | undefined {
  const inner = text.slice(1, -1);
  if (!text.endsWith(']')) return undefined;
  if (isIPv4(inner)) return `[${inner}]`;
  const six = /^ipv6:([\da-f:.]+)$/i.exec(inner)?.[1];
  return six && isIPv6(six) ? `[IPv6:${six.toLowerCase()}]` : undefined;
}

/** The same few domains come again and again, several times a message. */
const domains = new Map<string, string>();
const keptDomains = 2_000;

/** A domain or address literal in its canonical form (lower case, A-labels); undefined where it is none. */
export function parseDomain(text: string): string | undefined {
  const known = domains.get(text);
  if (known !== undefined) return known;
  const parsed = readDomain(text);
  if (parsed === undefined || text.length > maxDomainBytes) return parsed;
  if (domains.size >= keptDomains) domains.clear();
  domains.set(text, parsed);
  return parsed;
}

function readDomain(text: string): string | undefined {
  if (text.startsWith('[')) return parseLiteral(text);
  const wide = nonAscii.test(text);
  if (wide && !unicodeDomain.test(text)) return undefined;
  const ascii = wide ? domainToASCII(text) : text.toLowerCase();
  if (ascii === '' || ascii.length > maxDomainBytes) return undefined;
  return ascii.split('.').every(part => label.test(part)) ? ascii : undefined;
}

/** The canonical text. The local part is given without quoting. */
export function formatAddress(local: string, domain: string): string {
  const quoted = dotString.test(local) ? local : `"${local.replace(/["\\]/g, '\\$&')}"`;
  return domain === '' ? quoted : `${quoted}@${domain}`;
}

/** An address from parts that are known to be right (`domain` canonical already). */
export const makeAddress = (local: string, domain: string): Address => ({
  local,
  domain,
  text: formatAddress(local, domain),
});

/** RFC 5321 §4.1.2 Mailbox, without angle brackets. */
export function parseMailbox(text: string, options: AddressOptions = {}): ParsedAddress {
  if (text === '') return fault('empty');
  if (text.length > maxLocalBytes + 1 + maxDomainBytes) return fault('too-long');
  if (!options.smtputf8 && nonAscii.test(text)) return fault('non-ascii');
  const at = localEnd(text);
  const local = parseLocal(text.slice(0, at));
  if (local === undefined) return fault('local-part');
  if (at === text.length) return options.bareLocal ? ok(local, '') : fault('no-domain');
  if (text[at] !== '@') return fault('syntax');
  const domain = parseDomain(text.slice(at + 1));
  return domain === undefined ? fault('domain') : ok(local, domain);
}

const ok = (local: string, domain: string): ParsedAddress => ({ kind: 'address', address: makeAddress(local, domain) });

/** Position behind the `:` that ends a source route (RFC 5321 §4.1.2 A-d-l), or 0 where there is none, or -1 if broken. */
function routeEnd(inner: string): number {
  if (!inner.startsWith('@')) return 0;
  // An address literal has colons of its own.
  const match = /^@(?:\[[^\]]*\]|[^,:@[\]]+)(?:,@(?:\[[^\]]*\]|[^,:@[\]]+))*:/.exec(inner);
  return match ? match[0].length : -1;
}

/**
 * The path of MAIL FROM or RCPT TO with its angle brackets. A source route is stripped (RFC 5321 §4.1.1.3, appendix C)
 * and reported. A bare local part is accepted only as `<postmaster>` (§4.1.1.3) unless the options say otherwise.
 */
export function parsePath(text: string, options: AddressOptions = {}): ParsedPath {
  if (!text.startsWith('<') || !text.endsWith('>')) return fault('syntax');
  if (text === '<>') return { kind: 'path', address: null };
  if (text.length > 2048) return fault('too-long');
  const inner = text.slice(1, -1);
  const start = routeEnd(inner);
  if (start < 0) return fault('syntax');
  const route = inner.slice(0, Math.max(start - 1, 0));
  if (route !== '' && !route.split(',').every(hop => parseDomain(hop.slice(1)) !== undefined)) return fault('domain');
  const mailbox = inner.slice(start);
  const parsed = parseMailbox(mailbox, { ...options, bareLocal: options.bareLocal || /^postmaster$/i.test(mailbox) });
  if (parsed.kind === 'error') return parsed;
  return { kind: 'path', address: parsed.address, ...(route === '' ? {} : { sourceRoute: route }) };
}

/**
 * Do both name the same mailbox? Domains compare without case (RFC 5321 §2.4). Whether local parts do is the business
 * of the host that owns the mailbox, so the caller must say; `postmaster` always does (RFC 5321 §4.5.1).
 */
export function sameAddress(a: Address, b: Address, localCase: 'sensitive' | 'insensitive'): boolean {
  if (a.domain !== b.domain) return false;
  const [left, right] = [a.local.normalize('NFC'), b.local.normalize('NFC')];
  if (left === right) return true;
  const [low, lower] = [left.toLowerCase(), right.toLowerCase()];
  return low === lower && (localCase === 'insensitive' || low === 'postmaster');
}

/** Does the address need SMTPUTF8 (RFC 6531 §3.3)? Domains do not: they travel as A-labels. */
export const needsSmtputf8 = (address: Address): boolean => nonAscii.test(address.local);
