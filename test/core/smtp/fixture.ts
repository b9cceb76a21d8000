// An SMTP listener with a small chain of its own and nothing behind it: what it was given is kept for the test to look at.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Logger } from 'pino';
import { createPendingExchanges, type PendingExchanges } from '../../../core/accounts/sasl/pending-exchanges.ts';
import { type Clock, systemClock } from '../../../core/lib/clock.ts';
import type { Envelope } from '../../../core/mail/envelope.ts';
import type { Message } from '../../../core/mail/message.ts';
import type { Reply } from '../../../core/mail/reply.ts';
import type { TraceRecord, TraceStep } from '../../../core/mail/trace.ts';
import { ensureSelfSigned, openTls } from '../../../core/net/tls.ts';
import type { AuthOutcome, Chain, ChainSession, GateOutcome, MessageOutcome } from '../../../core/pipeline/chain.ts';
import type { Session } from '../../../core/plugin/contract.ts';
import type { SmtpListenerOptions } from '../../../core/smtp/listener-options.ts';
import type { SaslParts, Settlement, SettleRequest } from '../../../core/smtp/ports.ts';
import { createSmtpServer, type SmtpServer } from '../../../core/smtp/server.ts';

export interface HeldClock extends Clock {
  move(ms: number): void;
  readonly pending: number;
}

/** Time that stands still until it is moved. */
export function heldClock(start = Date.parse('2026-11-21T12:00:00Z')): HeldClock {
  let at = 0;
  let timers: { readonly due: number; readonly run: () => void }[] = [];
  return {
    now: () => start + at,
    monotonic: () => at,
    get pending() {
      return timers.length;
    },
    after(ms, run) {
      const timer = { due: at + ms, run };
      timers.push(timer);
      return () => {
        timers = timers.filter(other => other !== timer);
      };
    },
    move(ms) {
      const until = at + ms;
      for (;;) {
        const next = timers.filter(timer => timer.due <= until).sort((a, b) => a.due - b.due)[0];
        if (!next) break;
        at = Math.max(at, next.due);
        timers = timers.filter(timer => timer !== next);
        next.run();
      }
      at = until;
    },
  };
}

const refusal = (
  reply: Reply<4> | Reply<5>,
  why = 'test',
): { kind: 'refused'; reply: typeof reply; plugin: string; why: string } => ({
  kind: 'refused',
  reply,
  plugin: 'test',
  why,
});
const ok = (settled = false): GateOutcome => ({ kind: 'ok', settled });

/** Decides by names: local domains are example.org and bench.local; `unknown@`, `later@` … are refused as they say. */
export class FixtureChain implements Chain {
  /** Set: hook `sasl` believes what is proved. */
  exchanges: PendingExchanges | undefined;
  live = 0;
  refuseConnect: Reply<4> | Reply<5> | undefined;
  /** Connections wait for this. */
  gate: Promise<void> | undefined;
  messageGate: Promise<void> | undefined;
  readonly messages: { readonly envelope: Envelope; readonly bytes: Buffer }[] = [];
  readonly delivers = false;
  readonly kept = [];
  deliver: Chain['deliver'] = async () => ({ outcome: { kind: 'route' }, steps: [] });
  learn = async (): Promise<[]> => [];
  describe = (): [] => [];
  status = async (): Promise<[]> => [];
  sign: Chain['sign'] = async message => message;
  close = async (): Promise<void> => undefined;

  openSession(first: Session): ChainSession {
    const chain = this;
    let facts = first;
    let identity: string | undefined;
    let steps: TraceStep[] = [];
    let ended = false;
    chain.live++;
    const step = <T extends { readonly kind: string }>(hook: string, outcome: T): T => {
      steps.push({ atMs: 0, plugin: 'fixture', hook, verdict: outcome.kind, ms: 0 });
      return outcome;
    };
    return {
      update(session, who) {
        facts = session;
        if (who !== undefined) identity = who?.name;
      },
      async connect() {
        await chain.gate;
        const refuse = chain.refuseConnect ?? (facts.remote.address === '192.0.2.66' ? blocked : undefined);
        return refuse ? refusal(refuse) : ok();
      },
      async helo(name) {
        if (name === 'throw.example') throw new Error('helo hook throws');
        return step(
          'helo',
          name === 'bad.example' ? refusal({ code: 550, enhanced: '5.7.1', text: 'Bad name' }) : ok(),
        );
      },
      async auth({ username, password, mechanism }): Promise<AuthOutcome> {
        if (username === 'down') return refusal({ code: 454, enhanced: '4.7.0', text: 'Temporary failure' });
        if (password !== 'secret')
          return refusal({ code: 535, enhanced: '5.7.8', text: 'Authentication credentials invalid' });
        identity = username;
        return { kind: 'ok', identity: { name: username, mechanism } };
      },
      get takesSasl() {
        return chain.exchanges !== undefined;
      },
      async sasl({ username, mechanism, exchange }): Promise<AuthOutcome> {
        if (username === 'closed') return refusal({ code: 454, enhanced: '4.7.0', text: 'Too many failed logins' });
        if (username === 'liar') return { kind: 'ok', identity: { name: 'liar', mechanism } };
        const result = (await chain.exchanges?.judge(exchange)) ?? { kind: 'unavailable', why: 'no exchanges' };
        if (result.kind === 'unavailable')
          return refusal({ code: 454, enhanced: '4.7.0', text: 'Temporary authentication failure' }, result.why);
        if (result.kind === 'refused')
          return refusal({ code: 535, enhanced: '5.7.8', text: 'Authentication credentials invalid' }, result.why);
        identity = result.account.name;
        return { kind: 'ok', identity: { name: result.account.name, mechanism } };
      },
      async mail(_id, { sender }) {
        const local = sender?.local;
        if (local === 'throw') throw new Error('mail hook throws');
        if (local === 'spammer')
          return step('mail', refusal({ code: 550, enhanced: '5.7.1', text: 'Go\r\n250 2.0.0 away\u00e4' }));
        if (local === 'hangup') return step('mail', refusal({ code: 421, enhanced: '4.7.0', text: 'Come back later' }));
        return step('mail', ok());
      },
      async rcpt(_envelope, { address }) {
        if (address.local === 'unknown' || /[%!@]/.test(address.local))
          return step('rcpt', refusal({ code: 550, enhanced: '5.1.1', text: 'No such user' }));
        if (address.local === 'later')
          return step('rcpt', refusal({ code: 451, enhanced: '4.7.1', text: 'Greylisted, try again' }));
        const local = ['example.org', 'bench.local', ''].includes(address.domain);
        return step('rcpt', ok(local || identity !== undefined));
      },
      async message(envelope, message): Promise<MessageOutcome> {
        await chain.messageGate;
        const bytes = await wholeOf(message);
        chain.messages.push({ envelope, bytes });
        const text = bytes.toString('latin1');
        if (text.includes('EICAR'))
          return step('message', refusal({ code: 554, enhanced: '5.7.1', text: 'Virus found' }));
        if (text.includes('X-Throw')) throw new Error('message hook throws');
        if (text.includes('X-Discard')) return { kind: 'discard', plugin: 'fixture', why: 'test' };
        const { sender, recipients } = envelope;
        const kind: 'quarantine' | 'deliver' = text.includes('X-Quarantine') ? 'quarantine' : 'deliver';
        return step('message', { kind, message, sender, recipients, originals: new Map<string, string>() });
      },
      steps: () => steps,
      endTransaction: () => {
        steps = [];
      },
      end: () => {
        if (!ended) chain.live--;
        ended = true;
      },
    };
  }
}

