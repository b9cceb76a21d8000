// Greylisting (RFC 6647): who is not known yet is told to come again, which programs that only fire and forget do not. Known
// are networks together with a domain that SPF or DKIM vouches for, or with sender and recipient where none does. Spared
// are those who would come back anyway. It never refuses, and what it knows survives a restart.
import {
  clientPolicy,
  clientPolicyFields,
  definePlugin,
  duration,
  type Gate,
  type Host,
  type InMail,
  networkKey,
  pass,
  type Recipient,
  type Reply,
  raceSignal,
  z,
} from '../../core/plugin/index.ts';
import { dnsblClient, dnsblTotal } from '../dnsbl/results.ts';
import { dkim, spf } from '../mail-auth/results.ts';
import { scoreTotal } from '../score/results.ts';
import { isBelow, providers } from './providers.ts';
import { admin, type Known, knownKey, promote, read, trustKey, type Waiting, waitKey } from './records.ts';
import { type GreylistResult, greylistResult } from './results.ts';

const options = z.strictObject({
  when: z
    .enum(['message', 'rcpt'])
    .default('message')
    .describe(
      'Ask when the message is there, where DKIM, spam score and the rest are known, or at the recipient, which saves the transfer and knows SPF only.',
    ),
  delay: duration().prefault('5m').describe('Who comes back earlier is told to wait on.'),
  window: duration().prefault('2d').describe('Who comes back later begins anew.'),
  remember: duration().prefault('35d').describe('How long somebody stays known, counted from the last message.'),
  ipv4Prefix: z.number().int().min(8).max(32).default(24).describe('Addresses that share so many bits are one client.'),
  ipv6Prefix: z.number().int().min(16).max(128).default(64).describe('The same for IPv6.'),
  trustAfter: z
    .number()
    .int()
    .nonnegative()
    .default(5)
    .describe(
      'Good reputation: a network, or a proved domain wherever it comes from, that came back so often as somebody new is not asked any more; 0 = never.',
    ),
  providers: z
    .boolean()
    .default(true)
    .describe('Spare large providers that are known to come back, by proved domain or verified reverse name.'),
  exemptDomains: z
    .array(z.string().toLowerCase())
    .default([])
    .describe('Further domains to be spared, with those below, by proved domain or verified reverse name.'),
  allowListed: z
    .boolean()
    .default(true)
    .describe('Spare clients that an allow list of `dnsbl` before this entry knows.'),
  belowScore: z
    .union([z.number(), z.literal('never')])
    .default('never')
    .describe('Spare messages whose sum is lower, where `score` stands before this entry: only the doubtful wait.'),
  ...clientPolicyFields({ clients: 'greylisted', recipients: 'made to wait for' }),
});
type Options = z.infer<typeof options>;

/** RFC 6647 §5: a temporary reply of the class "policy". */
const comeAgain: Reply<4> = { code: 451, enhanced: '4.7.1', text: 'Greylisted, please try again in a few minutes' };
const maxRecipients = 20;
const maxDomains = 5;
const dayMs = 86_400_000;

/** Domains that SPF or DKIM vouches for. */
function provedDomains(at: InMail): readonly string[] {
  const sender = at.get(spf);
  const signed = (at.get(dkim) ?? []).filter(({ result }) => result === 'pass').map(({ domain }) => domain);
  const all = [...signed, ...(sender?.result === 'pass' ? [sender.domain] : [])];
  return [...new Set(all.filter(domain => domain !== ''))].slice(0, maxDomains);
}

/** Senders that change with each message (VERP, subaddresses) are one. */
function steadySender(at: InMail): string {
  const { sender } = at.envelope;
  if (!sender) return '<>';
  const local = sender.local.toLowerCase().replace(/\+.*/, '').replace(/\d+/g, '#').replace(/\s/g, '_');
  return `${local}@${sender.domain}`;
}

