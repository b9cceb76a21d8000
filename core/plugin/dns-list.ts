// One DNS list: its query names, its health, and what it says of an address or a name. RFC 5782. For every plugin that asks
// lists, and for whoever wants to know whether this machine may ask them (`testList`).
// A list that cannot answer is `unavailable`, which is neither listed nor not listed; nobody is refused for it.
import type { Logger } from 'pino';
import { type SecretReference, secret, z } from '../config/schema.ts';
import { addressBytes } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import { startDeadline } from '../lib/deadline.ts';
import type { Dns, Host } from './contract.ts';
import { classify, parseCodeRule, weigh } from './return-codes.ts';

export interface ListHit {
  /** Zone, without a key. */
  readonly list: string;
  readonly codes: readonly string[];
  readonly weight: number;
  /** What was looked up: an address or a domain name. */
  readonly subject: string;
  /** The list's own explanation. */
  readonly text?: string;
}

export type ListAnswer =
  | { readonly kind: 'listed'; readonly hit: ListHit }
  | { readonly kind: 'clear' }
  | { readonly kind: 'unavailable'; readonly why: string };

/** Fields for the schema of one list. */
export const dnsListFields = () => ({
  zone: z
    .string()
    .regex(/^[a-z0-9._-]+\.[a-z0-9-]+\.?$/i, 'Expected the domain name of a list, such as zen.spamhaus.org')
    .transform(zone => zone.toLowerCase().replace(/\.$/, ''))
    .describe('Domain name of the list.'),
  weight: z.number().positive().default(1).describe('What a hit adds to the score.'),
  codes: z
    .record(z.string(), z.number().nonnegative())
    .default({})
    .describe(
      'Return codes that count, and their weights: `127.0.0.2`, `127.0.0.4-127.0.0.7`, `127.0.0.0/24`, or `&4` for a bit of the last octet. Empty: every code counts with `weight`.',
    ),
  key: secret()
    .optional()
    .describe(
      'Key of a paid service (such as Spamhaus DQS), which is put before the zone and never shown: `{ file: PATH }` or `{ env: NAME }`.',
    ),
  selfTest: z
    .boolean()
    .default(true)
    .describe(
      'Check at start and hourly that the list works (RFC 5782 §5); a list that fails is not used until it works again.',
    ),
  testEntry: z
    .string()
    .min(1)
    .optional()
    .describe(
      'What the list must list, for the self-test. Default: `127.0.0.2`, for lists of names `test` (RFC 5782 §5), or else `127.0.0.2`.',
    ),
});

export interface DnsListOptions {
  readonly zone: string;
  readonly weight: number;
  readonly codes: Readonly<Record<string, number>>;
  readonly key?: SecretReference | undefined;
  readonly selfTest: boolean;
  readonly testEntry?: string | undefined;
}

export interface DnsList {
  readonly zone: string;
  /** `subject` is an IP address for lists of addresses, a domain name for lists of names; these may know addresses too. */
  ask(subject: string, signal: AbortSignal): Promise<ListAnswer>;
  /** Asks into the shared cache without waiting. */
  prefetch(subject: string, signal: AbortSignal): void;
  /** RFC 5782 §5. Changes what `health` says; logs when that changed. */
  test(signal: AbortSignal): Promise<void>;
  health(): string;
}

type Codes =
  | { readonly codes: readonly string[] }
  | { readonly why: string /** By the list, and not for lack of an answer. */; readonly refused: boolean };

/** Longest text of a list that is kept. */
const maxText = 200;
const hourMs = 3_600_000;
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

/** RFC 5782 §2.5: names as they are. What is neither an address nor a name of the DNS is on no list. */
function listLabel(subject: string, of: 'address' | 'name'): string | undefined {
  const label = addressLabel(subject);
  if (of === 'address' || label !== undefined) return label;
  const name = subject.toLowerCase().replace(/\.$/, '');
  return /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/.test(name) && name.length <= 190 ? name : undefined;
}

async function codesOf(dns: Dns, name: string, key: string, signal: AbortSignal): Promise<Codes> {
  const answer = await dns.a(name, signal);
  if (answer.kind === 'none') return { codes: [] };
  if (answer.kind === 'tempfail') return { why: printable(answer.why.replaceAll(key || '\0', '')), refused: false };
  const said = classify(answer.records);
  return said.kind === 'codes' ? said : { why: said.why, refused: true };
}

export interface ListTestResult {
  /** `unknown`: no answer, which says nothing about the list. */
  readonly kind: 'works' | 'broken' | 'unknown';
  readonly why?: string;
}

