// One SMTP or LMTP session: its state, its replies, its limits. Commands come by `dispatch.ts`; the socket is behind
// `Client`, the bytes behind `SmtpInput`, the decisions behind `ChainSession`.
//
// Invariants: one command works at a time; every command gets its reply, in order; a throw anywhere becomes 451 and never
// reaches the library; every transaction that was begun is recorded once; after `gone` nothing is written.

import type { Logger } from 'pino';
import type { Reply } from '../mail/reply.ts';
import type { ChainSession, GateOutcome } from '../pipeline/chain.ts';
import type { Identity, Session } from '../plugin/contract.ts';
import { greetingRefusal } from './greeting-refusal.ts';
import type { Done, InputHandler, SmtpInput } from './input.ts';
import type { Client, SessionContext } from './session-context.ts';
import type { TransactionEnd } from './transaction.ts';
import { Transaction } from './transaction.ts';

/** RFC 5321 §4.5.3.1.4 says 512; extensions add parameters, and long addresses exist. */
export const maxCommandLine = 4096;
/** RFC 4954 §4 */
export const maxAuthLine = 12_288;
/** How long data may come slowly before `minDataRate` counts. */
const rateGraceMs = 60_000;

const clientGone = new Error('The client is gone');

/** Finds the command of a line and runs it; one for all sessions. */
export type Dispatch = (session: SmtpSession, line: Buffer) => Done;

export class SmtpSession implements InputHandler {
  readonly id: string;
  readonly context: SessionContext;
  readonly client: Client;
  readonly chain: ChainSession;
  readonly log: Logger;
  facts: Session;
  /** The other end of the connection, or what PROXY told; never what XCLIENT told. */
  readonly peerAddress: string;
  input: SmtpInput;
  /** What the client called itself; '' before that. */
  helo = '';
  greetedBy: 'HELO' | 'EHLO' | 'LHLO' | undefined;
  identity: Identity | undefined;
  transaction: Transaction | undefined;
  /** The next line is not a command but part of an AUTH exchange. */
  continuation: ((line: string) => Done) | undefined;
  /** Longest command line, in bytes. */
  maxLine = maxCommandLine;
  authFailures = 0;
  messages = 0;
  /** Since the last message; see `limits`. */
  idleCommands = 0;
  unknownCommands = 0;
  private lifetime: AbortController | undefined;
  private out = '';
  private over = false;
  private stopping = false;
  private working = false;
  private errors = 0;
  private transactions = 0;
  private acceptedRecipients = 0;
  private readonly dispatch: Dispatch;
  private readonly startedAt: number;
  private lastInputAt: number;
  private bodyStartedAt = 0;
  private bodyBytes = 0;
  private ending = 'client left';
  private lastRefusal = '';

  constructor(
    context: SessionContext,
    client: Client,
    input: (handler: InputHandler) => SmtpInput,
    dispatch: Dispatch,
    facts: Session,
  ) {
    this.context = context;
    this.dispatch = dispatch;
    this.client = client;
    this.id = facts.id;
    this.facts = facts;
    this.peerAddress = facts.remote.address;
    this.log = context.log;
    this.startedAt = context.clock.monotonic();
    this.lastInputAt = this.startedAt;
    this.chain = context.chain().openSession(facts);
    this.input = input(this);
  }

  // ---- life

  /** Runs the connect hook and greets. */
  async greet(): Promise<void> {
    this.working = true;
    try {
      await this.introduce();
    } catch (error) {
      if (this.over) return;
      this.failed(error, 'connect');
      this.reply(421, '4.3.0', 'Service not available');
      this.close('error');
    }
    this.working = false;
    this.flush();
    if (this.over) return;
    this.lastInputAt = this.context.clock.monotonic();
    this.input.release();
  }

  private async introduce(): Promise<void> {
    const { listener, reverseName } = this.context;
    const early = listener.greetDelayMs > 0 ? this.pause(listener.greetDelayMs) : undefined;
    if (listener.lookupReverseName && reverseName) {
      const name = await reverseName(this.facts.remote.address);
      if (name !== undefined) this.changeFacts({ remote: { ...this.facts.remote, name } });
    }
    const outcome = await this.chain.connect();
    if (early && !this.over) await early;
    if (this.over) return;
    if (outcome.kind === 'refused') {
      this.recordRefusedSession('connect', outcome);
      this.sayReply(greetingRefusal(outcome.reply));
      this.close('refused');
    } else if (this.input.waitingBytes > 0) {
      // RFC 5321 §4.3.1: a client waits for the greeting; a partial line is as early as a whole one.
      this.reply(554, '5.5.1', 'Protocol error: talked before the greeting');
      this.close('early talker');
    } else if (this.stopping) {
      this.reply(421, '4.3.2', 'Service is stopping, try again later');
      this.close('stopped');
    } else this.sayGreeting();
  }

