// Adds up what the plugins before it found and decides once. It stands behind them in the chain; each of them is then
// told to mark rather than to refuse.
import {
  definePlugin,
  type Edit,
  type Greeted,
  pass,
  type Reply,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { evidenceNames, presets, scoreLines } from './evidence.ts';
import {
  combine,
  dispositionOf,
  sameThresholds,
  showLine,
  sumOf,
  type Threshold,
  thresholdsOf,
  whatWouldPass,
} from './policy.ts';
import { scoreTotal } from './results.ts';

const threshold = z.union([z.number(), z.literal('never')]);
const fieldName = () => z.string().regex(/^[\x21-\x39\x3b-\x7e]{1,70}$/, 'Expected the name of a header field');

const options = z.strictObject({
  points: z
    .partialRecord(z.enum(evidenceNames), z.number())
    .default({})
    .describe(
      `What evidence adds; negative points speak for a message. \`dnsbl.listed\` and \`uribl.listed\` are multiplied by the weight of the list, \`spam.points\` by the engine’s points. Presets: ${evidenceNames.map(name => `\`${name}\` ${presets[name]}`).join(', ')}.`,
    ),
  tag: threshold
    .default(5)
    .describe('From this sum on the message is marked as spam, by which rules file it as junk: a number or `never`.'),
  quarantine: threshold.default('never').describe('From this sum on the message is quarantined.'),
  reject: threshold.default(15).describe('From this sum on the message is refused (550) while the client waits.'),
  policies: z
    .array(
      z.strictObject({
        for: z.array(z.string().min(1).toLowerCase()).min(1).describe('Domains and addresses of recipients.'),
        tag: threshold.optional().describe('As the option of the entry, which counts where this is absent.'),
        quarantine: threshold.optional().describe('As the option of the entry.'),
        reject: threshold.optional().describe('As the option of the entry.'),
      }),
    )
    .default([])
    .describe('Thresholds of single domains and recipients; the first that fits counts.'),
  mixed: z
    .enum(['mildest', 'strictest', 'defer'])
    .default('mildest')
    .describe(
      'For a message to recipients of different thresholds: those of the mildest or strictest count for all, or recipients unlike the first are deferred, so that the client sends them a message of their own (RFC 5321 §4.5.3.1.10).',
    ),
  scoreField: fieldName()
    .default('X-Postern-Score')
    .describe('Header field with the sum. Fields of the name from outside are removed.'),
  flagField: fieldName()
    .default('X-Spam-Flag')
    .describe(
      'Header field that is `YES` from `tag` on. One that is there already goes, also that of a spam filter, whose points are in the sum; with `tag: never` it is left alone.',
    ),
  outgoing: z.boolean().default(false).describe('Score mail of our own users and relay networks as well.'),
});

const refused: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'Message was refused by policy' };
const oneByOne: Reply<4> = { code: 452, enhanced: '4.5.3', text: 'Send to this recipient in a separate transaction' };

type Options = z.infer<typeof options>;

function fields(
  at: WithMessage,
  total: number,
  isTagged: boolean,
  flags: Threshold,
  settings: Options,
): readonly Edit[] {
  const { scoreField, flagField } = settings;
  const { headers } = at.message;
  const edits: Edit[] = [];
  if (headers.get(scoreField)) edits.push({ kind: 'remove-header', name: scoreField });
  // A flag that is there is forged, or the verdict of a spam filter, which is part of this sum.
  if (flags !== 'never' && headers.get(flagField)) edits.push({ kind: 'remove-header', name: flagField });
  edits.push({ kind: 'add-header', name: scoreField, value: total.toFixed(1) });
  if (isTagged) edits.push({ kind: 'add-header', name: flagField, value: 'YES' });
  return edits;
}

export const score = definePlugin({
  name: 'score',
  doc: 'Adds up what earlier plugins found and tags, quarantines or refuses by the sum.',
  options,
  writes: [scoreTotal],
  setup(settings, host) {
    const isSpared = (at: Greeted): boolean =>
      !settings.outgoing && (at.identity !== undefined || host.isRelayClient(at.session.remote.address));
    const how = settings.mixed === 'strictest' ? 'strictest' : 'mildest';
    return {
      rcpt(at, to) {
        const [first] = at.envelope.recipients;
        if (settings.mixed !== 'defer' || !first || isSpared(at)) return pass;
        const [mine, theirs] = [to, first].map(one => thresholdsOf(one, settings, settings.policies));
        if (!mine || !theirs || sameThresholds(mine, theirs)) return pass;
        return { kind: 'defer', reply: oneByOne, why: 'Thresholds of this recipient differ from those of the first' };
      },
      message(at) {
        if (isSpared(at)) return pass;
        const lines = scoreLines(at, settings.points);
        const total = sumOf(lines);
        const all = at.envelope.recipients.map(to => thresholdsOf(to, settings, settings.policies));
        const thresholds = combine(all.length > 0 ? all : [settings], how);
        const disposition = dispositionOf(total, thresholds);
        const passing = whatWouldPass(lines, total, thresholds);
        at.set(scoreTotal, { total, lines, disposition });
        at.evidence({
          total,
          sum: lines.map(showLine),
          thresholds,
          ...(passing === undefined ? {} : { wouldPass: passing }),
        });
        const why = `Sum ${total} reaches ${disposition}: ${lines.map(showLine).join('; ')}`;
        if (disposition === 'reject') return { kind: 'reject', reply: refused, why };
        const edits = fields(at, total, disposition !== 'clean', thresholds.tag, settings);
        return disposition === 'quarantine' ? { kind: 'quarantine', why, reason: 'spam', edits } : { ...pass, edits };
      },
    };
  },
});
