// One list: its query names, its health, and what it says of an address or a name. RFC 5782.
// A list that cannot answer is `unavailable`, which is neither listed nor not listed; nobody is refused for it.
import { readFileSync } from 'node:fs';
import { addressBytes, type Host } from '../../core/plugin/index.ts';
import type { DnsblOptions, ListOptions } from './options.ts';
import { packageSaysListed } from './package-engine.ts';
import type { ListHit } from './results.ts';
import { classify, parseCodeRule, weigh } from './return-codes.ts';

export type ListAnswer =
  | { readonly kind: 'listed'; readonly hit: ListHit }
  | { readonly kind: 'clear' }
  | { readonly kind: 'unavailable'; readonly why: string };

export interface DnsList {
  readonly zone: string;
  readonly options: ListOptions;
  /** `subject` is an IP address for `ip` and `allow` lists, a domain name for `domain` lists. */
  ask(subject: string, signal: AbortSignal): Promise<ListAnswer>;
  /** Asks into the shared cache without waiting. */
  prefetch(subject: string, signal: AbortSignal): void;
  /** RFC 5782 §5. Changes what `health` says; logs when that changed. */
  test(signal: AbortSignal): Promise<void>;
  health(): string;
}

/** Longest text of a list that is kept. */
const maxText = 200;
const printable = (text: string): string =>
  text
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, maxText);

/** RFC 5782 §2.1 (octets reversed) and §2.4 (nibbles reversed). IPv4-mapped addresses are IPv4. */
export function addressLabel(address: string): string | undefined {
  const bytes = addressBytes(address);
  if (!bytes) return undefined;
  const parts = bytes.length === 4 ? [...bytes] : [...Buffer.from(bytes).toString('hex')];
  return parts.reverse().join('.');
}

export function createList(options: ListOptions, shared: DnsblOptions, host: Host): DnsList {
  const { zone, kind } = options;
  const key = options.keyFile === undefined ? '' : `${readFileSync(host.resolvePath(options.keyFile), 'utf8').trim()}.`;
  const rules = Object.entries(options.codes).map(([text, weight]) => [parseCodeRule(text), weight] as const);
  let down: string | undefined;
  let tested = false;

  const queryName = (subject: string): string | undefined => {
    const label = kind === 'domain' ? subject : addressLabel(subject);
    return label === undefined ? undefined : `${label}.${key}${zone}`;
  };

  function become(state: string | undefined): void {
    if (state !== down && state !== undefined) host.log.warn({ list: zone, why: state }, 'DNS list is not used');
    else if (state !== down) host.log.info({ list: zone }, 'DNS list works again');
    down = state;
  }

  /** Codes that the list returns; empty where it does not list the subject. */
  async function codesOf(
    name: string,
    signal: AbortSignal,
  ): Promise<{ readonly codes: readonly string[] } | { readonly why: string; readonly refused: boolean }> {
    const answer = await host.dns.a(name, signal);
    if (answer.kind === 'none') return { codes: [] };
    if (answer.kind === 'tempfail') return { why: printable(answer.why.replaceAll(key || '\0', '')), refused: false };
    const said = classify(answer.records);
    return said.kind === 'codes' ? said : { why: said.why, refused: true };
  }

  async function ask(subject: string, signal: AbortSignal): Promise<ListAnswer> {
    if (down !== undefined) return { kind: 'unavailable', why: down };
    const name = queryName(subject);
    if (name === undefined) return { kind: 'clear' };
    if (shared.engine === 'dnsbl' && kind !== 'domain') {
      const hint = await packageSaysListed(subject, `${key}${zone}`, host.dns.servers, shared.listTimeout);
      if (!hint) return { kind: 'clear' };
    }
    const said = await codesOf(name, signal);
    if ('why' in said) {
      // Only where a test can bring it back.
      if (said.refused && options.selfTest) become(said.why);
      return { kind: 'unavailable', why: said.why };
    }
    const weight = weigh(said.codes, rules, options.weight);
    if (said.codes.length === 0 || weight === 0) return { kind: 'clear' };
    const explained = await host.dns.txt(name, signal);
    const text = explained.kind === 'found' ? printable(explained.records.join(' ')) : '';
    return { kind: 'listed', hit: { list: zone, codes: said.codes, weight, subject, ...(text ? { text } : {}) } };
  }

  /** RFC 5782 §5: entries that every list must have, and must not have. */
  async function test(signal: AbortSignal): Promise<void> {
    const [present, absent] = kind === 'domain' ? ['test', 'invalid'] : ['127.0.0.2', '127.0.0.1'];
    const [must, mustNot] = await Promise.all(
      [present, absent].map(subject => codesOf(queryName(subject) ?? zone, signal)),
    );
    if (!must || !mustNot || signal.aborted) return;
    // Without an answer nothing is known about the list; each question will tell for itself.
    if ('why' in mustNot || 'why' in must) {
      const refusal = [must, mustNot].find(said => 'why' in said && said.refused);
      if (refusal && 'why' in refusal) become(refusal.why);
      return;
    }
    tested = true;
    if (mustNot.codes.length > 0) become(`lists '${absent}', which no list may list: it seems to list everything`);
    else if (must.codes.length === 0) become(`does not list '${present}', which every list must: it seems to be gone`);
    else become(undefined);
  }

  return {
    zone,
    options,
    ask,
    test,
    prefetch(subject, signal) {
      const name = queryName(subject);
      if (name !== undefined && down === undefined) void host.dns.a(name, signal);
    },
    health: () => down ?? (tested ? 'works' : options.selfTest ? 'not yet tested' : 'not tested'),
  };
}