function createGreylist(settings: Options, host: Host) {
  const { memory, clock } = host;
  const { isExempt, isSpared } = clientPolicy(settings, host);
  const spared = new Set([...(settings.providers ? providers : []), ...settings.exemptDomains]);

  function sparedBecause(at: InMail, domains: readonly string[]): string | undefined {
    const { name } = at.session.remote;
    const provider = isBelow([...domains, ...(name === undefined ? [] : [name])], spared);
    if (provider !== undefined) return `${provider} comes back anyway`;
    const lists = (at.get(dnsblTotal) ?? at.get(dnsblClient))?.allowed ?? [];
    if (settings.allowListed && lists.length > 0) return `known to ${lists.join(', ')}`;
    const total = at.get(scoreTotal)?.total;
    const { belowScore } = settings;
    return total !== undefined && belowScore !== 'never' && total < belowScore ? `sum ${total} is harmless` : undefined;
  }

  async function trusted(keys: readonly string[]): Promise<string | undefined> {
    if (settings.trustAfter === 0) return undefined;
    const counts = await Promise.all(keys.map(key => memory.get(trustKey(key))));
    return keys.find((_, index) => Number(counts[index] ?? 0) >= settings.trustAfter);
  }

  async function count(keys: readonly string[]): Promise<void> {
    if (settings.trustAfter === 0) return;
    const counts = await Promise.all(keys.map(key => memory.get(trustKey(key))));
    await Promise.all(
      keys.map((key, index) => memory.set(trustKey(key), String(Number(counts[index] ?? 0) + 1), settings.remember)),
    );
  }

  /** Once a day is enough to stay known. */
  async function renew(key: string, known: Known, now: number): Promise<void> {
    if (now - known.last < dayMs) return;
    await memory.set(key, JSON.stringify({ ...known, last: now }), settings.remember);
  }

  async function ask(at: InMail, recipients: readonly Recipient[]): Promise<GreylistResult> {
    const domains = provedDomains(at);
    const harmless = sparedBecause(at, domains);
    if (harmless !== undefined) return { kind: 'spared', why: harmless };
    const now = clock.now();
    const client = at.session.remote.address;
    const network = networkKey(client, settings.ipv4Prefix, settings.ipv6Prefix);
    const reputation = [network, ...domains.map(domain => `@${domain}`)];
    const trust = await trusted(reputation);
    if (trust !== undefined) return { kind: 'spared', why: `good reputation of ${trust.replace(/^@/, '')}` };

    const identities =
      domains.length > 0
        ? domains.map(domain => `@${domain}`)
        : recipients.slice(0, maxRecipients).map(({ address }) => `${steadySender(at)} ${address.text.toLowerCase()}`);
    const known = await Promise.all(identities.map(identity => memory.get(knownKey(network, identity))));
    const familiar = known.findIndex(value => value !== undefined);
    const identity = identities[familiar];
    if (identity !== undefined) {
      const entry = read<Known>(known[familiar]);
      if (entry) await renew(knownKey(network, identity), entry, now);
      return { kind: 'known', why: `${network} ${identity}` };
    }
    return firstMeetings(identities, { network, client, reputation, now });
  }

  interface Meeting {
    readonly network: string;
    readonly client: string;
    readonly reputation: readonly string[];
    readonly now: number;
  }

  async function firstMeetings(identities: readonly string[], meeting: Meeting): Promise<GreylistResult> {
    const { network, client, reputation, now } = meeting;
    const keys = identities.map(identity => waitKey(network, identity));
    const waiting = (await Promise.all(keys.map(key => memory.get(key)))).map(value => read<Waiting>(value));
    const back = waiting.findIndex(entry => entry !== undefined && entry.due <= now);
    if (back >= 0) {
      await Promise.all(
        keys.map((key, index) => promote(memory, key, waiting[index] ?? fresh(client, now), 'retry', now)),
      );
      await count(reputation);
      return { kind: 'passed', why: `came back after ${Math.round((now - (waiting[back]?.first ?? now)) / 1000)} s` };
    }
    await Promise.all(
      keys.map((key, index) => {
        const entry = waiting[index] ?? fresh(client, now);
        // Each try is counted, and none makes the window longer.
        const left = Math.max(1, entry.first + settings.window - now);
        return memory.set(key, JSON.stringify({ ...entry, tries: entry.tries + 1 }), left);
      }),
    );
    const due = Math.min(...waiting.map(entry => entry?.due ?? now + settings.delay));
    return { kind: 'deferred', why: `${network} is new; may pass in ${Math.ceil((due - now) / 1000)} s` };
  }

  const fresh = (client: string, now: number): Waiting => ({
    first: now,
    client,
    tries: 0,
    due: now + settings.delay,
    keep: settings.remember,
  });

  async function decide(at: InMail, recipients: readonly Recipient[]): Promise<Gate> {
    const result = await raceSignal(ask(at, recipients), at.signal);
    at.set(greylistResult, result);
    at.evidence({ greylist: result.kind, because: result.why });
    return result.kind === 'deferred' ? { kind: 'defer', reply: comeAgain, why: result.why } : pass;
  }

  const concerns = (at: InMail): boolean => at.session.role === 'smtp' && !isExempt(at);
  return settings.when === 'rcpt'
    ? {
        rcpt: (at: InMail, to: Recipient) => (concerns(at) && !isSpared(to) ? decide(at, [to]) : pass),
      }
    : {
        message(at: InMail) {
          const { recipients } = at.envelope;
          return concerns(at) && !recipients.some(isSpared) ? decide(at, recipients) : pass;
        },
      };
}

export const greylist = definePlugin({
  name: 'greylist',
  history: true,
  doc: 'Lets clients that nobody knows come again, which programs that only fire and forget do not.',
  options,
  writes: [greylistResult],
  admin,
  setup: createGreylist,
});
