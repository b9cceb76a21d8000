// What the score of a spam filter means here: the same options, header fields and result for every engine that scores.
import { byteSize, z } from '../config/schema.ts';
import type { Reply } from '../mail/reply.ts';
import type { Host, WithMessage } from './contract.ts';
import { type Edit, type MessageAnswer, pass } from './verdicts.ts';

export interface SpamSymbol {
  readonly name: string;
  /** Points, where the engine tells them. */
  readonly score?: number;
}

export interface SpamScore {
  /** `spamassassin`, `rspamd` … */
  readonly engine: string;
  readonly score: number;
  /** From here on it counts as spam: the `junk` threshold, or the engine's own where that is `never`. */
  readonly required: number;
  readonly symbols: readonly SpamSymbol[];
  readonly disposition: 'clean' | 'junk' | 'quarantine' | 'reject';
  /** Where users have settings of their own: user → score. `score` is then the lowest of these. */
  readonly byUser?: Readonly<Record<string, number>>;
}

export type Found = Pick<SpamScore, 'engine' | 'score' | 'required' | 'symbols' | 'byUser'>;

const threshold = (preset: number | 'always' | 'never', doc: string) =>
  z
    .union([z.number(), z.enum(['always', 'never'])])
    .default(preset)
    .describe(doc);

/** Fields for a plugin's schema. `junk`: the score that the engine itself takes for spam. */
export const spamPolicyFields = (presets: { readonly junk: number; readonly maxSize: string }) => ({
  thresholds: z
    .strictObject({
      tag: threshold('always', 'From this score on the header fields are written.'),
      junk: threshold(
        presets.junk,
        'From this score on it is spam: `X-Spam-Flag: YES`, by which rules file it as junk.',
      ),
      quarantine: threshold('never', 'From this score on the message is quarantined.'),
      reject: threshold(15, 'From this score on the message is refused (550) while the client waits.'),
    })
    .prefault({})
    .describe('Scores from which on something is done: a number, `always` or `never`.'),
  headerPrefix: z
    .string()
    .regex(/^[\x21-\x39\x3b-\x7e]{1,40}$/, 'Expected the beginning of a header field name')
    .default('X-Spam')
    .describe(
      'Beginning of the names of the fields `-Flag`, `-Score`, `-Level` and `-Status`. All fields that begin so and came from outside are removed.',
    ),
  subjectTag: z
    .string()
    .max(60)
    .regex(/^[\x20-\x7e]*$/, 'Expected ASCII text')
    .default('')
    .describe(
      'Put before the subject of spam, such as `[SPAM]`. It breaks signatures of the sender; rules need it not.',
    ),
  maxSize: byteSize().prefault(presets.maxSize).describe('Larger messages are not checked: spam is small.'),
  outgoing: z
    .boolean()
    .default(false)
    .describe('Check mail of our own users and relay networks as well; their fields are left alone otherwise.'),
});

export interface SpamPolicy {
  readonly thresholds: {
    readonly tag: number | 'always' | 'never';
    readonly junk: number | 'always' | 'never';
    readonly quarantine: number | 'always' | 'never';
    readonly reject: number | 'always' | 'never';
  };
  readonly headerPrefix: string;
  readonly subjectTag: string;
  readonly maxSize: number;
  readonly outgoing: boolean;
}

const spam: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'Message was refused as spam' };
const maxStars = 50;
const softWidth = 76;

const reaches = (score: number, from: number | 'always' | 'never'): boolean =>
  from === 'always' || (from !== 'never' && score >= from);

export function scoreOf(found: Found, { thresholds }: SpamPolicy): SpamScore {
  const { score } = found;
  const required = typeof thresholds.junk === 'number' ? thresholds.junk : found.required;
  const disposition = (['reject', 'quarantine', 'junk'] as const).find(name => reaches(score, thresholds[name]));
  return { ...found, required, disposition: disposition ?? 'clean' };
}

/** Fields from outside that claim to be ours. */
export function forgedSpamFields(at: WithMessage, { headerPrefix }: SpamPolicy): readonly Edit[] {
  const prefix = `${headerPrefix}-`.toLowerCase();
  const names = new Set([...at.message.headers].map(({ name }) => name.toLowerCase()));
  return [...names].filter(name => name.startsWith(prefix)).map(name => ({ kind: 'remove-header', name }));
}