  /** RFC 5321 §4.2: no enhanced code. Capitals for old clients that look for `ESMTP`. */
  sayGreeting(): void {
    const { listener, hostname } = this.context;
    const protocol = listener.role === 'lmtp' ? 'LMTP' : 'ESMTP';
    this.write(`220 ${hostname} ${protocol}${listener.banner === '' ? '' : ` ${listener.banner}`}\r\n`);
  }

  /** Resolves early when the client is gone. */
  pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const { signal } = this;
      const finish = (): void => {
        cancel();
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const cancel = this.context.clock.after(ms, finish);
      signal.addEventListener('abort', finish);
    });
  }

  /** `identity` replaces who is authenticated; null = nobody. */
  changeFacts(changes: Partial<Session>, identity?: Identity | null): void {
    this.facts = { ...this.facts, ...changes };
    if (identity !== undefined) this.identity = identity ?? undefined;
    this.chain.update(this.facts, identity);
  }

  /** The 220 is said; what waits behind it in plain text is dropped (RFC 3207 §5). */
  startTls(): void {
    this.flush();
    this.working = true;
    this.client.startTls();
  }

  /** RFC 3207 §4.2: all that the client said in plain text is forgotten. */
  secured(tls: NonNullable<Session['tls']>, input: SmtpInput): void {
    this.input = input;
    this.helo = '';
    this.greetedBy = undefined;
    this.maxLine = maxCommandLine;
    this.working = false;
    this.lastInputAt = this.context.clock.monotonic();
    this.changeFacts({ tls }, null);
    this.input.release();
  }

  /** Hangs up once the replies are out. */
  close(ending: string): void {
    if (this.over) return;
    this.ending = ending;
    this.flush();
    this.client.hangUp(ending === 'quit');
    this.finish();
  }

  /** The socket is closed, by whomever. */
  gone(): void {
    this.finish();
  }

  private finish(): void {
    if (this.over) return;
    this.over = true;
    this.out = '';
    // A reason of our own: the default one costs a stack trace.
    this.lifetime?.abort(clientGone);
    // A transaction whose command still works records its own end.
    if (this.transaction && !this.transaction.deciding) this.abortTransaction();
    this.input.close();
    this.chain.end();
    this.summary();
  }

  /** Aborts when the client is gone or the session over. Made when first asked for: most sessions never need one. */
  get signal(): AbortSignal {
    this.lifetime ??= new AbortController();
    if (this.over) this.lifetime.abort(clientGone);
    return this.lifetime.signal;
  }

  get isOver(): boolean {
    return this.over;
  }

  /** Graceful stop: an idle session hears 421 now, a busy one after its transaction. */
  stop(): void {
    this.stopping = true;
    if (!this.working && !this.transaction) this.sayStopping();
  }

  private sayStopping(): void {
    this.reply(421, '4.3.2', 'Service is stopping, try again later');
    this.close('stopped');
  }

  /** Called every second by the server. */
  checkTime(now: number): void {
    if (this.over || this.working) return;
    const { idleTimeoutMs, sessionLifetimeMs, minDataRate } = this.context.limits;
    const inBody = this.input.inBody;
    const slowFor = inBody ? now - this.bodyStartedAt : 0;
    const tooSlow = minDataRate > 0 && slowFor > rateGraceMs && (this.bodyBytes * 1000) / slowFor < minDataRate;
    if (now - this.lastInputAt < idleTimeoutMs && now - this.startedAt < sessionLifetimeMs && !tooSlow) return;
    // RFC 5321 §3.8: a server may give up a connection that timed out, with 421.
    this.reply(421, '4.4.2', tooSlow ? 'Data comes too slowly' : 'Timeout, closing the connection');
    this.close('timeout');
  }

  // ---- input

  sawInput(bytes: number): void {
    this.lastInputAt = this.context.clock.monotonic();
    if (this.input.inBody) this.bodyBytes += bytes;
  }

  bodyStarts(): void {
    this.bodyStartedAt = this.context.clock.monotonic();
    this.bodyBytes = 0;
  }

  line(line: Buffer): Done {
    const run = this.dispatch(this, line);
    if (!run) return undefined;
    this.working = true;
    return this.guarded(run);
  }

  /** For work that is begun by something else than a line: the end of a body. */
  guarded(run: Promise<void>): Promise<void> {
    this.working = true;
    return run
      .catch((error: unknown) => {
        if (this.over) return;
        this.failed(error, 'command');
        // Whatever the transaction was, it is not complete: the client tries again (invariant I3).
        this.reply(451, '4.3.0', 'Local error, try again later');
        this.endTransaction({ outcome: 'deferred', reply: '451 4.3.0 Local error, try again later' });
      })
      .then(() => {
        this.working = false;
      });
  }

  lineTooLong(): void {
    // RFC 5321 §4.5.3.1.9, RFC 4954 §4
    const inAuth = this.continuation !== undefined;
    this.continuation = undefined;
    this.input.maxLine = this.maxLine;
    this.error(500, inAuth ? '5.5.6' : '5.5.2', 'Line too long');
  }

  drained(): Done {
    if (this.stopping && !this.transaction && !this.over && !this.continuation) this.sayStopping();
    return this.flush();
  }

  waiting(): void {
    if (this.out !== '') setImmediate(() => this.flush());
  }

  // ---- replies

  reply(code: number, enhanced: string, text: string): void {
    this.write(`${code} ${enhanced} ${text}\r\n`);
  }

  /** Text as it is, lines with CRLF. */
  write(text: string): void {
    if (!this.over) this.out += text;
  }

  /** A reply made elsewhere, by a plugin: one line of ASCII whatever it holds. */
  sayReply(reply: Reply): void {
    this.write(`${replyText(reply)}\r\n`);
    if (reply.close || reply.code === 421 || reply.code === 521) this.close('refused');
  }

  /** A reply that counts against the client. */
  error(code: number, enhanced: string, text: string): void {
    this.reply(code, enhanced, text);
    this.countError();
  }

  /** A refusal of the chain. */
  refuse(reply: Reply): void {
    this.sayReply(reply);
    this.countError();
  }

  countError(): void {
    if (++this.errors >= this.context.limits.errors && !this.over) this.drop('4.7.0', 'Too many errors');
  }

  /** Hangs up on a client that misbehaves. */
  drop(enhanced: string, text: string): void {
    this.reply(421, enhanced, text);
    this.close(text.toLowerCase());
  }

  flush(): Done {
    if (this.out === '' || this.over) return undefined;
    const text = this.out;
    this.out = '';
    return this.client.write(text);
  }

  // ---- transactions

  begin(transaction: Transaction): void {
    this.transaction = transaction;
    this.transactions++;
  }

  get transactionCount(): number {
    return this.transactions;
  }

  /** RSET, a new EHLO, STARTTLS, the client left. */
  abortTransaction(): void {
    const { transaction } = this;
    if (!transaction) return;
    this.endTransaction(transaction.unfinished());
  }

  /** MAIL was refused: there is no transaction. */
  endRefused(reply: Reply<4> | Reply<5>): void {
    this.endTransaction({ outcome: reply.code < 500 ? 'deferred' : 'rejected', reply: replyText(reply) });
    this.refuse(reply);
  }

  /** Records the transaction and forgets it. */
  endTransaction(end: TransactionEnd): void {
    const { transaction } = this;
    if (!transaction) return;
    this.transaction = undefined;
    transaction.record(this, end);
    this.chain.endTransaction();
    transaction.dispose();
    this.lastRefusal = end.outcome === 'accepted' ? this.lastRefusal : end.reply;
    if (end.outcome === 'accepted' || end.outcome === 'quarantined' || end.outcome === 'discarded') {
      this.messages++;
      this.acceptedRecipients += transaction.envelope.recipients.length;
      this.errors = 0;
      this.idleCommands = 0;
    }
  }

  /** A client that was turned away before it named a sender leaves a record too. */
  recordRefusedSession(hook: string, outcome: Extract<GateOutcome, { kind: 'refused' }>): void {
    this.lastRefusal = `${hook}: ${outcome.why}`;
    const transaction = new Transaction(this.context.ids.message(), this.context.clock, {
      sender: null,
      recipients: [],
      smtputf8: false,
      requireTls: false,
    });
    transaction.record(this, {
      outcome: outcome.reply.code < 500 ? 'deferred' : 'rejected',
      reply: replyText(outcome.reply),
    });
  }

  failed(error: unknown, what: string): void {
    this.log.error({ event: 'smtp-error', session: this.id, what, err: error }, 'SMTP session failed');
  }

  private summary(): void {
    const { facts } = this;
    this.log.info(
      {
        event: 'smtp-session',
        session: this.id,
        listener: facts.listener,
        client: facts.remote.address,
        helo: this.helo,
        tls: facts.tls?.version,
        user: this.identity?.name,
        transactions: this.transactions,
        messages: this.messages,
        recipients: this.acceptedRecipients,
        errors: this.errors,
        refused: this.lastRefusal === '' ? undefined : this.lastRefusal,
        end: this.ending,
        ms: Math.round(this.context.clock.monotonic() - this.startedAt),
      },
      'session ended',
    );
  }
}

/** The line as it travels; what a plugin put into the text cannot end it or leave ASCII. */
export function replyText(reply: Reply): string {
  return `${reply.code} ${reply.enhanced} ${reply.text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 480)}`;
}