/** RFC 5782 §5: does the list have the entry that it must have, and not the one that it must not have? */
export async function testList(
  dns: Dns,
  list: {
    readonly zone: string;
    readonly of: 'address' | 'name';
    /** With its dot; default none. */
    readonly key?: string;
    readonly testEntry?: string | undefined;
  },
  signal: AbortSignal,
): Promise<ListTestResult> {
  const { zone, of, key = '' } = list;
  const [usual, absent] = of === 'name' ? ['test', 'invalid'] : ['127.0.0.2', '127.0.0.1'];
  const present = list.testEntry ?? usual;
  const look = (subject: string) => codesOf(dns, `${listLabel(subject, of) ?? subject}.${key}${zone}`, key, signal);
  const [first, mustNot] = await Promise.all([look(present), look(absent)]);
  // Domain lists that came before the RFC have their test entry under an address.
  const second = of === 'name' && list.testEntry === undefined && 'codes' in first && first.codes.length === 0;
  const must = second ? await look('127.0.0.2') : first;
  const failed = [must, mustNot].find(said => 'why' in said);
  if (failed && 'why' in failed) return { kind: failed.refused ? 'broken' : 'unknown', why: failed.why };
  if ('codes' in mustNot && mustNot.codes.length > 0)
    return { kind: 'broken', why: `lists '${absent}', which no list may list: it seems to list everything` };
  if ('codes' in must && must.codes.length === 0)
    return { kind: 'broken', why: `does not list '${present}', which every list must: it seems to be gone` };
  return { kind: 'works' };
}

export interface ListSetting {
  readonly options: DnsListOptions;
  readonly of: 'address' | 'name';
  readonly host: Pick<Host, 'dns' | 'log' | 'readSecret'>;
  /** Another engine's opinion, asked first: false is the end, true is verified. `zone` has the key in it. */
  readonly hint?: (subject: string, zone: string) => Promise<boolean>;
}

/** Throws where a return code or the key cannot be read. */
export function createDnsList({ options, of, host, hint }: ListSetting): DnsList {
  const { zone } = options;
  const key = options.key === undefined ? '' : `${host.readSecret(options.key).trim()}.`;
  const rules = Object.entries(options.codes).map(([text, weight]) => [parseCodeRule(text), weight] as const);
  let down: string | undefined;
  let tested = false;

  const queryName = (subject: string): string | undefined => {
    const label = listLabel(subject, of);
    return label === undefined ? undefined : `${label}.${key}${zone}`;
  };

  function become(state: string | undefined): void {
    if (state !== down && state !== undefined)
      host.log.warn({ event: 'dns-list-down', list: zone, why: state }, 'DNS list is not used');
    else if (state !== down) host.log.info({ event: 'dns-list-up', list: zone }, 'DNS list works again');
    down = state;
  }

  async function ask(subject: string, signal: AbortSignal): Promise<ListAnswer> {
    if (down !== undefined) return { kind: 'unavailable', why: down };
    const name = queryName(subject);
    if (name === undefined) return { kind: 'clear' };
    if (hint && !(await hint(subject, `${key}${zone}`))) return { kind: 'clear' };
    const said = await codesOf(host.dns, name, key, signal);
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

  return {
    zone,
    ask,
    async test(signal) {
      const result = await testList(host.dns, { zone, of, key, testEntry: options.testEntry }, signal);
      // Without an answer nothing is known about the list; each question will tell for itself.
      if (signal.aborted || result.kind === 'unknown') return;
      tested = true;
      become(result.kind === 'works' ? undefined : result.why);
    },
    prefetch(subject, signal) {
      const name = queryName(subject);
      if (name !== undefined && down === undefined) void host.dns.a(name, signal);
    },
    health: () => down ?? (tested ? 'works' : options.selfTest ? 'not yet tested' : 'not tested'),
  };
}

/** Tests lists now and then hourly, until the signal aborts. */
export function keepTesting(
  lists: readonly DnsList[],
  host: { readonly clock: Clock; readonly log: Logger },
  closed: AbortSignal,
): void {
  const run = (): void => {
    const cancel = host.clock.after(hourMs, () => {
      closed.removeEventListener('abort', cancel);
      run();
    });
    closed.addEventListener('abort', cancel, { once: true });
    void Promise.all(lists.map(list => list.test(closed))).catch(err =>
      host.log.error({ err }, 'Self-test of DNS lists failed'),
    );
  };
  if (lists.length > 0) run();
}

export interface ListAnswers {
  readonly hits: readonly ListHit[];
  /** Zones of lists that know the subject, where `isAllowList` says so. */
  readonly allowed: readonly string[];
  readonly unavailable: readonly string[];
}

/** All questions at once under one time limit, shorter than the hook's: one slow list shall not cost what the others say. */
export async function askLists<L extends { readonly list: DnsList; readonly isAllowList?: boolean }>(
  questions: readonly (readonly [L, string])[],
  limit: { readonly clock: Clock; readonly limitMs: number; readonly signal: AbortSignal },
): Promise<ListAnswers> {
  const deadline = startDeadline(limit.clock, limit.limitMs, limit.signal);
  try {
    const answers = await Promise.all(questions.map(([{ list }, subject]) => list.ask(subject, deadline.signal)));
    const hits: ListHit[] = [];
    const allowed: string[] = [];
    const unavailable = new Set<string>();
    for (const [index, answer] of answers.entries()) {
      const asked = questions[index]?.[0];
      if (!asked) continue;
      if (answer.kind === 'unavailable') unavailable.add(`${asked.list.zone}: ${answer.why}`);
      else if (answer.kind === 'listed' && asked.isAllowList) allowed.push(asked.list.zone);
      else if (answer.kind === 'listed') hits.push(answer.hit);
    }
    return { hits, allowed, unavailable: [...unavailable] };
  } finally {
    deadline.done();
  }
}
