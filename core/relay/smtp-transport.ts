// A transport over SMTP or LMTP: finds the hosts of a destination, opens or reuses a connection, sends, and says for
// each recipient what came of it.
//
// - Trouble with one host (no connection, no greeting, 421, lost before the end of data) moves on to the next; with all
//   of them the destination is in trouble. While others are left a host gets 2 s to connect and 2.5 s to greet.
// - A connection lost after the end of data may have delivered: deferred, and not tried at another host now.
// - A connection that was idle may have been closed by the server: one more try on a fresh one, which is no trouble. One
//   whose server says nothing any more is given 4 s while others are left; the body waits for its first reply, so that
//   the next host may have the message without anybody getting it twice.
// - Never connects to one of our own listeners, never sends a message on that has been through too many hosts
//   (RFC 5321 §6.3).

import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { keepNewest } from '../lib/keep-newest.ts';
import { needsSmtputf8 } from '../mail/address.ts';
import type { Recipient } from '../mail/envelope.ts';
import type { Dns } from '../plugin/contract.ts';
import { ConnectError, type ConnectOptions, openSession } from './client.ts';
import { prepare, type RelayJob, rcptLine, xclientLine, xforwardLines } from './envelope-lines.ts';
import { type Candidate, type PlannedHost, type PlanParts, planAddresses, planHosts } from './host-plan.ts';
import type { MtaSts } from './mta-sts.ts';
import { failedOutcome, type RelayOutcome, refusedOutcome, troubleOutcome } from './outcome.ts';
import { ConnectionPool, type Loan } from './pool.ts';
import { countReceived } from './received-count.ts';
import { replyText } from './reply-reader.ts';
import type { RelayTarget } from './route.ts';
import { type RecipientAnswer, SessionError, type SessionTimeouts, type SmtpSession } from './session.ts';
import { authenticates, type TlsPolicy } from './tls-policy.ts';

export interface RelayParts {
  readonly clock: Clock;
  readonly dns: Dns;
  readonly log: Logger;
  /** Our name in EHLO. */
  readonly hostname: string;
  readonly mtaSts?: MtaSts;
  /** One of our own names: such an MX host is us. */
  readonly isOwnName?: (name: string) => boolean;
  /** One of our own listeners. */
  readonly isOwnAddress?: (address: string, port: number) => boolean;
  /** Default both. */
  readonly families?: readonly (4 | 6)[];
  readonly localAddress?: string;
  /** Connections to one host. Default 20. */
  readonly connections?: number;
  /** Default 10 s. */
  readonly idleMs?: number;
  /** Messages per connection. Default 1,000. */
  readonly maxUses?: number;
  readonly timeouts?: Partial<RelayTimeouts>;
  /** Received fields after which mail is taken to loop. Default 50. */
  readonly maxHops?: number;
  readonly random?: () => number;
}

export interface RelayTimeouts {
  /** To connect and to greet, while another host is left to try. */
  readonly hurriedConnectMs: number;
  readonly hurriedGreetingMs: number;
  /** For the first reply on a connection that stands already. */
  readonly hurriedReplyMs: number;
  readonly connectMs: number;
  readonly greetingMs: number;
  readonly session?: SessionTimeouts;
}

const defaultTimeouts: RelayTimeouts = {
  hurriedConnectMs: 2_000,
  hurriedGreetingMs: 2_500,
  hurriedReplyMs: 4_000,
  connectMs: 30_000,
  // RFC 5321 §4.5.3.2.1.
  greetingMs: 300_000,
};

/** The shape of the queue's `Transport`. */
export interface RelayTransport {
  readonly name: string;
  deliver(
    job: RelayJob,
    recipients: readonly Recipient[],
    stop: { readonly signal: AbortSignal },
  ): Promise<readonly RelayOutcome[]>;
  /** Asks with the null sender whether these would be taken, and sends nothing: `delivered` means so. */
  ask(recipients: readonly Recipient[], signal: AbortSignal): Promise<readonly RelayOutcome[]>;
}

export interface Relay {
  /** `domain`: of the recipients; what an MX route looks up. */
  transport(target: RelayTarget, domain: string): RelayTransport;
  status(): { readonly open: number; readonly idle: number };
  close(): Promise<void>;
}

/** Hosts of one destination that are tried in one attempt. RFC 5321 §5.1 asks for at least two. */
const maxHosts = 5;
const penaltyMs = 60_000;
const maxPenalties = 10_000;
/** Idle connections that may turn out to be closed, in one attempt. */
const staleTries = 20;