const blocked: Reply<5> = { code: 554, enhanced: '5.7.1', text: 'Blocked' };

async function wholeOf(message: Message): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of message.open()) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

/** `full@` defers, `quota@` refuses; the rest is delivered. */
async function settle({ id, envelope }: SettleRequest): Promise<Settlement> {
  const queued: Reply<2> = { code: 250, enhanced: '2.0.0', text: `Ok: queued as ${id}` };
  const perRecipient = envelope.recipients.map(
    ({ address }): Reply =>
      address.local === 'full'
        ? { code: 452, enhanced: '4.2.2', text: 'Mailbox full' }
        : address.local === 'quota'
          ? { code: 552, enhanced: '5.2.2', text: 'Over quota' }
          : queued,
  );
  return {
    reply: perRecipient.find(reply => reply.code < 300) ?? perRecipient[0] ?? queued,
    perRecipient,
    recipients: envelope.recipients.map(({ address }, index) => ({
      address: address.text,
      outcome: (perRecipient[index]?.code ?? 250) < 300 ? 'delivered' : 'rejected',
    })),
  };
}

export interface Fixture {
  readonly server: SmtpServer;
  readonly chain: FixtureChain;
  readonly traces: TraceRecord[];
  /** Levels, objects and messages of all that was logged. */
  readonly logged: {
    readonly level: string;
    readonly event: string;
    readonly fields: Readonly<Record<string, unknown>>;
  }[];
  readonly spoolDir: string;
  spooled(): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface FixtureOptions {
  readonly listener?: Partial<SmtpListenerOptions>;
  readonly clock?: Clock;
  readonly certificate?: boolean;
  readonly settle?: (request: SettleRequest) => Promise<Settlement>;
  readonly sasl?: Omit<SaslParts, 'exchanges'>;
}

export async function startFixture(options: FixtureOptions = {}): Promise<Fixture> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-smtp-'));
  const chain = new FixtureChain();
  const traces: TraceRecord[] = [];
  const logged: Fixture['logged'] = [];
  const note =
    (level: string) =>
    (fields: Readonly<Record<string, unknown>>): void => {
      logged.push({ level, event: String(fields['event']), fields });
    };
  const log = {
    info: note('info'),
    warn: note('warn'),
    error: note('error'),
    debug: note('debug'),
  } as unknown as Logger;
  const exchanges = createPendingExchanges();
  if (options.sasl) chain.exchanges = exchanges;
  let sessions = 0;
  let messages = 0;
  const server = createSmtpServer({
    listener: {
      name: 'test',
      role: 'smtp',
      target: { host: '127.0.0.1', port: 0 },
      tls: 'none',
      maxSize: 100_000,
      ...options.listener,
    },
    hostname: 'mx.example.org',
    spoolDir: folder,
    chain: () => chain,
    settle: options.settle ?? settle,
    trace: { record: trace => void traces.push(trace) },
    log,
    clock: options.clock ?? systemClock,
    ...(options.sasl && { sasl: { ...options.sasl, exchanges } }),
    ids: { session: () => `S${++sessions}`, message: () => `Q${++messages}` },
    ...(options.certificate && {
      tls: openTls({
        certificates: [await ensureSelfSigned(path.join(folder, 'tls'), ['localhost'], systemClock)],
        clock: systemClock,
      }),
    }),
    reverseName: async () => 'client.example.net',
    flushQueue: async domain =>
      domain === 'mine.example'
        ? 'started'
        : domain === 'down.example'
          ? 'unable'
          : domain === 'empty.example'
            ? 'nothing-pending'
            : 'not-allowed',
  });
  await server.listen();
  return {
    server,
    chain,
    traces,
    logged,
    spoolDir: folder,
    spooled: async () => (await readdir(folder)).filter(name => name.endsWith('.incoming')),
    async close() {
      await server.close(0);
      await rm(folder, { recursive: true });
    },
  };
}
