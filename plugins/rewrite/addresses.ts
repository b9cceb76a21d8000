// One address through one list of tables, as canonical(5) has it: the whole address, without its extension, the bare name
// where the domain is ours, then `@domain`. The result is looked up again until nothing changes; where an address comes
// back that was there before, the tables go in circles, and the one before it stands.
import { type Address, type LookupTable, parseMailbox } from '../../core/plugin/index.ts';

export interface AddressRules {
  readonly table: LookupTable;
  readonly delimiter: string;
  /** Domain of results that have none. */
  readonly origin: string;
  /** Is the bare name enough as a key? */
  isLocal(domain: string): boolean;
}

export type Rewritten =
  | { readonly kind: 'same' }
  | { readonly kind: 'changed'; readonly address: Address; readonly loop: boolean }
  /** A table gives what is no address. */
  | { readonly kind: 'invalid'; readonly result: string };

const maxPasses = 10;

interface Hit {
  readonly value: string;
  /** Extension with its delimiter that the key left aside: it goes on with the result. */
  readonly extension: string;
}

function look(rules: AddressRules, { local, domain, text }: Address): Hit | undefined {
  const { table, delimiter } = rules;
  const whole = table.find(text);
  if (whole !== undefined) return { value: whole, extension: '' };
  const cut = delimiter === '' ? -1 : local.indexOf(delimiter, 1);
  const [base, extension] = cut < 0 ? [local, ''] : [local.slice(0, cut), local.slice(cut)];
  const tries: readonly (readonly [key: string, extension: string])[] = [
    ...(extension === '' ? [] : [[`${base}@${domain}`, extension] as const]),
    ...(rules.isLocal(domain) ? [[local, ''] as const, [base, extension] as const] : []),
    [`@${domain}`, ''],
  ];
  for (const [key, left] of tries) {
    const value = table.findExact(key);
    if (value !== undefined) return { value, extension: left };
  }
  return undefined;
}

function once(rules: AddressRules, address: Address): Address | string | undefined {
  const hit = look(rules, address);
  if (!hit) return undefined;
  const value = hit.value.trim();
  const at = value.lastIndexOf('@');
  const local = at < 0 ? value : value.slice(0, at);
  const domain = at < 0 ? rules.origin : value.slice(at + 1);
  // `@domain`: the same name there.
  const text =
    local === ''
      ? `${address.text.slice(0, address.text.lastIndexOf('@'))}@${domain}`
      : `${local}${hit.extension}@${domain}`;
  const parsed = parseMailbox(text, { smtputf8: true });
  return parsed.kind === 'address' ? parsed.address : value;
}

export function rewriteAddress(rules: AddressRules, address: Address): Rewritten {
  const seen = new Set([address.text.toLowerCase()]);
  let current = address;
  for (let pass = 0; pass < maxPasses; pass++) {
    const next = once(rules, current);
    if (typeof next === 'string') return { kind: 'invalid', result: next };
    if (next === undefined || next.text === current.text) break;
    const key = next.text.toLowerCase();
    const differsInCase = key === current.text.toLowerCase();
    if (seen.has(key) && !differsInCase) return { kind: 'changed', address: current, loop: true };
    seen.add(key);
    current = next;
    if (differsInCase) break;
  }
  return current === address ? { kind: 'same' } : { kind: 'changed', address: current, loop: false };
}