/** What one host made of an attempt. */
type HostResult =
  | { readonly kind: 'done'; readonly outcomes: readonly RelayOutcome[] }
  /** The next one may do better. */
  | { readonly kind: 'next'; readonly outcome: RelayOutcome };

export function createRelay(parts: RelayParts): Relay {
  const { clock, log } = parts;
  const timeouts = { ...defaultTimeouts, ...parts.timeouts };
  const pool = new ConnectionPool({
    clock,
    limit: parts.connections ?? 20,
    idleMs: parts.idleMs ?? 10_000,
    maxUses: parts.maxUses ?? 1_000,
  });
  const plan: PlanParts = {
    dns: parts.dns,
    ...(parts.mtaSts === undefined ? {} : { mtaSts: parts.mtaSts }),
    families: parts.families ?? [4, 6],
    isOwnName: parts.isOwnName ?? (name => name === parts.hostname.toLowerCase()),
    random: parts.random ?? Math.random,
  };
  const maxHops = parts.maxHops ?? 50;
  const penalties = new Map<string, number>();

  const hostKey = (host: PlannedHost | Candidate): string => `${host.host}:${host.port}`;
  const isPenalised = (host: PlannedHost): boolean => (penalties.get(hostKey(host)) ?? 0) > clock.monotonic();
  function penalise(host: Candidate): void {
    keepNewest(penalties, hostKey(host), clock.monotonic() + penaltyMs, maxPenalties);
  }

  function transport(target: RelayTarget, domain: string): RelayTransport {
    async function tryHosts(
      on: Omit<HostTry, 'target' | 'domain' | 'host' | 'more'>,
    ): Promise<readonly RelayOutcome[]> {
      const { recipients, signal } = on;
      const same = (each: RelayOutcome) => recipients.map(() => each);
      const planned = await planHosts(plan, target, domain, signal);
      if (planned.kind === 'outcome') return same(planned.outcome);
      const hosts = inOrder(planned.hosts).slice(0, maxHosts);
      let worst: RelayOutcome | undefined;
      for (const [index, host] of hosts.entries()) {
        const result = await tryHost({ ...on, target, domain, host, more: index < hosts.length - 1 });
        if (result.kind === 'done') return result.outcomes;
        worst = pickWorse(worst, result.outcome);
        if (signal.aborted) break;
      }
      return same(worst ?? troubleOutcome('No host to try', '4.4.4'));
    }

    return {
      name: target.protocol,
      async deliver(job, recipients, { signal }) {
        if ((await countReceived(job.form)) > maxHops) {
          const loops = failedOutcome('5.4.6', 'Mail loops: too many hops', `More than ${maxHops} Received fields`);
          return recipients.map(() => loops);
        }
        return tryHosts({ job, recipients, signal });
      },
      ask: (recipients, signal) => tryHosts({ recipients, signal }),
    };
  }

  const inOrder = (hosts: readonly PlannedHost[]): readonly PlannedHost[] => [
    ...hosts.filter(host => !isPenalised(host)),
    ...hosts.filter(isPenalised),
  ];

  interface HostTry {
    readonly target: RelayTarget;
    readonly domain: string;
    /** Absent: the recipients are only asked about. */
    readonly job?: RelayJob;
    readonly recipients: readonly Recipient[];
    readonly signal: AbortSignal;
    readonly host: PlannedHost;
    /** Other hosts are left. */
    readonly more: boolean;
  }

  async function tryHost(on: HostTry): Promise<HostResult> {
    const byMx = on.target.hosts.length === 0 || on.target.hosts.some(hop => hop.mx);
    const named = on.target.hosts.find(hop => hop.mx)?.host ?? on.domain;
    const found = await planAddresses(plan, on.target, on.host, byMx ? named : undefined, on.signal);
    if (found.kind === 'unusable') {
      // RFC 5321 §5.1: a domain whose hosts do not exist is an error; one configured wrongly is for its operator to mend.
      if (found.permanent && byMx)
        return { kind: 'next', outcome: failedOutcome('5.4.4', 'Recipient domain has no mail host', found.why) };
      return { kind: 'next', outcome: troubleOutcome(found.why, '4.4.3') };
    }
    let last: RelayOutcome = troubleOutcome(`${on.host.host} has no address`, '4.4.4');
    const candidates = found.candidates.slice(0, 4);
    for (const [index, candidate] of candidates.entries()) {
      const result = await tryCandidate(on, candidate, on.more || index < candidates.length - 1);
      if (result.kind === 'done') {
        penalties.delete(hostKey(candidate));
        return result;
      }
      last = result.outcome;
      if (on.signal.aborted) break;
    }
    return { kind: 'next', outcome: last };
  }

  async function tryCandidate(on: HostTry, candidate: Candidate, more: boolean): Promise<HostResult> {
    if (parts.isOwnAddress?.(candidate.address, candidate.port))
      return { kind: 'next', outcome: failedOutcome('5.4.6', 'Mail loops back', `${hostKey(candidate)} is this host`) };
    const policy = on.job?.envelope.requireTls ? requiredPolicy(candidate.policy, on.host.secure) : candidate.policy;
    if (policy === undefined)
      return { kind: 'next', outcome: noRequireTls(`${candidate.host} cannot be authenticated`) };
    // A connection that spoke for a client (XCLIENT) must not speak for the gateway itself afterwards.
    const voice = on.target.clientFacts === 'xclient' && on.job?.client ? 'client ' : '';
    const key = voice + poolKey(on.target, candidate, policy);
    for (let fresh = 0; ; fresh += 1) {
      let loan: Loan;
      try {
        loan = await pool.take(key, () => open(on, { ...candidate, policy }, more), on.signal, on.target.connections);
      } catch (error) {
        penalise(candidate);
        const why = (error as Error).message;
        // RFC 8689 §4.2.1.
        if (on.job?.envelope.requireTls && error instanceof ConnectError && error.phase === 'tls')
          return { kind: 'next', outcome: noRequireTls(`${candidate.host}: ${why}`) };
        log.info({ id: on.job?.id, host: hostKey(candidate), address: candidate.address, why }, 'relay-connect');
        return { kind: 'next', outcome: troubleOutcome(`${candidate.host}: ${why}`) };
      }
      const result = await useLoan(on, candidate, loan, more).finally(() => pool.give(key, loan.session));
      if (result !== 'again') return result;
      if (fresh > staleTries)
        return { kind: 'next', outcome: troubleOutcome(`${candidate.host}: idle connections keep closing`, '4.4.2') };
    }
  }

  function open(on: HostTry, candidate: Candidate, more: boolean): Promise<SmtpSession> {
    const options: ConnectOptions = {
      address: candidate.address,
      port: candidate.port,
      host: candidate.host,
      helo: parts.hostname,
      lmtp: on.target.protocol === 'lmtp',
      implicitTls: on.target.implicitTls ?? false,
      policy: candidate.policy,
      ...(on.target.credentials === undefined ? {} : { credentials: on.target.credentials }),
      connectMs: more ? timeouts.hurriedConnectMs : timeouts.connectMs,
      greetingMs: more ? timeouts.hurriedGreetingMs : timeouts.greetingMs,
      ...(parts.localAddress === undefined ? {} : { localAddress: parts.localAddress }),
      ...(timeouts.session === undefined ? {} : { timeouts: timeouts.session }),
      clock,
      signal: on.signal,
    };
    return openSession(options);
  }

  /** `again`: the connection was stale, nothing happened. */
  async function useLoan(
    on: HostTry,
    candidate: Candidate,
    { session, reused }: Loan,
    more: boolean,
  ): Promise<HostResult | 'again'> {
    const { job, target } = on;
    const inner = target.hosts.length > 0;
    const hurry = more ? timeouts.hurriedReplyMs : undefined;
    try {
      if (!job) return await question(on, candidate, session, inner, more);
      const { recipients } = on;
      if (target.clientFacts === 'xclient') {
        const line = xclientLine(job, session);
        if (line !== undefined) await session.xclient(line, hurry);
      }
      if (job.envelope.requireTls && !(session.secure && session.has('REQUIRETLS')))
        return { kind: 'next', outcome: noRequireTls(`${candidate.host} does not offer REQUIRETLS`) };
      const ready = await prepare(job, recipients, session, target.downgrade !== 'bounce');
      if ('reply' in ready) return { kind: 'done', outcomes: recipients.map(() => ({ kind: 'failed', ...ready })) };
      const { mail, content } = ready;
      const answers = await session.send(
        {
          prelude: target.clientFacts === 'xforward' ? xforwardLines(job, session) : [],
          mail,
          rcpt: recipients.map(each => rcptLine(each, session)),
          body: content,
          chunking: target.chunking !== false && session.has('CHUNKING'),
          ...(hurry === undefined ? {} : { firstReplyMs: hurry }),
        },
        on.signal,
      );
      const dsnPassed = session.has('DSN');
      const outcomes = answers.map(answer => outcomeOf(answer, candidate.host, inner, dsnPassed, content.converted));
      return more && isBusy(answers)
        ? { kind: 'next', outcome: outcomes[0] ?? troubleOutcome('busy') }
        : { kind: 'done', outcomes };
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
      return lost(on, candidate, error, reused, inner);
    }
  }

  async function question(
    on: HostTry,
    candidate: Candidate,
    session: SmtpSession,
    inner: boolean,
    more: boolean,
  ): Promise<HostResult> {
    const bare = on.recipients.map(({ address }) => rcptLine({ address }, session));
    const utf8 = on.recipients.some(({ address }) => needsSmtputf8(address));
    if (utf8 && !session.has('SMTPUTF8')) {
      const outcome = failedOutcome('5.6.7', 'Destination cannot take internationalised mail', 'No SMTPUTF8 there');
      return { kind: 'done', outcomes: on.recipients.map(() => outcome) };
    }
    const answers = await session.ask(
      `MAIL FROM:<>${utf8 ? ' SMTPUTF8' : ''}`,
      bare,
      on.signal,
      more ? timeouts.hurriedReplyMs : undefined,
    );
    const outcomes = answers.map((answer): RelayOutcome => {
      if (answer.ok || answer.stage === 'rcpt') return outcomeOf(answer, candidate.host, inner, false);
      return troubleOutcome(`${candidate.host} refuses the null sender: ${replyText(answer.reply)}`);
    });
    const [first] = outcomes;
    return more && first && isBusy(answers) ? { kind: 'next', outcome: first } : { kind: 'done', outcomes };
  }

  function lost(
    on: HostTry,
    candidate: Candidate,
    error: SessionError,
    reused: boolean,
    inner: boolean,
  ): HostResult | 'again' {
    const said = error.reply;
    log.info(
      {
        id: on.job?.id,
        host: hostKey(candidate),
        why: error.message,
        finalSent: error.finalSent,
        said: said && replyText(said),
      },
      'relay-lost',
    );
    if (error.finalSent) {
      // RFC 5321 §4.5.3.2.6, RFC 1047: the message may be there. Waiting is all that can be done against a second copy.
      const why = `${candidate.host}: connection lost after the end of data: ${error.message}`;
      const reply = { code: 451, enhanced: '4.4.2', text: 'Destination did not confirm the message' } as const;
      return { kind: 'done', outcomes: on.recipients.map(() => ({ kind: 'deferred', reply, why })) };
    }
    if (on.signal.aborted)
      return { kind: 'next', outcome: troubleOutcome(`${candidate.host}: ${error.message}`, '4.4.2') };
    if (said && said.code >= 500) {
      const refused = refusedOutcome(said, candidate.host, inner, 'data');
      return { kind: 'done', outcomes: on.recipients.map(() => refused) };
    }
    if (reused && !error.timedOut) return 'again';
    penalise(candidate);
    return {
      kind: 'next',
      outcome: troubleOutcome(`${candidate.host}: ${error.message}${said ? ` (${replyText(said)})` : ''}`, '4.4.2'),
    };
  }

  return { transport, status: () => pool.status(), close: () => pool.close() };
}

