// Account names: a full address in lower case, the domain as A-labels. A name is also a folder of the mail store, so it
// holds nothing that a path could be made of.
import { domainToASCII } from 'node:url';

export type NameParse =
  | { readonly kind: 'ok'; readonly name: string; readonly local: string; readonly domain: string }
  | { readonly kind: 'invalid'; readonly why: string };

const invalid = (why: string): NameParse => ({ kind: 'invalid', why });

/** `domainToASCII` reads its input as the host of a URL: it would cut off a path and turn numbers into addresses. */
function toAscii(domain: string): string {
  if (/^[\x21-\x7e]*$/.test(domain)) return domain.toLowerCase();
  return /^[\p{L}\p{N}\p{M}._-]+$/u.test(domain) ? domainToASCII(domain).toLowerCase() : '';
}

/** RFC 5321 §4.1.2 without quoted local parts, RFC 6531 §3.3, and no `/`. */
export function parseAccountName(text: string): NameParse {
  const at = text.lastIndexOf('@');
  if (at <= 0) return invalid('a full address such as "alice@example.org" is needed');
  const local = text.slice(0, at).normalize('NFC').toLowerCase();
  const domain = toAscii(text.slice(at + 1).replace(/\.$/, ''));
  if (Buffer.byteLength(local) > 64) return invalid('the part before "@" is longer than 64 bytes');
  if (!/^[\p{L}\p{N}\p{M}!#$%&'*+=?^_`{|}~-]+(\.[\p{L}\p{N}\p{M}!#$%&'*+=?^_`{|}~-]+)*$/u.test(local))
    return invalid('the part before "@" holds a character that is not allowed');
  if (
    domain.length > 253 ||
    !/^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/.test(domain)
  )
    return invalid('the domain is not valid');
  return { kind: 'ok', name: `${local}@${domain}`, local, domain };
}
