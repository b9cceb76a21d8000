// Spam scores by SpamAssassin's spamd. What a score means (header fields, junk, quarantine, refusal) is the policy that
// all scoring engines share. Where users have settings of their own, spamd is asked once per user and the lowest score
// decides for the message, so that nobody loses mail to a setting of somebody else.
import {
  connectEndpoint,
  definePlugin,
  type Endpoint,
  engineFailover,
  engineHostFields,
  type Found,
  formatEndpoint,
  type Host,
  scoreOf,
  skipSpamCheck,
  spamAnswer,
  spamPolicyFields,
  startDeadline,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { spamScore, spamScores } from './results.ts';
import { createSpamdClient, type SpamdClient, type SpamdContent } from './spamd-client.ts';

export const options = z.strictObject({
  ...engineHostFields('spamd', ['127.0.0.1:783'], 783),
  caFile: z
    .string()
    .min(1)
    .optional()
    .meta({ kind: 'path' })
    .describe('Certificates that vouch for a `tls://` host (`spamd --ssl`).'),
  user: z
    .string()
    .max(200)
    .default('')
    .describe(
      'User whose settings and learned data count: `%u` is the recipient’s local part without detail, `%d` the domain, `%u@%d` the address; a name without these is the same for all. Empty: spamd’s own default.',
    ),
  maxUsers: z
    .number()
    .int()
    .positive()
    .default(5)
    .describe('Of a message to more users than this only so many are asked for.'),
  ...spamPolicyFields({ junk: 5, maxSize: '512KiB' }),
});
type SpamassassinOptions = z.infer<typeof options>;

/** Names without what a header or a command line could not carry. */
function userOf(template: string, address: { readonly local: string; readonly domain: string }): string {
  const local = address.local.toLowerCase().replace(/\+.*$/, '');
  const name = template.replaceAll('%u', local).replaceAll('%d', address.domain.toLowerCase());
  return name.replace(/[^\x21-\x7e]/g, '_');
}

/** User → recipients; `undefined` is spamd's default user. */
function usersOf(at: WithMessage, { user, maxUsers }: SpamassassinOptions): readonly (string | undefined)[] {
  if (user === '' || at.envelope.recipients.length === 0) return [undefined];
  return [...new Set(at.envelope.recipients.map(recipient => userOf(user, recipient.address)))].slice(0, maxUsers);
}

/** SpamAssassin believes a sender that stands above all Received fields (Conf, envelope_sender_header). */
const preface = (at: WithMessage): string => {
  const sender = at.envelope.sender?.text ?? '';
  return /^[\x21-\x7e]*$/.test(sender) ? `X-Envelope-From: <${sender}>\r\n` : '';
};

function createEngine(settings: SpamassassinOptions, host: Host) {
  const failover = engineFailover(settings, host);
  const caFile = settings.caFile === undefined ? {} : { caFile: host.resolvePath(settings.caFile) };
  const clientOf = (endpoint: Endpoint): SpamdClient =>
    createSpamdClient(signal =>
      connectEndpoint(endpoint, { signal, clock: host.clock, connectMs: settings.connectTimeout, ...caFile }),
    );
  return {
    symbols: (content: SpamdContent, parent: AbortSignal) =>
      failover.run(parent, async (endpoint, signal) => ({
        ...(await clientOf(endpoint).symbols(content, signal)),
        host: formatEndpoint(endpoint),
      })),
    /** What was learnt as the other kind before is taken back by spamd itself. */
    learn: (content: SpamdContent, as: 'spam' | 'ham', parent: AbortSignal) =>
      failover.run(parent, (endpoint, signal) =>
        clientOf(endpoint).tell(content, { messageClass: as, set: ['local'] }, signal),
      ),
    async ping(endpoint: Endpoint): Promise<string> {
      const deadline = startDeadline(host.clock, settings.connectTimeout);
      return clientOf(endpoint)
        .ping(deadline.signal)
        .then(
          () => 'works',
          (error: Error) => `does not answer: ${error.message}`,
        )
        .finally(() => deadline.done());
    },
  };
}

type Answer = Awaited<ReturnType<ReturnType<typeof createEngine>['symbols']>>;

/** The mildest of the users' answers; with one user there is nothing to choose. */
function join(users: readonly (string | undefined)[], answers: readonly Answer[]): Found {
  const [mildest] = [...answers].sort((a, b) => a.score - b.score);
  if (!mildest) throw new Error('Nobody was asked');
  const { score, required, symbols } = mildest;
  const found = { engine: 'spamassassin', score, required, symbols: symbols.map(name => ({ name })) };
  if (answers.length < 2) return found;
  return { ...found, byUser: Object.fromEntries(users.map((user, index) => [user ?? '', answers[index]?.score ?? 0])) };
}

export const spamassassin = definePlugin({
  name: 'spamassassin',
  doc: 'Scores messages with SpamAssassin (spamd): header fields, junk, quarantine or refusal by thresholds.',
  options,
  writes: [spamScore, spamScores],
  setup(settings, host) {
    const engine = createEngine(settings, host);
    return {
      async message(at) {
        const skipped = skipSpamCheck(at, settings, host);
        if (skipped) {
          at.evidence({ notChecked: skipped.why });
          return skipped.answer;
        }
        const users = usersOf(at, settings);
        const content = { message: at.message.rope, preface: preface(at) };
        const answers = await Promise.all(
          users.map(user => engine.symbols(user === undefined ? content : { ...content, user }, at.signal)),
        );
        const found = scoreOf(join(users, answers), settings);
        at.set(spamScore, found);
        at.set(spamScores, [...(at.get(spamScores) ?? []), found]);
        at.evidence({
          score: found.score,
          required: found.required,
          symbols: found.symbols.map(({ name }) => name),
          disposition: found.disposition,
          host: answers[0]?.host,
          ...(found.byUser ? { byUser: found.byUser } : {}),
        });
        return spamAnswer(at, found, settings);
      },
      async learn(message, as, recipient, signal) {
        const [local = '', domain = ''] = recipient.split(/@(?=[^@]*$)/);
        const user = settings.user === '' ? {} : { user: userOf(settings.user, { local, domain }) };
        await engine.learn({ message: message.rope, ...user }, as, signal);
      },
      async status() {
        const lines = await Promise.all(
          settings.hosts.map(async endpoint => [formatEndpoint(endpoint), await engine.ping(endpoint)] as const),
        );
        return Object.fromEntries(lines);
      },
    };
  },
});
