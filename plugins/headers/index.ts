// Adds, removes and replaces header fields by rule. All rules see the fields as they came to this plugin, so that their
// order decides only where what they write stands. The bytes of all other fields are untouched (invariant I5).
import {
  cidrSet,
  decodeWords,
  definePlugin,
  type Edit,
  formatDate,
  glob,
  type Host,
  pass,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';

const name = z.string().regex(/^[\x21-\x39\x3b-\x7e]{1,70}$/, 'Expected the name of a header field, without a colon');
const value = z
  .string()
  .max(2000)
  .regex(/^[^\x00-\x08\x0a-\x1f\x7f]*$/, 'Expected text without line breaks');
const patterns = () => z.array(z.string().max(500)).optional();
/** Longest part of a value that a pattern is held against. */
const maxMatched = 2000;

const options = z.strictObject({
  rules: z
    .array(
      z.strictObject({
        field: z
          .record(name, z.string().max(500))
          .default({})
          .describe(
            'Only where each of these fields is there with such a value: `*` stands for anything, `?` for one character; upper and lower case are the same, encoded words are decoded.',
          ),
        missing: z.array(name).default([]).describe('Only where none of these fields is there.'),
        sender: patterns().describe(
          'Only for these envelope senders, such as `*@shop.example`; `""` is the null sender.',
        ),
        recipient: patterns().describe('Only where one of the recipients is such a one.'),
        client: z.array(z.string()).optional().describe('Only from these networks.'),
        origin: z
          .enum(['inside', 'outside', 'any'])
          .default('any')
          .describe('`inside`: authenticated users and relay networks; `outside`: all others.'),
        remove: z
          .array(name)
          .default([])
          .describe('Names of fields to remove; a `*` may stand in them, such as `X-Internal-*`.'),
        received: z
          .enum(['keep', 'earlier', 'hide'])
          .default('keep')
          .describe(
            'Trace fields of outgoing mail: `earlier` removes the Received fields below ours, which name inner hosts; `hide` also replaces ours with one that does not name the client.',
          ),
        add: z
          .record(name, value)
          .default({})
          .describe(
            'Fields to put at the top. In values, `{sender}`, `{client}`, `{helo}`, `{user}`, `{id}` and `{gateway}` are filled in.',
          ),
        replace: z
          .record(name, value)
          .default({})
          .describe('As `add`, but in the place of fields of that name, or at the bottom where there is none.'),
      }),
    )
    .default([])
    .describe('Each rule whose conditions hold is carried out.'),
});

type Rule = z.infer<typeof options>['rules'][number];

function variables(at: WithMessage, host: Host): Readonly<Record<string, string>> {
  return {
    sender: at.envelope.sender?.text ?? '',
    client: at.session.remote.address,
    helo: at.helo,
    user: at.identity?.name ?? '',
    id: at.id,
    gateway: host.hostname,
  };
}

/** Ours is topmost: it was put there when the message came in. It is never taken away, for loops are counted by it. */
function traceEdits(what: Rule['received'], at: WithMessage, host: Host): readonly Edit[] {
  if (what === 'keep') return [];
  const fields = at.message.headers.all('received');
  const edits: Edit[] = fields
    .slice(1)
    .map((_, below) => ({ kind: 'remove-header', name: 'Received', index: below + 1 }));
  if (what === 'earlier' || fields.length === 0) return edits;
  // RFC 5321 §4.4: `from` may be left out by who originates the message.
  const value = `by ${host.hostname} id ${at.id}; ${formatDate(host.clock.now())}`;
  return [...edits, { kind: 'replace-header', name: 'Received', value, index: 0 }];
}

function compile(rule: Rule, host: Host) {
  const fields = Object.entries(rule.field).map(([field, pattern]) => [field, glob(pattern)] as const);
  const senders = rule.sender?.map(glob);
  const recipients = rule.recipient?.map(glob);
  const clients = rule.client && cidrSet(rule.client);
  const removed = rule.remove.map(glob);

  function holds(at: WithMessage): boolean {
    const { headers } = at.message;
    const { address } = at.session.remote;
    const isInside = at.identity !== undefined || host.isRelayClient(address);
    if (rule.origin !== 'any' && isInside !== (rule.origin === 'inside')) return false;
    if (clients && !clients.has(address)) return false;
    if (senders && !senders.some(fits => fits(at.envelope.sender?.text ?? ''))) return false;
    if (recipients && !at.envelope.recipients.some(to => recipients.some(fits => fits(to.address.text)))) return false;
    if (rule.missing.some(field => headers.has(field))) return false;
    return fields.every(([field, fits]) =>
      headers.all(field).some(({ value }) => fits(decodeWords(value.slice(0, maxMatched)))),
    );
  }

  function edits(at: WithMessage): readonly Edit[] {
    const known = variables(at, host);
    const filled = (text: string): string =>
      text.replace(/\{(\w+)\}/g, (whole, key: string) => known[key]?.replace(/[\x00-\x1f\x7f]/g, '?') ?? whole);
    const there = new Set([...at.message.headers].map(field => field.name.toLowerCase()).filter(Boolean));
    return [
      ...traceEdits(rule.received, at, host),
      ...[...there]
        .filter(field => removed.some(fits => fits(field)))
        .map(field => ({ kind: 'remove-header', name: field }) as const),
      ...Object.entries(rule.replace).map(
        ([field, value]) => ({ kind: 'replace-header', name: field, value: filled(value) }) as const,
      ),
      // The last one added is topmost.
      ...Object.entries(rule.add)
        .reverse()
        .map(([field, value]) => ({ kind: 'add-header', name: field, value: filled(value) }) as const),
    ];
  }
  return { holds, edits };
}

export const headers = definePlugin({
  name: 'headers',
  doc: 'Adds, removes and replaces header fields by rule.',
  options,
  setup(settings, host) {
    const rules = settings.rules.map(rule => compile(rule, host));
    if (rules.length === 0) return {};
    return {
      message(at) {
        const used = rules.flatMap((rule, index) => (rule.holds(at) ? [{ index, edits: rule.edits(at) }] : []));
        if (used.length === 0) return pass;
        at.evidence({ rules: used.map(({ index }) => index + 1) });
        return { ...pass, edits: used.flatMap(({ edits }) => edits) };
      },
    };
  },
});
