// DNS lists of addresses and domains, RFC 5782. All lists are asked at once; hits add up to a score. It fails open: a
// list, or the whole DNS, that does not answer never refuses anybody. Every list is tested at start and hourly, because
// a list that died or that refuses our resolver looks like one that lists everything or nothing.
import {
  askLists,
  type Connected,
  clientPolicy,
  createDnsList,
  definePlugin,
  type Gate,
  type Host,
  type InMail,
  keepTesting,
  type MessageAnswer,
  pass,
  type Reply,
} from '../../core/plugin/index.ts';
import { type DnsblOptions, options } from './options.ts';
import { packageSaysListed } from './package-engine.ts';
import { dnsblClient, dnsblTotal, type ListFindings } from './results.ts';

const none: ListFindings = { hits: [], allowed: [], unavailable: [], score: 0 };

function merge(a: ListFindings, b: ListFindings): ListFindings {
  const allowed = [...a.allowed, ...b.allowed];
  const hits = [...a.hits, ...b.hits];
  const score = allowed.length > 0 ? 0 : hits.reduce((sum, hit) => sum + hit.weight, 0);
  return { hits, allowed, unavailable: [...a.unavailable, ...b.unavailable], score };
}

function refusal(found: ListFindings, settings: DnsblOptions): Gate {
  const first = found.hits[0];
  const subject = first?.subject ?? '';
  const text =
    settings.reply === 'generic' || !first
      ? 'Refused because of a block list'
      : `${subject} is listed by ${first.list}${first.text ? `: ${first.text}` : ''}`.slice(0, 400);
  const why = found.hits.map(hit => `${hit.subject} is on ${hit.list} (${hit.codes.join(', ')})`).join('; ');
  const later: Reply<4> = { code: 450, enhanced: '4.7.1', text };
  const never: Reply<5> = { code: 554, enhanced: '5.7.1', text };
  return settings.action === 'defer' ? { kind: 'defer', reply: later, why } : { kind: 'reject', reply: never, why };
}

type ListOptions = DnsblOptions['lists'][number];

function openList(options: ListOptions, settings: DnsblOptions, host: Host) {
  const of = options.kind === 'domain' ? 'name' : 'address';
  const hint =
    settings.engine === 'dnsbl' && of === 'address'
      ? (address: string, zone: string) => packageSaysListed(address, zone, host.dns.servers, settings.listTimeout)
      : undefined;
  const list = createDnsList({ options, of, host, ...(hint ? { hint } : {}) });
  return { list, options, isAllowList: options.kind === 'allow' };
}
type Opened = ReturnType<typeof openList>;

function createScanner(settings: DnsblOptions, lists: readonly Opened[], host: Host) {
  const { isExempt, isSpared } = clientPolicy(settings, host);
  const byAddress = lists.filter(({ options }) => options.kind !== 'domain');
  const byName = lists.filter(({ options }) => options.kind === 'domain');

  async function ask(questions: readonly (readonly [Opened, string])[], at: Connected): Promise<ListFindings> {
    const limit = { clock: host.clock, limitMs: settings.listTimeout, signal: at.signal };
    return merge({ ...none, ...(await askLists(questions, limit)) }, none);
  }

  function namesOf({ options }: Opened, at: InMail): readonly string[] {
    const names = options.of.map(which => {
      if (which === 'sender') return at.envelope.sender?.domain;
      return which === 'helo' ? at.helo.toLowerCase() : at.session.remote.name;
    });
    // An address literal is no name, and a name without a dot is on no list.
    return names.filter((name): name is string => name !== undefined && /^[a-z0-9._-]+\.[a-z0-9-]+$/.test(name));
  }

  return {
    byAddress,
    byName,
    isExempt,
    isSpared,
    ofClient: (at: Connected) =>
      ask(
        byAddress.map(list => [list, at.session.remote.address] as const),
        at,
      ),
    ofNames: (at: InMail) =>
      ask(
        byName.flatMap(list => [...new Set(namesOf(list, at))].map(name => [list, name] as const)),
        at,
      ),
  };
}

function report(at: Connected, found: ListFindings): void {
  if (found.hits.length + found.allowed.length + found.unavailable.length === 0) return;
  at.evidence({
    score: found.score,
    ...(found.hits.length > 0 ? { listed: found.hits } : {}),
    ...(found.allowed.length > 0 ? { allowed: found.allowed } : {}),
    ...(found.unavailable.length > 0 ? { unavailable: found.unavailable } : {}),
  });
}

export const dnsbl = definePlugin({
  name: 'dnsbl',
  doc: 'Refuses or marks mail of clients and domains that DNS block lists name (RFC 5782).',
  options,
  writes: [dnsblClient, dnsblTotal],
  setup(settings, host) {
    const lists = settings.lists.map(options => openList(options, settings, host));
    // Without lists there is nothing to ask: no hook, no cost.
    if (lists.length === 0) return {};
    const scanner = createScanner(settings, lists, host);
    const closed = new AbortController();
    const tested = lists.filter(({ options }) => options.selfTest).map(({ list }) => list);
    keepTesting(tested, host, closed.signal);
    const refuses = settings.action === 'reject' || settings.action === 'defer';
    const decide = (found: ListFindings): Gate =>
      refuses && found.score >= settings.threshold ? refusal(found, settings) : pass;
    async function total(at: InMail): Promise<ListFindings> {
      const known = at.get(dnsblTotal);
      if (known) return known;
      let client = at.get(dnsblClient);
      if (!client) {
        client = await scanner.ofClient(at);
        at.set(dnsblClient, client);
      }
      const found = scanner.byName.length > 0 ? merge(client, await scanner.ofNames(at)) : client;
      at.set(dnsblTotal, found);
      report(at, found);
      return found;
    }

    async function connectNow(at: Connected): Promise<Gate> {
      const found = await scanner.ofClient(at);
      at.set(dnsblClient, found);
      report(at, found);
      return decide(found);
    }

    function message(at: InMail): MessageAnswer {
      const found = at.get(dnsblTotal);
      if (!found || found.score < settings.threshold) return pass;
      const value = found.hits.map(hit => `${hit.list} (${hit.codes.join(' ')})`).join(', ');
      const edits = [{ kind: 'add-header', name: 'X-DNSBL', value } as const];
      return settings.action === 'quarantine'
        ? { kind: 'quarantine', why: `Listed: ${value}`, reason: 'spam', edits }
        : { ...pass, edits };
    }

    return {
      connect(at) {
        if (scanner.byAddress.length === 0 || scanner.isExempt(at)) return pass;
        if (settings.when === 'connect') return connectNow(at);
        for (const { list } of scanner.byAddress) list.prefetch(at.session.remote.address, closed.signal);
        return pass;
      },
      rcpt(at, to) {
        if (scanner.isExempt(at)) return pass;
        const known = at.get(dnsblTotal);
        if (known) return scanner.isSpared(to) ? pass : decide(known);
        return total(at).then(found => (scanner.isSpared(to) ? pass : decide(found)));
      },
      message,
      async status() {
        return Object.fromEntries(lists.map(({ list }) => [list.zone, list.health()]));
      },
      async close() {
        closed.abort();
      },
    };
  },
});
