// One connection's way through the chain: which stage it is in, what the plugins noted, what was recorded.
// Invariants: a transaction's annotations and signal end with it; after `end` every signal is aborted and every pending
// hook settles; at most one hook runs at a time, for the caller awaits each call.
import { Cancellation } from '../lib/cancellation.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { TraceStep } from '../mail/trace.ts';
import type { Credentials, HookName, Identity, SaslProof, Session } from '../plugin/contract.ts';
import type { Draft } from './apply-edits.ts';
import type { AuthOutcome, ChainSession, GateOutcome, MessageOutcome } from './chain.ts';
import { firstAnswer, foldGate, foldMessage, refusal, unclaimed } from './fold.ts';
import type { Stage } from './hook-context.ts';
import type { LoadedEntry } from './loaded-entry.ts';
import { Results } from './results.ts';
import { clientGone, type Decision, HookCall, type HookRunner, type StepSink, transactionOver } from './run-hook.ts';

export type HookLists = Readonly<Record<HookName, readonly LoadedEntry[]>>;

/** Steps kept of a session outside of its transactions; older ones of an endless session are dropped. */
const maxSessionSteps = 200;

export class Steps implements StepSink {
  readonly startedAt: number;
  readonly list: TraceStep[] = [];
  readonly #max: number;
  constructor(startedAt: number, max = Number.POSITIVE_INFINITY) {
    this.startedAt = startedAt;
    this.#max = max;
  }
  add(step: TraceStep): void {
    if (this.list.length >= this.#max) this.list.shift();
    this.list.push(step);
  }
}

interface Transaction {
  readonly id: string;
  readonly results: Results;
  readonly steps: Steps;
  readonly signal: Cancellation;
}

export class LiveSession implements ChainSession {
  readonly #hooks: HookLists;
  readonly #runner: HookRunner;
  readonly #onEnd: () => void;
  readonly #results = new Results();
  readonly #signal = new Cancellation();
  readonly #steps: Steps;
  #session: Session;
  #helo = '';
  #identity: Identity | undefined;
  #transaction: Transaction | undefined;
  #ended = false;

  constructor(session: Session, hooks: HookLists, runner: HookRunner, onEnd: () => void) {
    this.#session = session;
    this.#hooks = hooks;
    this.#runner = runner;
    this.#onEnd = onEnd;
    this.#steps = new Steps(runner.clock.monotonic(), maxSessionSteps);
  }

  update(session: Session, identity?: Identity | null): void {
    this.#session = session;
    if (identity !== undefined) this.#identity = identity ?? undefined;
  }

  connect(): Promise<GateOutcome> {
    return this.#gate('connect');
  }

  helo(name: string): Promise<GateOutcome> {
    this.#helo = name;
    return this.#gate('helo');
  }

  auth(offered: Credentials): Promise<AuthOutcome> {
    return this.#login('auth', offered);
  }

  get takesSasl(): boolean {
    const { auth, sasl } = this.#hooks;
    return sasl.some(entry => !entry.observe) && auth.every(entry => entry.observe || sasl.includes(entry));
  }

  sasl(offered: SaslProof): Promise<AuthOutcome> {
    return this.#login('sasl', offered);
  }

  mail(id: string, envelope: Envelope): Promise<GateOutcome> {
    this.endTransaction();
    const signal = new Cancellation();
    if (this.#ended) signal.abort(clientGone);
    const steps = new Steps(this.#runner.clock.monotonic());
    this.#transaction = { id, results: new Results(), steps, signal };
    return this.#gate('mail', envelope);
  }

  rcpt(envelope: Envelope, to: Recipient): Promise<GateOutcome> {
    return this.#gate('rcpt', envelope, to);
  }

  message(envelope: Envelope, message: Message): Promise<MessageOutcome> {
    return foldMessage(this.#hooks.message, envelope, message, (entry, draft) => {
      const { sender, recipients } = draft;
      const unchanged = draft.sender === envelope.sender && draft.recipients === envelope.recipients;
      const current = unchanged ? envelope : { ...envelope, sender, recipients };
      return this.#ask('message', entry, this.#stage(current, draft.message), undefined, draft);
    });
  }

  steps(): readonly TraceStep[] {
    return this.#transaction ? [...this.#steps.list, ...this.#transaction.steps.list] : [...this.#steps.list];
  }

  endTransaction(): void {
    this.#transaction?.signal.abort(transactionOver);
    this.#transaction = undefined;
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#transaction?.signal.abort(clientGone);
    this.#signal.abort(clientGone);
    this.#onEnd();
  }

  async #login(hook: 'auth' | 'sasl', offered: Credentials | SaslProof): Promise<AuthOutcome> {
    const stage = this.#stage();
    const { decision, failed } = await firstAnswer(this.#hooks[hook], entry => this.#ask(hook, entry, stage, offered));
    const answer = decision?.answer;
    if (answer?.kind === 'accept' && answer.identity) {
      this.#identity = answer.identity;
      return { kind: 'ok', identity: answer.identity };
    }
    const refused = (decision && refusal(decision)) ?? unclaimed(hook, failed);
    if (!refused) throw new Error(`Hook ${hook} settled without an identity`);
    return refused;
  }

  #gate(hook: HookName, envelope?: Envelope, extra?: unknown): Promise<GateOutcome> {
    const stage = this.#stage(envelope);
    return foldGate(hook, this.#hooks[hook], entry => this.#ask(hook, entry, stage, extra));
  }

  #ask(hook: HookName, entry: LoadedEntry, stage: Stage, extra: unknown, draft?: Draft): Decision | Promise<Decision> {
    const sink = stage.id === undefined ? this.#steps : (this.#transaction?.steps ?? this.#steps);
    return new HookCall(this.#runner, entry, hook, stage, sink, draft).run(extra);
  }

  #stage(envelope?: Envelope, message?: Message): Stage {
    const transaction = envelope ? this.#transaction : undefined;
    if (envelope && !transaction) throw new Error('Hook called outside of a transaction');
    return {
      session: this.#session,
      helo: this.#helo,
      identity: this.#identity,
      envelope,
      id: transaction?.id,
      message,
      sessionResults: this.#results,
      transactionResults: transaction?.results,
      parent: transaction ? transaction.signal : this.#signal,
    };
  }
}
