// Fetches the mail of one account at another provider and gives it to the chain. Order for each message: read it, run
// the chain, commit message and memory in one, and only then remove it there. A crash at any instant costs a second
// download at most, never a message and never a duplicate. Failures make the wait longer, up to a limit.
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import type { Address } from '../mail/address.ts';
import { formatDate } from '../mail/date.ts';
import { editHeaders, renderField } from '../mail/header-edit.ts';
import { readMessage, withHeaders } from '../mail/message.ts';
import { replies } from '../mail/reply.ts';
import { canonicalLineEnds } from './canonical.ts';
import { clientOf, type Multidrop, recipientOf, senderOf } from './fetched-envelope.ts';
import type { IntakeMemory, Taken } from './memory.ts';
import type { Inject, IntakeResult } from './ports.ts';
import { LoginRefusedError, type RemoteMailbox, type RemoteMessage } from './remote-mailbox.ts';
import { spoolMessage } from './spool.ts';

export interface PollerOptions {
  readonly name: string;
  /** For the trace field: `POP3S`, `IMAP` … */
  readonly protocol: string;
  readonly host: string;
  /** Who gets the mail where no other recipient is known. */
  readonly recipient: Address;
  readonly multidrop?: Multidrop;
  /** Public hops of the provider in the Received fields. */
  readonly skipHops: number;
  readonly delete: boolean;
  /** ms that a message stays there after it was taken. */
  readonly keepMs: number;
  readonly refused: 'leave' | 'delete';
  readonly intervalMs: number;
  readonly maxIntervalMs: number;
  readonly maxMessages: number;
  readonly maxSize: number;
}

export interface PollerParts {
  readonly options: PollerOptions;
  open(signal: AbortSignal): Promise<RemoteMailbox>;
  readonly memory: IntakeMemory;
  readonly inject: Inject;
  readonly hostname: string;
  /** Name of a spool file. */
  readonly spoolFile: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random?: () => number;
}

export interface PollerStatus {
  readonly name: string;
  readonly host: string;
  readonly taken: number;
  readonly refused: number;
  /** ms since the epoch. */
  readonly lastOkAt?: number;
  readonly nextAt?: number;
  readonly failures: number;
  readonly error?: string;
}

export interface Poller {
  /** Now; resolves when it is done. Rejects with what went wrong. */
  poll(): Promise<{ readonly taken: number; readonly refused: number }>;
  status(): PollerStatus;
  close(): Promise<void>;
}

/** A message that the provider lists no more may come back (a restored mailbox), so it is remembered for so long. */
const forgetAfterMs = 90 * 86_400_000;

/** RFC 3463 §3.2: of the recipient, not of the sender. */
const unknownRecipient = /^5\.1\.(?:1|2|3|6|10)$/;

interface Round {
  readonly box: RemoteMailbox;
  taken: number;
  refused: number;
  deferred: number;
  /** Why the first of them was. */
  why: string;
}

