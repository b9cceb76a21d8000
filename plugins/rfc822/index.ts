// Header and MIME sanity: is it a message at all, and do all readers read the same? Every rule can be switched; the
// strictest action of the broken rules decides. Repairs are made for our own users only: to change what others signed
// would break it (invariant I5).
import {
  definePlugin,
  type Edit,
  type Host,
  type Message,
  type MessageAnswer,
  pass,
  reject,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { type Facts, scanBytes } from './facts.ts';
import { brokenRules } from './results.ts';
import { type Action, type Rule, rules } from './rules.ts';

const actionOf = (rule: Rule) =>
  z
    .enum(rule.repair ? ['off', 'mark', 'quarantine', 'refuse', 'repair'] : ['off', 'mark', 'quarantine', 'refuse'])
    .default(rule.preset)
    .describe(`${rule.clause}. ${rule.doc}`);

const options = z.strictObject({
  rules: z
    .strictObject(Object.fromEntries(rules.map(rule => [rule.name, actionOf(rule)])))
    .prefault({})
    .describe('What to do about each fault. `repair` repairs mail of our own users and marks that of others.'),
  header: z
    .string()
    .regex(/^[\x21-\x39\x3b-\x7e]*$/, 'Expected a header field name')
    .default('X-Rfc822-Faults')
    .describe('Field that marked messages get; empty = only the trace and other plugins learn of it.'),
});

type Broken = { readonly rule: Rule; readonly action: Action; readonly what: string };
const composite = /^\s*(?:multipart|message)\s*\//i;

const typeSyntax = /^\s*[\w!#$&^.+-]+\s*\/\s*[\w!#$&^.+-]+\s*(?:;|\(|$)/;
const encodings = /^\s*(?:7bit|8bit|binary|base64|quoted-printable)\s*$/i;

/** Of a message without parts all MIME faults show in its header; only then is it worth reading the tree. */
function suspicious({ headers }: Message): boolean {
  const types = headers.all('content-type');
  const codings = headers.all('content-transfer-encoding');
  if (types.length > 1 || codings.length > 1) return true;
  return types.some(({ value }) => !typeSyntax.test(value)) || codings.some(({ value }) => !encodings.test(value));
}

function createChecker(settings: z.infer<typeof options>, host: Host) {
  const chosen = rules.flatMap(rule => {
    const action = settings.rules[rule.name] ?? rule.preset;
    return action === 'off' ? [] : [{ rule, action }];
  });
  const wants = (needs: Rule['needs']): boolean => chosen.some(({ rule }) => rule.needs === needs);
  const wantsMime = wants('mime');
  const wantsLineEnds = wants('line-ends');
  const wantsBytes = wants('bytes') || wantsLineEnds;

  const isOurs = (at: WithMessage): boolean =>
    at.identity !== undefined || at.session.role === 'submission' || host.isRelayClient(at.session.remote.address);

  function judge(at: WithMessage, facts: Facts): MessageAnswer {
    const ours = isOurs(at);
    const broken: Broken[] = [];
    for (const { rule, action } of chosen) {
      const what = rule.find(facts);
      if (what !== undefined) broken.push({ rule, action: action === 'repair' && !ours ? 'mark' : action, what });
    }
    if (broken.length === 0) return pass;
    at.set(
      brokenRules,
      broken.map(({ rule }) => rule.name),
    );
    at.evidence(
      Object.fromEntries(
        broken.map(({ rule, action, what }) => [rule.name, `${action}: ${rule.clause}${what && ` (${what})`}`]),
      ),
    );
    const refused = broken.find(({ action }) => action === 'refuse');
    if (refused)
      return reject(
        { code: 550, enhanced: '5.6.0', text: refused.rule.text },
        `${refused.rule.name} ${refused.what}`.trim(),
      );
    const edits = [...repairs(at, facts, broken), ...marks(broken)];
    const held = broken.find(({ action }) => action === 'quarantine');
    return held ? { kind: 'quarantine', why: held.rule.name, reason: 'malformed', edits } : { ...pass, edits };
  }

  function repairs(at: WithMessage, facts: Facts, broken: readonly Broken[]): readonly Edit[] {
    const context = { now: host.clock.now(), id: at.id, hostname: host.hostname, envelope: at.envelope };
    return broken.flatMap(({ rule, action }) => (action === 'repair' ? (rule.repair?.(facts, context) ?? []) : []));
  }

  function marks(broken: readonly Broken[]): readonly Edit[] {
    const names = broken.filter(({ action }) => action === 'mark').map(({ rule }) => rule.name);
    return names.length > 0 && settings.header !== ''
      ? [{ kind: 'add-header', name: settings.header, value: names.join(', ') }]
      : [];
  }

  function message(at: WithMessage): MessageAnswer | Promise<MessageAnswer> {
    const { message, envelope } = at;
    const type = message.headers.get('content-type');
    const needsMime = wantsMime && (message.headers.has('content-transfer-encoding') || type !== undefined);
    // A single part has no tree: what can be wrong with it stands in its header.
    const mime = needsMime && (composite.test(type?.value ?? '') || suspicious(message)) ? message.mime() : undefined;
    const bytes = wantsBytes ? scanBytes(message, wantsLineEnds) : undefined;
    if (!mime && !(bytes instanceof Promise)) return judge(at, { message, envelope, ...(bytes && { bytes }) });
    return Promise.all([mime, bytes]).then(([tree, scanned]) =>
      judge(at, { message, envelope, ...(tree && { mime: tree }), ...(scanned && { bytes: scanned }) }),
    );
  }
  return { message };
}

export const rfc822 = definePlugin({
  name: 'rfc822',
  doc: 'Checks header and MIME structure by the standards: refuses, marks, quarantines, or repairs on submission.',
  options,
  writes: [brokenRules],
  setup(settings, host) {
    return createChecker(settings, host);
  },
});
