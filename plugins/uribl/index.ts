// Where do the links of a message lead? Hosts of all links, however they are written, are looked up in lists of domains. It
// fails open: a list, or the whole DNS, that does not answer never refuses anybody.
import {
  askLists,
  createDnsList,
  definePlugin,
  type Edit,
  type Host,
  keepTesting,
  type ListHit,
  type MessageAnswer,
  pass,
  type Reply,
  type WithMessage,
} from '../../core/plugin/index.ts';
import { hostsOf, type LinkedHost } from './hosts.ts';
import { options, type UriblOptions } from './options.ts';
import { uriblFindings } from './results.ts';

const refused: Reply<5> = { code: 554, enhanced: '5.7.1', text: 'Message links to a site on a block list' };

function openList(options: UriblOptions['lists'][number], host: Host) {
  return { list: createDnsList({ options, of: 'name', host }), options };
}
type Opened = ReturnType<typeof openList>;

/** What one list is asked about this host. */
function subjectsOf({ options }: Opened, { host, domain }: LinkedHost): readonly string[] {
  if (domain === undefined) {
    // A number, or a name of no public domain: only the former is on any list.
    return options.ask.includes('address') && !/[a-z]/.test(host.split('.').at(-1) ?? '') ? [host] : [];
  }
  return [...(options.ask.includes('domain') ? [domain] : []), ...(options.ask.includes('host') ? [host] : [])];
}

/** Of too many both ends count: a message full of harmless links has its own at the beginning or at the end. */
function bounded(subjects: readonly string[], most: number): readonly string[] {
  if (subjects.length <= most) return subjects;
  const head = Math.ceil(most / 2);
  return [...subjects.slice(0, head), ...subjects.slice(subjects.length - (most - head))];
}

function worstOfEach(hits: readonly ListHit[]): readonly ListHit[] {
  const worst = new Map<string, ListHit>();
  for (const hit of hits) if (hit.weight > (worst.get(hit.list)?.weight ?? 0)) worst.set(hit.list, hit);
  return [...worst.values()];
}

function createChecker(settings: UriblOptions, lists: readonly Opened[], host: Host) {
  const isExempt = ({ host: name }: LinkedHost): boolean =>
    settings.exempt.some(domain => name === domain || name.endsWith(`.${domain}`)) ||
    host.mailboxes.domainKind(name) !== 'foreign' ||
    name === host.hostname.toLowerCase();

  async function lookUp(at: WithMessage): Promise<void> {
    const found = await hostsOf(at, settings);
    const looked = found.hosts.filter(linked => !isExempt(linked));
    if (looked.length === 0) return at.set(uriblFindings, { hits: [], unavailable: [], score: 0 });
    let left = 0;
    const questions = lists.flatMap(opened => {
      const subjects = [...new Set(looked.flatMap(linked => subjectsOf(opened, linked)))];
      const asked = bounded(subjects, settings.maxNames);
      left = Math.max(left, subjects.length - asked.length);
      return asked.map(subject => [opened, subject] as const);
    });
    const limit = { clock: host.clock, limitMs: settings.listTimeout, signal: at.signal };
    const { hits, unavailable } = await askLists(questions, limit);
    const worst = worstOfEach(hits);
    const score = worst.reduce((sum, { weight }) => sum + weight, 0);
    at.set(uriblFindings, { hits: worst, unavailable, score });
    at.evidence({
      hosts: looked.length,
      ...(found.cutOff ? { cutOff: true } : {}),
      ...(left > 0 ? { notLookedUp: left } : {}),
      ...(hits.length > 0 ? { score, listed: hits.slice(0, 20) } : {}),
      ...(unavailable.length > 0 ? { unavailable } : {}),
    });
  }

  function answer(at: WithMessage, forged: readonly Edit[]): MessageAnswer {
    const { hits, score } = at.get(uriblFindings) ?? { hits: [], score: 0 };
    if (score < settings.threshold) return { ...pass, edits: forged };
    const value = hits.map(hit => `${hit.subject} on ${hit.list} (${hit.codes.join(' ')})`).join(', ');
    const why = `Links to ${value}`;
    if (settings.action === 'reject') return { kind: 'reject', reply: refused, why };
    const edits: readonly Edit[] = [...forged, { kind: 'add-header', name: 'X-URIBL', value }];
    return settings.action === 'quarantine' ? { kind: 'quarantine', why, reason: 'spam', edits } : { ...pass, edits };
  }

  return async (at: WithMessage): Promise<MessageAnswer> => {
    const ours = at.identity !== undefined || host.isRelayClient(at.session.remote.address);
    if (ours && !settings.outgoing) return pass;
    await lookUp(at);
    const forged = at.message.headers.has('x-uribl') && !ours;
    return answer(at, forged ? [{ kind: 'remove-header', name: 'X-URIBL' }] : []);
  };
}

export const uribl = definePlugin({
  name: 'uribl',
  doc: 'Refuses or marks mail that links to hosts on lists of domains (DBL, SURBL, URIBL).',
  options,
  writes: [uriblFindings],
  setup(settings, host) {
    const lists = settings.lists.map(each => openList(each, host));
    // Without lists there is nothing to ask: no hook, no cost.
    if (lists.length === 0) return {};
    const closed = new AbortController();
    const tested = lists.filter(({ options }) => options.selfTest).map(({ list }) => list);
    keepTesting(tested, host, closed.signal);
    return {
      message: createChecker(settings, lists, host),
      async status() {
        return Object.fromEntries(lists.map(({ list }) => [list.zone, list.health()]));
      },
      async close() {
        closed.abort();
      },
    };
  },
});
