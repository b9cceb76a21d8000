// Spam scores by rspamd, over its HTTP protocol. Thresholds, header fields and results are those of every engine that
// scores; what rspamd alone knows (its action, fields that its modules add) is taken over where the options say so.
import { setMaxListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import {
  connectEndpoint,
  definePlugin,
  type Edit,
  type Endpoint,
  engineFailover,
  type Found,
  formatEndpoint,
  type Host,
  type Message,
  type MessageAnswer,
  parseEndpoint,
  type Reply,
  type SpamScore,
  scoreOf,
  skipSpamCheck,
  spamAnswer,
  startDeadline,
  type WithMessage,
} from '../../core/plugin/index.ts';
import { milterEdits, parseAnswer, type RspamdAnswer, symbolsOf } from './answer.ts';
import { createHttpClient, type HttpClient } from './http-client.ts';
import { options, type RspamdOptions } from './options.ts';
import { rspamdAction, spamScore, spamScores } from './results.ts';

const later: Reply<4> = { code: 451, enhanced: '4.7.1', text: 'Please try again later' };

/** A header of HTTP carries bytes: UTF-8, without control characters. */
const headerText = (text: string): string =>
  Buffer.from(text.replace(/[\x00-\x1f\x7f]/g, ' '), 'utf8').toString('latin1');

const isPlain = (address: string): boolean => /^[\x21-\x7e]*$/.test(address);

function requestHeaders(at: WithMessage, host: Host): Record<string, string | readonly string[]> {
  const { session, envelope, identity } = at;
  const sender = envelope.sender?.text ?? '';
  // rspamd takes an address beyond ASCII (RFC 6531) for a broken header and gives points for it: better it sees none.
  const recipients = envelope.recipients.map(({ address }) => address.text).filter(isPlain);
  const [only] = recipients;
  return {
    IP: session.remote.address,
    ...(session.remote.name ? { Hostname: headerText(session.remote.name) } : {}),
    Helo: headerText(at.helo),
    ...(isPlain(sender) ? { From: sender } : {}),
    ...(recipients.length > 0 ? { Rcpt: recipients } : {}),
    // Settings by recipient are for one recipient.
    ...(only !== undefined && envelope.recipients.length === 1 ? { 'Deliver-To': only } : {}),
    ...(identity ? { User: headerText(identity.name) } : {}),
    'Queue-Id': at.id,
    'MTA-Name': host.hostname,
    ...(session.tls ? { 'TLS-Version': session.tls.version, 'TLS-Cipher': session.tls.cipher } : {}),
    Filename: 'message.eml',
  };
}

function createEngine(settings: RspamdOptions, host: Host, closed: AbortSignal) {
  // A connection each, and many are kept.
  setMaxListeners(0, closed);
  const caFile = settings.caFile === undefined ? {} : { caFile: host.resolvePath(settings.caFile) };
  const clientFor = (endpoint: Endpoint): HttpClient =>
    createHttpClient(() =>
      connectEndpoint(endpoint, { signal: closed, clock: host.clock, connectMs: settings.connectTimeout, ...caFile }),
    );
  const clients = new Map(settings.hosts.map(endpoint => [endpoint, clientFor(endpoint)]));
  const failover = engineFailover(settings, host);
  const controller = settings.controller === undefined ? undefined : parseEndpoint(settings.controller, 11334);
  const teacher = controller && clientFor(controller);
  const clientOf = (endpoint: Endpoint): HttpClient => clients.get(endpoint) ?? clientFor(endpoint);

  return {
    check: (at: WithMessage) =>
      failover.run(at.signal, async (endpoint, signal) => {
        const request = { path: '/checkv2', headers: requestHeaders(at, host), body: at.message.rope };
        const answer = parseAnswer(await clientOf(endpoint).request(request, signal));
        return { answer, host: formatEndpoint(endpoint) };
      }),
    async learn(message: Message, as: 'spam' | 'ham', recipient: string, signal: AbortSignal): Promise<void> {
      if (!teacher) return;
      const { passwordFile } = settings;
      const password = passwordFile ? (await readFile(host.resolvePath(passwordFile), 'utf8')).trim() : undefined;
      const headers = { 'Deliver-To': headerText(recipient), ...(password ? { Password: headerText(password) } : {}) };
      await teacher.request({ path: as === 'spam' ? '/learnspam' : '/learnham', headers, body: message.rope }, signal);
    },
    async ping(endpoint: Endpoint): Promise<string> {
      const deadline = startDeadline(host.clock, settings.connectTimeout, closed);
      return clientOf(endpoint)
        .request({ path: '/ping', headers: {} }, deadline.signal)
        .then(
          () => 'works',
          (error: Error) => `does not answer: ${error.message}`,
        )
        .finally(() => deadline.done());
    },
    close() {
      for (const client of clients.values()) client.close();
      teacher?.close();
    },
  };
}

/** rspamd's action in our words; undefined where it is none of these. */
const dispositions: Readonly<Record<string, SpamScore['disposition']>> = {
  reject: 'reject',
  quarantine: 'quarantine',
  'add header': 'junk',
  'rewrite subject': 'junk',
};

function judge(answer: RspamdAnswer, settings: RspamdOptions): SpamScore {
  const { score, required_score: required } = answer;
  const found: Found = { engine: 'rspamd', score, required, symbols: symbolsOf(answer) };
  const judged = scoreOf(found, settings);
  if (settings.decide === 'thresholds') return judged;
  return { ...judged, disposition: dispositions[answer.action] ?? 'clean' };
}

function decide(at: WithMessage, answer: RspamdAnswer, found: SpamScore, settings: RspamdOptions): MessageAnswer {
  if (answer.action === 'soft reject') return { kind: 'defer', reply: later, why: 'rspamd says soft reject' };
  if (answer.action === 'discard' && settings.decide === 'rspamd')
    return { kind: 'discard', why: `rspamd says discard at ${found.score} points` };
  const verdict = spamAnswer(at, found, settings);
  if (verdict.kind === 'reject') return verdict;
  const ours = `${settings.headerPrefix}-`.toLowerCase();
  const isOurs = (edit: Edit): boolean => 'name' in edit && edit.name.toLowerCase().startsWith(ours);
  const milter = milterEdits(answer, settings.milterHeaders).filter(edit => !isOurs(edit));
  return { ...verdict, edits: [...(verdict.edits ?? []), ...milter] };
}

export const rspamd = definePlugin({
  name: 'rspamd',
  doc: 'Scores messages with rspamd over HTTP: header fields, junk, quarantine or refusal by thresholds or by its action.',
  options,
  writes: [spamScore, spamScores, rspamdAction],
  setup(settings, host) {
    const closed = new AbortController();
    const engine = createEngine(settings, host, closed.signal);
    return {
      async message(at) {
        const skipped = skipSpamCheck(at, settings, host);
        if (skipped) {
          at.evidence({ notChecked: skipped.why });
          return skipped.answer;
        }
        const { answer, host: by } = await engine.check(at);
        const found = judge(answer, settings);
        at.set(spamScore, found);
        at.set(spamScores, [...(at.get(spamScores) ?? []), found]);
        at.set(rspamdAction, answer.action);
        at.evidence({
          score: found.score,
          required: found.required,
          symbols: Object.fromEntries(found.symbols.map(({ name, score }) => [name, score])),
          disposition: found.disposition,
          action: answer.action,
          host: by,
        });
        return decide(at, answer, found, settings);
      },
      learn: (message, as, recipient, signal) => engine.learn(message, as, recipient, signal),
      async status() {
        const lines = settings.hosts.map(async host => [formatEndpoint(host), await engine.ping(host)] as const);
        return Object.fromEntries(await Promise.all(lines));
      },
      async close() {
        engine.close();
        closed.abort();
      },
    };
  },
});