/** Why this message is not looked at, and what the answer is then; undefined where it is looked at. */
export function skipSpamCheck(
  at: WithMessage,
  policy: SpamPolicy,
  host: Host,
): { readonly why: string; readonly answer: MessageAnswer } | undefined {
  const ours = at.identity !== undefined || host.isRelayClient(at.session.remote.address);
  if (ours && !policy.outgoing) return { why: 'own mail', answer: pass };
  if (at.message.size <= policy.maxSize) return undefined;
  return { why: `larger than ${policy.maxSize} bytes`, answer: { ...pass, edits: forgedSpamFields(at, policy) } };
}

/** `Yes, score=7.1 required=5.0 tests=A,B`, folded at the commas as SpamAssassin does. */
function statusValue({ score, required, symbols }: SpamScore, isSpam: boolean): string {
  const lines: string[] = [];
  let line = `X-Spam-Status: ${isSpam ? 'Yes' : 'No'}, score=${score.toFixed(1)} required=${required.toFixed(1)} tests=`;
  const names = symbols.length === 0 ? ['none'] : symbols.map(({ name }) => name);
  names.forEach((name, index) => {
    const word = index < names.length - 1 ? `${name},` : name;
    if (line.length + word.length > softWidth) {
      lines.push(line);
      line = '\t';
    }
    line += word;
  });
  return [...lines, line].join('\r\n').slice('X-Spam-Status: '.length);
}

function fields(at: WithMessage, found: SpamScore, policy: SpamPolicy): readonly Edit[] {
  const { headerPrefix, subjectTag, thresholds } = policy;
  const isSpam = found.disposition !== 'clean';
  const add = (name: string, value: string): Edit => ({ kind: 'add-header', name: `${headerPrefix}-${name}`, value });
  const edits: Edit[] = [];
  if (isSpam || reaches(found.score, thresholds.tag)) {
    edits.push(add('Status', statusValue(found, isSpam)));
    const stars = Math.min(Math.floor(found.score), maxStars);
    if (stars > 0) edits.push(add('Level', '*'.repeat(stars)));
    edits.push(add('Score', found.score.toFixed(1)));
    if (isSpam) edits.push(add('Flag', 'YES'));
  }
  if (isSpam && subjectTag !== '') {
    const value = `${subjectTag} ${at.message.headers.get('subject')?.value ?? ''}`.trim();
    edits.push({ kind: 'replace-header', name: 'Subject', value, index: 0 });
  }
  return edits;
}

/** For `postern why`: how far it is from passing, and what weighs most. */
function whatWouldPass({ score, symbols }: SpamScore, { thresholds }: SpamPolicy): string {
  const limits = [thresholds.quarantine, thresholds.reject].filter(each => typeof each === 'number');
  const most = symbols
    .filter(symbol => (symbol.score ?? 0) > 0)
    .sort((a, b) => (b.score ?? 0) - (a.score ?? 0))
    .slice(0, 3)
    .map(symbol => `${symbol.name} ${symbol.score}`);
  const weights = most.length > 0 ? `; most weigh ${most.join(', ')}` : '';
  return limits.length === 0
    ? 'With a threshold that is a number, not `always`'
    : `With less than ${Math.min(...limits)} points instead of ${score.toFixed(1)}${weights}`;
}

/** What the chain does with a message of this score. */
export function spamAnswer(at: WithMessage, found: SpamScore, policy: SpamPolicy): MessageAnswer {
  const why = `${found.engine} gives ${found.score.toFixed(1)} points (${found.symbols.map(({ name }) => name).join(', ')})`;
  if (found.disposition === 'reject' || found.disposition === 'quarantine')
    at.evidence({ wouldPass: whatWouldPass(found, policy) });
  if (found.disposition === 'reject') return { kind: 'reject', reply: spam, why };
  const edits = [...forgedSpamFields(at, policy), ...fields(at, found, policy)];
  return found.disposition === 'quarantine' ? { kind: 'quarantine', why, reason: 'spam', edits } : { ...pass, edits };
}
