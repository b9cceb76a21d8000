// What the addresses that a list returns mean. RFC 5782 §2.1: listed is any A record, in 127.0.0.0/8. Two things are no
// answer and are mistaken for one by naive clients: codes of 127.255.255.0/24 (Spamhaus), 127.0.0.1 (URIBL, SURBL) and
// 127.0.0.255 (DNSWL), by which lists refuse to serve a resolver, and addresses elsewhere, by which providers "help" with
// names that do not exist.

export type Classified =
  | { readonly kind: 'codes'; readonly codes: readonly string[] }
  | { readonly kind: 'refused'; readonly why: string };

/** Matches a code and tells its weight. */
export type CodeRule = (code: string) => boolean;

const asNumber = (address: string): number => address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
const ipv4 = /^\d{1,3}(?:\.\d{1,3}){3}$/;

/** Throws an Error that names the rule where it is none of the known forms. */
export function parseCodeRule(text: string): CodeRule {
  const bit = /^&(\d{1,3})$/.exec(text);
  if (bit) return code => (asNumber(code) & Number(bit[1]) & 0xff) !== 0;
  const [from = '', to = from] = text.split('-').map(part => part.trim());
  if (ipv4.test(from) && ipv4.test(to)) {
    const [low, high] = [asNumber(from), asNumber(to)];
    return code => asNumber(code) >= low && asNumber(code) <= high;
  }
  const network = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/.exec(text);
  if (network?.[1] && Number(network[2]) <= 32) {
    const size = 2 ** (32 - Number(network[2]));
    const low = Math.floor(asNumber(network[1]) / size) * size;
    return code => asNumber(code) >= low && asNumber(code) < low + size;
  }
  throw new Error(`Expected a return code such as '127.0.0.2', '127.0.0.4-127.0.0.7' or '&4', found '${text}'`);
}

const refusals = new Set(['127.0.0.1', '127.0.0.255']);

export function classify(records: readonly string[]): Classified {
  const refusal = records.find(code => code.startsWith('127.255.255.') || refusals.has(code));
  if (refusal) return { kind: 'refused', why: `refuses our resolver (${refusal})` };
  const codes = records.filter(code => code.startsWith('127.'));
  if (codes.length === 0) return { kind: 'refused', why: `answers outside of 127.0.0.0/8 (${records[0] ?? ''})` };
  return { kind: 'codes', codes };
}

/** The greatest weight of the codes that count; 0 when none does. */
export function weigh(codes: readonly string[], rules: readonly (readonly [CodeRule, number])[], any: number): number {
  if (rules.length === 0) return any;
  return Math.max(0, ...codes.flatMap(code => rules.filter(([matches]) => matches(code)).map(([, weight]) => weight)));
}