/** Temporary refusal of everything, as of a server that is short of resources: another host may not be. */
const isBusy = (answers: readonly RecipientAnswer[]): boolean =>
  answers.every(answer => !answer.ok && answer.stage === 'mail' && answer.reply.code >= 400 && answer.reply.code < 500);

function outcomeOf(
  answer: RecipientAnswer,
  host: string,
  inner: boolean,
  dsnPassed: boolean,
  converted = false,
): RelayOutcome {
  if (!answer.ok) return refusedOutcome(answer.reply, host, inner, answer.stage);
  const how = converted ? ' (converted to 7-bit)' : '';
  const detail = `${host}: ${replyText(answer.reply).slice(0, 200)}${how}`;
  return { kind: 'delivered', detail, dsnPassed, relayed: true };
}

/** A failure of one host does not outweigh that another could be reached later. */
const pickWorse = (before: RelayOutcome | undefined, now: RelayOutcome): RelayOutcome =>
  before === undefined || (before.kind === 'failed' && now.kind === 'deferred') ? now : before;

/** RFC 8689 §4.2.1: the peer must be authenticated, by a name that nobody could forge. */
function requiredPolicy(policy: TlsPolicy, secureName: boolean): TlsPolicy | undefined {
  if (authenticates(policy)) return policy;
  return secureName ? { kind: 'verified' } : undefined;
}

const noRequireTls = (why: string): RelayOutcome =>
  failedOutcome('5.7.30', 'Destination cannot be reached with the protection that the sender requires', why);

/** Connections that may be used for each other. */
function poolKey(target: RelayTarget, candidate: Candidate, policy: TlsPolicy): string {
  const tls = JSON.stringify(policy, (_key, value: unknown) => value);
  return `${target.protocol} ${candidate.host} ${candidate.address} ${candidate.port} ${target.credentials?.username ?? ''} ${tls}`;
}
