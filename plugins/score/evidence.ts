// What earlier plugins found, as lines of a sum. A plugin that did not run or did not know adds nothing: doubt is no
// evidence, so a dead resolver or engine never makes a message look worse.
import type { WithMessage } from '../../core/plugin/index.ts';
import { attachmentsFound } from '../attachments/results.ts';
import { virusFinding } from '../clamav/results.ts';
import { dnsblTotal } from '../dnsbl/results.ts';
import { greylistResult } from '../greylist/results.ts';
import { heloResult } from '../helo/results.ts';
import { arc, dkim, dmarc, spf } from '../mail-auth/results.ts';
import { exceededLimits } from '../rate-limit/results.ts';
import { reverseDnsResult } from '../reverse-dns/results.ts';
import { brokenRules } from '../rfc822/results.ts';
import { spamScore, spamScores } from '../spamassassin/results.ts';
import { uriblFindings } from '../uribl/results.ts';
import type { ScoreLine } from './results.ts';

/** Names of evidence and their points where the options give none. */
export const presets = {
  /** Times the weight of the list. */
  'dnsbl.listed': 1,
  'dnsbl.allowed': -2,
  /** Times the weight of the list. */
  'uribl.listed': 1,
  /** Times the points of the engine. */
  'spam.points': 1,
  'virus.infected': 100,
  /** Each rule. */
  'rfc822.broken': 0.5,
  'spf.pass': 0,
  'spf.none': 0.5,
  'spf.neutral': 0.5,
  'spf.softfail': 1.5,
  'spf.fail': 3,
  'spf.permerror': 1,
  'dkim.pass': 0,
  'dkim.none': 0.5,
  'dkim.fail': 1,
  'dmarc.pass': -0.5,
  'dmarc.fail': 3,
  'arc.fail': 0.5,
  'rdns.missing': 1,
  'rdns.unconfirmed': 0.5,
  'rdns.generic': 1,
  'helo.syntax': 1,
  'helo.address': 1,
  'helo.literal': 1,
  'helo.not-qualified': 1,
  'helo.own-name': 3,
  'helo.unknown-host': 1,
  'helo.mismatch': 0,
  /** It came again as it was told. */
  'greylist.passed': 0,
  /** Each limit. */
  'rate-limit.exceeded': 1,
  /** Once for each kind, however many attachments are of it. */
  'attachments.executable': 3,
  'attachments.script': 3,
  'attachments.macro': 1.5,
  'attachments.disk-image': 2,
  'attachments.double-extension': 3,
  'attachments.direction-override': 3,
  'attachments.mismatch': 1,
  'attachments.encrypted': 1,
  'attachments.unreadable': 0.5,
  'attachments.limit': 1,
} as const;

export type EvidenceName = keyof typeof presets;
export const evidenceNames = Object.keys(presets) as [EvidenceName, ...EvidenceName[]];

type Finding = { readonly name: EvidenceName; readonly detail: string; readonly times?: number };
const isName = (name: string): name is EvidenceName => name in presets;

function* authFindings(at: WithMessage): Generator<Finding> {
  const sender = at.get(spf);
  if (sender && isName(`spf.${sender.result}`))
    yield { name: `spf.${sender.result}` as EvidenceName, detail: sender.domain };
  const signatures = at.get(dkim);
  const good = signatures?.find(({ result }) => result === 'pass');
  const bad = signatures?.find(({ result }) => result === 'fail');
  if (good) yield { name: 'dkim.pass', detail: good.domain };
  else if (bad) yield { name: 'dkim.fail', detail: bad.domain };
  else if (signatures?.length === 0) yield { name: 'dkim.none', detail: '' };
  const author = at.get(dmarc);
  if (author?.result === 'pass' || author?.result === 'fail')
    yield { name: `dmarc.${author.result}`, detail: author.domain };
  const chain = at.get(arc);
  if (chain?.result === 'fail') yield { name: 'arc.fail', detail: chain.sealer ?? '' };
}

function* clientFindings(at: WithMessage): Generator<Finding> {
  const reverse = at.get(reverseDnsResult);
  if (reverse?.kind === 'missing' || reverse?.kind === 'unconfirmed')
    yield { name: `rdns.${reverse.kind}`, detail: reverse.name ?? '' };
  if (reverse?.generic) yield { name: 'rdns.generic', detail: reverse.name ?? '' };
  for (const fault of at.get(heloResult) ?? []) yield { name: `helo.${fault}`, detail: at.helo.slice(0, 100) };
  const grey = at.get(greylistResult);
  if (grey?.kind === 'passed') yield { name: 'greylist.passed', detail: grey.why };
  for (const limit of at.get(exceededLimits) ?? []) yield { name: 'rate-limit.exceeded', detail: limit };
}

function* attachmentFindings(at: WithMessage): Generator<Finding> {
  const seen = new Set<string>();
  for (const { path, kinds } of at.get(attachmentsFound) ?? [])
    for (const name of kinds.map(kind => `attachments.${kind}`))
      if (isName(name) && !seen.has(name)) {
        seen.add(name);
        yield { name, detail: path.slice(0, 100) };
      }
}

function* findings(at: WithMessage): Generator<Finding> {
  const lists = at.get(dnsblTotal);
  for (const { list, subject, weight } of lists?.hits ?? [])
    yield { name: 'dnsbl.listed', detail: `${list} lists ${subject}`, times: weight };
  for (const list of lists?.allowed ?? []) yield { name: 'dnsbl.allowed', detail: list };
  for (const { list, subject, weight } of at.get(uriblFindings)?.hits ?? [])
    yield { name: 'uribl.listed', detail: `${list} lists ${subject}`, times: weight };
  const single = at.get(spamScore);
  for (const { engine, score } of at.get(spamScores) ?? (single ? [single] : []))
    yield { name: 'spam.points', detail: engine, times: score };
  const virus = at.get(virusFinding);
  if (virus?.kind === 'infected') yield { name: 'virus.infected', detail: virus.signatures.join(' ') };
  for (const rule of at.get(brokenRules) ?? []) yield { name: 'rfc822.broken', detail: rule };
  yield* attachmentFindings(at);
  yield* authFindings(at);
  yield* clientFindings(at);
}

/** Lines that count, heaviest first. */
export function scoreLines(at: WithMessage, points: Readonly<Partial<Record<EvidenceName, number>>>): ScoreLine[] {
  return [...findings(at)]
    .map(({ name, detail, times = 1 }) => ({ name, detail, points: (points[name] ?? presets[name]) * times }))
    .filter(line => line.points !== 0)
    .sort((a, b) => b.points - a.points);
}
