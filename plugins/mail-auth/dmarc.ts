// DMARC over what SPF and DKIM found: who is the author, what does the author's domain ask for, how much of it is done.
import { createHash } from 'node:crypto';
import { type Message, mailboxesOf, parseAddressList, parseAuthResults, parseDomain } from '../../core/plugin/index.ts';
import { type DmarcAnswer, type Signatures, verifyDmarc } from './mailauth.ts';
import type { MailAuthOptions } from './options.ts';
import type { CheckResolver } from './resolver.ts';
import type { DmarcPolicy, DmarcResult, SpfResult } from './results.ts';

/** More author domains than this are nobody's honest mail, and each costs a walk through the DNS. */
const maxAuthors = 4;
const strength: Readonly<Record<DmarcPolicy, number>> = { none: 0, quarantine: 1, reject: 2 };

/**
 * Domains of all addresses in all From fields, lower case, A-labels. Readers differ in what they make of a field that is
 * no list of addresses, so every domain that one of them might find counts: whoever writes two readings is held to both.
 */
function authorDomains({ headers }: Message): readonly string[] {
  const domains = headers.all('from').flatMap(({ value }) => {
    const read = mailboxesOf(parseAddressList(value)).map(({ domain }) => domain.trim());
    const bare = value.replace(/"(?:[^"\\]|\\.)*"/g, ' ').replace(/\([^()]*\)/g, ' ');
    return [...read, ...[...bare.matchAll(/@([^\s<>,;:"()@]+)/g)].map(([, text = '']) => text)];
  });
  const known = domains.map(domain => parseDomain(domain.replace(/\.$/, ''))?.toLowerCase());
  return [...new Set(known.filter(domain => domain !== undefined))];
}

/** RFC 7489 §6.3, `pct`: 0–100; anything else counts as not given. */
function sampleRate(record: string | undefined): number {
  const match = /(?:^|;)\s*pct\s*=\s*(\d{1,3})\s*(?:;|$)/.exec(record ?? '');
  return Math.min(Number(match?.[1] ?? 100), 100);
}

/** Drawn from the queue id, which the sender cannot choose, and the same however often it is asked for. */
const drawn = (id: string): number => createHash('sha256').update(id).digest().readUInt32BE() % 100;

/** RFC 7489 §6.6.4: a message that is not in the sample gets the next milder policy. */
const milder: Readonly<Record<DmarcPolicy, DmarcPolicy>> = { reject: 'quarantine', quarantine: 'none', none: 'none' };

function trustsChain(settings: MailAuthOptions, signatures: Signatures, domain: string): boolean {
  const { arc, sealedResults } = signatures;
  if (arc.result !== 'pass' || !arc.sealer || !settings.arc.trusted.includes(arc.sealer)) return false;
  const sealed = parseAuthResults(sealedResults ?? '')?.results ?? [];
  return sealed.some(
    ({ method, result, properties }) =>
      method === 'dmarc' &&
      result === 'pass' &&
      properties.some(([name, value]) => name.toLowerCase() === 'header.from' && value.toLowerCase() === domain),
  );
}

function dispose(
  answer: DmarcAnswer,
  domain: string,
  settings: MailAuthOptions,
  signatures: Signatures,
  id: string,
): Pick<DmarcResult, 'disposition' | 'override'> {
  if (answer.result !== 'fail' || !answer.policy || answer.policy === 'none') return { disposition: 'none' };
  if (trustsChain(settings, signatures, domain)) return { disposition: 'none', override: 'trusted-arc' };
  if (settings.dmarc.policy === 'report') return { disposition: 'none', override: 'report-only' };
  if (settings.dmarc.pct === 'honour' && drawn(id) >= sampleRate(answer.record))
    return { disposition: milder[answer.policy], override: 'sampled-out' };
  return { disposition: answer.policy };
}

/** The seal that might have saved the message could not be checked, because the DNS did not answer. */
const awaitsChain = ({ arc }: Signatures, settings: MailAuthOptions, resolver: CheckResolver): boolean =>
  arc.result === 'fail' &&
  arc.sealer !== undefined &&
  settings.arc.trusted.includes(arc.sealer) &&
  resolver.failures.length > 0;

export interface DmarcQuestion {
  readonly message: Message;
  readonly id: string;
  readonly spf: SpfResult | undefined;
  readonly signatures: Signatures;
}

export async function judgeDmarc(
  { message, id, spf, signatures }: DmarcQuestion,
  settings: MailAuthOptions,
  resolver: CheckResolver,
): Promise<DmarcResult> {
  const authors = authorDomains(message);
  const fields = message.headers.all('from').length;
  const nobody = { domain: '', disposition: 'none' } as const;
  // RFC 9989 §5.3.1: nothing can be said of a message without an author.
  if (authors.length === 0) return { ...nobody, result: 'permerror', why: 'no author domain' };
  if (authors.length > maxAuthors) return { ...nobody, result: 'permerror', why: `${authors.length} author domains` };
  const judged = await Promise.all(
    authors.map(async (domain): Promise<DmarcResult> => {
      const answer = await verifyDmarc(domain, spf, signatures.dkim, resolver);
      const { record: _, ...facts } = answer;
      if (answer.result === 'fail' && awaitsChain(signatures, settings, resolver))
        return { ...facts, result: 'temperror', domain, disposition: 'none', why: 'DNS failure' };
      return { ...facts, domain, ...dispose(answer, domain, settings, signatures, id) };
    }),
  );
  const [only] = judged;
  if (judged.length === 1 && only && fields === 1) return only;
  // Several authors: no one of them can speak for the message, but the strictest of them can speak against it.
  const worst = judged.reduce((a, b) => (strength[b.disposition] > strength[a.disposition] ? b : a));
  if (worst.disposition !== 'none') return { ...worst, why: `one of ${authors.length} author domains` };
  const unsure = judged.find(({ result }) => result === 'temperror');
  if (unsure) return unsure;
  return { ...nobody, result: 'permerror', why: fields > 1 ? 'several From fields' : 'several author domains' };
}