export function createPoller(parts: PollerParts): Poller {
  const { options, memory, clock, log } = parts;
  const source = `fetch:${options.name}`;
  const random = parts.random ?? Math.random;
  const stop = new AbortController();
  let state: PollerStatus = { name: options.name, host: options.host, taken: 0, refused: 0, failures: 0 };
  let running: Promise<{ readonly taken: number; readonly refused: number }> | undefined;
  let cancelNext = (): void => undefined;

  const traceField = (id: string, to: Address): Buffer =>
    renderField(
      'Received',
      `from ${options.host} (account ${options.name})\r\n\tby ${parts.hostname} with ${options.protocol} id ${id}\r\n\tfor <${to.text}>;\r\n\t${formatDate(clock.now())}`,
    );

  async function give(message: RemoteMessage, box: RemoteMailbox): Promise<IntakeResult> {
    const spooled = await spoolMessage(canonicalLineEnds(box.read(message)), parts.spoolFile);
    try {
      const whole = await readMessage(spooled.rope);
      const noted = options.multidrop ? recipientOf(whole.headers, options.multidrop) : undefined;
      // The provider's Return-Path has become the envelope again (RFC 5321 §4.4).
      const bare = whole.headers.has('return-path')
        ? withHeaders(whole, editHeaders(whole.headers, [{ kind: 'remove-header', name: 'Return-Path' }]))
        : whole;
      const to = (address: Address) =>
        parts.inject({
          origin: source,
          role: 'smtp',
          client: clientOf(whole.headers, options.skipHops),
          envelope: { sender: senderOf(whole.headers), recipients: [{ address }] },
          trace: id => traceField(id, address),
          message: bare.rope,
          receivedAt: clock.now(),
          refusals: 'tell',
          also: as => [memory.note(source, message.uid, clock.now(), as)],
        });
      const result = await to(noted ?? options.recipient);
      if (result.kind !== 'refused' || !unknownRecipient.test(result.reply.enhanced)) return result;
      // The provider took an address that nobody has here: the mail is there all the same.
      if (noted) return to(options.recipient);
      // Our own mistake, which is no reason to refuse a message: it waits until that is mended.
      const { id, why } = result;
      return { kind: 'deferred', id, why: `'${options.recipient.text}': ${why}`, reply: replies.tryLater };
    } finally {
      await spooled.dispose();
    }
  }

  async function refuse(message: RemoteMessage, why: string): Promise<void> {
    log.warn({ event: 'fetch-refused', account: options.name, uid: message.uid, why }, 'Fetched mail was refused');
    await memory.write([memory.note(source, message.uid, clock.now(), 'refused')]);
  }

  /** Nothing is removed that is not durable here, or refused for good where that is wanted. */
  const mayGo = (known: Taken, now: number): boolean => {
    if (known.as === 'refused' && options.refused === 'leave') return false;
    return options.delete && now - known.at >= options.keepMs;
  };

  async function handle(round: Round, message: RemoteMessage): Promise<void> {
    if (message.size > options.maxSize) {
      await refuse(message, `${message.size} bytes are more than message.maxSize`);
      round.refused += 1;
      return;
    }
    const result = await give(message, round.box);
    if (result.kind === 'deferred') {
      round.deferred += 1;
      round.why ||= result.why;
      log.warn(
        { event: 'fetch-deferred', account: options.name, uid: message.uid, why: result.why },
        'Fetched mail was deferred',
      );
      return;
    }
    if (result.kind === 'refused') {
      await refuse(message, result.why);
      round.refused += 1;
    } else round.taken += 1;
    const known: Taken = { at: clock.now(), as: result.kind === 'taken' ? 'taken' : 'refused' };
    if (mayGo(known, clock.now())) await round.box.remove(message);
  }

  async function run(): Promise<{ readonly taken: number; readonly refused: number }> {
    const box = await parts.open(stop.signal);
    const round: Round = { box, taken: 0, refused: 0, deferred: 0, why: '' };
    try {
      const listed = await box.list();
      const known = await memory.of(source);
      const now = clock.now();
      let fresh = 0;
      for (const message of listed) {
        if (stop.signal.aborted) break;
        const before = known.get(message.uid);
        if (before) {
          if (mayGo(before, now)) await box.remove(message);
        } else if (!message.deleted && fresh++ < options.maxMessages) await handle(round, message);
      }
      await box.quit();
      const present = new Set(listed.map(({ uid }) => uid));
      const old = [...known].filter(([uid, { at }]) => !present.has(uid) && now - at > forgetAfterMs);
      await memory.forget(
        source,
        old.map(([uid]) => uid),
      );
      if (round.deferred > 0) throw new Error(`${round.deferred} messages cannot be taken now: ${round.why}`);
      return round;
    } finally {
      state = { ...state, taken: state.taken + round.taken, refused: state.refused + round.refused };
      box.close();
    }
  }

  function schedule(waitMs: number): void {
    cancelNext();
    if (stop.signal.aborted) return;
    state = { ...state, nextAt: clock.now() + waitMs };
    cancelNext = clock.after(waitMs, () => void poll().catch(() => undefined));
  }

  function failed(error: Error): void {
    const failures = state.failures + 1;
    state = { ...state, failures, error: error.message };
    const waitMs = Math.min(options.intervalMs * 2 ** Math.min(failures, 10), options.maxIntervalMs);
    // A password that is wrong does not become right: asking often gets accounts locked.
    schedule(error instanceof LoginRefusedError ? options.maxIntervalMs : waitMs * (0.9 + random() * 0.2));
    const details = { event: 'fetch-failed', account: options.name, host: options.host, why: error.message };
    log[failures === 1 || failures % 12 === 0 ? 'warn' : 'info'](details, 'Mail could not be fetched');
  }

  async function once(): Promise<{ readonly taken: number; readonly refused: number }> {
    try {
      const round = await run();
      const { error: _over, ...rest } = state;
      state = { ...rest, failures: 0, lastOkAt: clock.now() };
      schedule(options.intervalMs);
      if (round.taken + round.refused > 0)
        log.info(
          { event: 'fetched', account: options.name, taken: round.taken, refused: round.refused },
          'Mail fetched',
        );
      return { taken: round.taken, refused: round.refused };
    } catch (error) {
      if (stop.signal.aborted) return { taken: 0, refused: 0 };
      failed(error as Error);
      throw error;
    }
  }

  function poll(): Promise<{ readonly taken: number; readonly refused: number }> {
    running ??= once().finally(() => {
      running = undefined;
    });
    return running;
  }

  schedule(Math.min(options.intervalMs, 1_000));
  return {
    poll,
    status: () => state,
    async close() {
      stop.abort(new Error('The gateway stops'));
      cancelNext();
      await running?.catch(() => undefined);
    },
  };
}
