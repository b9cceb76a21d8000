// One client. Commands run one at a time, in order; what the client pipelines waits unread. Replies are gathered and
// written when a command ends. Invariants: a password is never asked for or accepted in plain text unless the listener
// allows it; nothing is sent between a command's updates and its tagged reply; whatever ends the session, the mailbox
// and the user's store are released once.
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import type { Account, AuthResult } from '../accounts/directory.ts';
import type { SaslContext, SaslMechanism } from '../accounts/sasl/mechanism.ts';
import { offeredMechanisms } from '../accounts/sasl/mechanisms.ts';
import { type Mailbox, MailboxError, type UserMail } from '../mailstore/mailbox.ts';
import type { Connection } from '../net/session-server.ts';
import type { Tls } from '../net/tls.ts';
import { capabilityNames } from './capabilities.ts';
import type { Anonymous, Command, Enabled, ImapService, Selected } from './command.ts';
import { Flooded, type Framed, readCommand } from './command-reader.ts';
import { commandTable } from './commands/table.ts';
import { ClientGone, Input } from './input.ts';
import { Output } from './output.ts';
import { bad, type Ending, encodeEnding, mailboxEnding, no, ok, Refusal } from './response.ts';
import { writeUpdates } from './updates.ts';
import type { View } from './view.ts';
import { WireError } from './wire/wire-error.ts';

type Why = 'logout' | 'gone' | 'idle' | 'shutdown' | 'flood' | 'failures' | 'error' | 'tls';

export class Session implements Selected, Anonymous {
  readonly service: ImapService;
  readonly log: Logger;
  readonly remote: { readonly address: string; readonly port: number };
  readonly out: Output;
  readonly input: Input;
  readonly enabled = new Set<Enabled>();
  secure: boolean;
  tag = '';
  private socket: Socket;
  private readonly allowPlaintext: boolean;
  private readonly tls: Tls | undefined;
  private readonly startedAt: number;
  private readonly notes: Record<string, unknown> = {};
  private who: { readonly account: Account; readonly mail: UserMail } | undefined;
  private open: View | undefined;
  private ending: Why | undefined;
  private readonly gone = new AbortController();
  private tlsWanted = false;
  private failures = 0;
  private badInARow = 0;
  private commands = 0;

  constructor(connection: Connection, service: ImapService) {
    const { socket } = connection;
    const { clock, limits } = service;
    this.socket = socket;
    this.service = service;
    this.allowPlaintext = connection.allowPlaintextAuth;
    this.tls = connection.startTls;
    this.log = connection.log;
    this.remote = connection.remote;
    this.secure = connection.secure;
    this.out = new Output(socket, clock, limits.stallTimeoutMs);
    this.input = new Input(socket, clock, limits.idleTimeoutMs, () => this.hangUp('idle', 'Idle for too long'));
    this.startedAt = clock.monotonic();
    // A broken connection is seen as `close` by whoever waits.
    socket.on('error', () => undefined);
    socket.once('close', () => this.gone.abort(new ClientGone('Client is gone')));
  }

  /** Until the client is gone, one way or the other. Never rejects. */
  async run(): Promise<void> {
    const before = this.service.clock.after(this.service.limits.loginTimeoutMs, () => {
      if (!this.who) this.hangUp('idle', 'Login took too long');
    });
    try {
      this.out.write(`* OK [CAPABILITY ${this.capabilities().join(' ')}] ${this.service.hostname} ready\r\n`);
      this.out.flush();
      while (!this.ending) await this.turn();
      if (this.ending === 'shutdown') this.out.untagged('BYE Server is shutting down');
    } catch (error) {
      this.endedBy(error);
    } finally {
      before();
      await this.release();
    }
  }

  /** Ends the session as soon as no command is running. */
  shutdown(): void {
    if (this.input.waiting) this.hangUp('shutdown', 'Server is shutting down');
    else this.ending ??= 'shutdown';
  }

  private async turn(): Promise<void> {
    const framed = await readCommand(this);
    this.commands += 1;
    const ending = await this.answer(framed);
    this.out.write(encodeEnding(framed.tag, ending));
    if (this.input.held === 0 || this.ending || this.tlsWanted) this.out.flush();
    await this.out.pace();
    this.countBad(ending);
    if (this.tlsWanted) await this.handshake();
  }

  private async answer(framed: Framed): Promise<Ending> {
    if (framed.kind === 'refused') return framed.ending;
    this.tag = framed.tag;
    try {
      return await this.perform(framed.command, framed.command.prepare(framed.lexer));
    } catch (error) {
      return this.endingOf(error, framed.command);
    } finally {
      await framed.dispose();
    }
  }

  private async perform(command: Command, run: (states: Session) => Promise<Ending>): Promise<Ending> {
    if (command.access === 'write' && this.open?.readOnly) return no('Mailbox is opened read-only', 'READ-ONLY');
    const ending = await run(this).catch((error: unknown) => this.endingOf(error, command));
    if (this.open && command.updates !== 'none') {
      if (command.sync === 'disk') await this.syncDisk(this.open);
      writeUpdates(this.out, this.open, this.open.advance(command.updates === 'all'));
      // RFC 7162 §3.2: what the client may note as seen ends before a removal that it was not told of yet.
      if (this.open.tellsVanished && this.open.holdsBack)
        this.out.untagged(`OK [HIGHESTMODSEQ ${this.open.safeModseq}] Highest`);
    }
    return ending;
  }

  private async syncDisk(view: View): Promise<void> {
    if (!view.mailbox.deleted) await view.mailbox.sync();
    this.checkDeleted(view);
  }

  /** RFC 2180 §3.3: a mailbox that was deleted under a session ends the session. */
  private checkDeleted(view: View): void {
    if (!view.mailbox.deleted) return;
    this.hangUp('error', 'Selected mailbox was deleted');
    throw new ClientGone('Selected mailbox was deleted');
  }

  endingOf(error: unknown, command: Command): Ending {
    if (error instanceof WireError) return bad(error.message);
    if (error instanceof Refusal) return error.ending;
    if (error instanceof ClientGone || error instanceof Flooded) throw error;
    if (error instanceof MailboxError) {
      this.log.info({ event: 'imap-refused', command: command.name, code: error.code, why: error.message }, 'refused');
      return mailboxEnding(error);
    }
    if (this.socket.destroyed) throw error;
    this.log.error({ event: 'imap-command-failed', command: command.name, err: error }, 'command failed');
    return no('Internal error', 'SERVERBUG');
  }

  private countBad(ending: Ending): void {
    this.badInARow = ending.status === 'BAD' ? this.badInARow + 1 : 0;
    if (this.badInARow >= this.service.limits.badCommands && !this.ending)
      this.hangUp('failures', 'Too many invalid commands');
  }

  // ── what the command reader asks ──

  get loggedIn(): boolean {
    return this.who !== undefined;
  }

  states(): Session {
    return this;
  }

  find(name: string): Command | Ending {
    const command = commandTable.get(name);
    if (!command) return bad('Unknown command');
    if (command.state === 'anonymous' && this.who) return bad('Already logged in');
    if ((command.state === 'authenticated' || command.state === 'selected') && !this.who) return bad('Log in first');
    if (command.state === 'selected' && !this.open) return bad('No mailbox selected');
    return command;
  }

  // ── what handlers may do: see command.ts ──

  get passwordsForbidden(): boolean {
    return !this.secure && !this.allowPlaintext;
  }

  get canStartTls(): boolean {
    return !this.secure && this.tls !== undefined;
  }

  get signal(): AbortSignal {
    return this.gone.signal;
  }

  get account(): Account {
    return this.user.account;
  }

  get mail(): UserMail {
    return this.user.mail;
  }

  get selected(): View | undefined {
    return this.open;
  }

  get view(): View {
    if (!this.open) throw new Error('No mailbox selected');
    return this.open;
  }

  capabilities(): readonly string[] {
    const { loggedIn, canStartTls, passwordsForbidden } = this;
    const mechanisms = this.mechanisms.map(mechanism => mechanism.name);
    const { limits, metadata } = this.service;
    const facts = { loggedIn, canStartTls, passwordsForbidden, mechanisms, limits };
    return capabilityNames({ ...facts, metadata: metadata !== undefined, rules: this.service.rules?.() });
  }

  logout(): void {
    this.ending = 'logout';
  }

  note(name: string, value: unknown): void {
    this.notes[name] = value;
  }

  startTls(): void {
    this.tlsWanted = true;
  }

  get sasl(): SaslContext {
    const from = { address: this.remote.address, service: 'imap' } as const;
    const { directory, verifyToken } = this.service;
    return { directory, from, successData: false, ...(verifyToken && { verifyToken }) };
  }

  get mechanisms(): readonly SaslMechanism[] {
    return offeredMechanisms(this.sasl, { plaintextAllowed: !this.passwordsForbidden });
  }

  async finishLogin(result: AuthResult, name: string, mechanism: string): Promise<Ending> {
    if (result.kind === 'unavailable') {
      this.log.warn({ event: 'imap-login-unavailable', user: name, why: result.why }, 'accounts cannot be looked up');
      return no('Accounts cannot be checked at the moment', 'UNAVAILABLE');
    }
    if (result.kind === 'refused') return this.failedLogin(name, mechanism, result.why);
    const { account } = result;
    const quota = account.quotaBytes === undefined ? {} : { quotaBytes: account.quotaBytes };
    this.who = { account, mail: await this.service.store.user(account.name, quota) };
    this.notes['user'] = account.name;
    this.notes['mechanism'] = mechanism;
    return ok('Logged in', `CAPABILITY ${this.capabilities().join(' ')}`);
  }

  private async failedLogin(name: string, mechanism: string, why: string): Promise<Ending> {
    this.failures += 1;
    this.log.info({ event: 'imap-login-failed', user: name, mechanism, why, failures: this.failures }, 'login failed');
    const { clock, limits } = this.service;
    const delayMs = limits.loginDelayMs * this.failures;
    if (delayMs > 0) await new Promise<void>(resolve => clock.after(delayMs, resolve));
    if (this.failures >= limits.loginFailures && !this.ending) {
      this.out.untagged('BYE Too many failed logins');
      this.ending = 'failures';
    }
    // RFC 3501 §11.2: not whether it was the name or the password.
    return no('Invalid name or password', 'AUTHENTICATIONFAILED');
  }

  async select(view: View | undefined): Promise<void> {
    const old = this.open;
    this.open = view;
    if (view) this.adapt(view);
    await old?.mailbox.close();
  }

  private adapt(view: View): void {
    view.tellsModseq = this.enabled.has('CONDSTORE');
    view.tellsVanished = this.enabled.has('QRESYNC');
  }

  enable(name: Enabled): void {
    if (this.enabled.has(name)) return;
    const first = !this.enabled.has('CONDSTORE');
    // RFC 7162 §3.2.3.
    this.enabled.add(name).add('CONDSTORE');
    if (!this.open) return;
    this.adapt(this.open);
    // RFC 7162 §3.1.
    if (first) this.out.untagged(`OK [HIGHESTMODSEQ ${this.open.safeModseq}] Highest`);
  }

  async tellChanges(look: 'disk' | 'memory'): Promise<void> {
    if (!this.open) return;
    if (look === 'disk') await this.syncDisk(this.open);
    this.checkDeleted(this.open);
    writeUpdates(this.out, this.open, this.open.advance(true));
    this.out.flush();
  }

  async withMailbox<T>(name: string, work: (mailbox: Mailbox) => Promise<T>): Promise<T> {
    const mailbox = await this.mail.open(name);
    try {
      return await work(mailbox);
    } finally {
      await mailbox.close();
    }
  }

  // ── beginning and end ──

  private get user(): { readonly account: Account; readonly mail: UserMail } {
    if (!this.who) throw new Error('Not logged in');
    return this.who;
  }

  private async handshake(): Promise<void> {
    this.tlsWanted = false;
    const tls = this.tls;
    if (!tls) throw new Error('No TLS for STARTTLS');
    // What the client sent behind STARTTLS in plain text is dropped here (RFC 3501 §6.2.1, §11.1).
    const plain = this.input.detach();
    let secure: TLSSocket;
    try {
      secure = await tls.accept(plain, this.service.limits.tlsHandshakeMs);
    } catch (error) {
      this.ending = 'tls';
      this.log.info({ event: 'imap-tls-failed', why: (error as Error).message }, 'TLS handshake failed');
      throw new ClientGone('TLS handshake failed', { cause: error });
    }
    secure.on('error', () => undefined);
    this.socket = secure;
    this.secure = true;
    this.out.moveTo(secure);
    this.input.moveTo(secure);
  }

  /** Says BYE and closes, whatever is going on. */
  private hangUp(why: Why, text: string): void {
    this.ending ??= why;
    this.out.untagged(`BYE ${text}`);
    this.out.end();
    this.input.abort();
  }

  private endedBy(error: unknown): void {
    if (error instanceof Flooded) {
      this.ending = 'flood';
      this.out.untagged('BYE Too much data');
    } else if (error instanceof ClientGone || this.socket.destroyed) this.ending ??= 'gone';
    else {
      this.ending = 'error';
      this.log.error({ event: 'imap-session-failed', err: error }, 'session failed');
      this.out.untagged('BYE Internal error');
    }
  }

  private async release(): Promise<void> {
    this.out.end();
    try {
      await this.open?.mailbox.close();
    } catch (error) {
      this.log.warn({ event: 'imap-close-failed', err: error }, 'mailbox did not close well');
    }
    this.who?.mail.release();
    const { commands, out, input, startedAt } = this;
    const ms = Math.round(this.service.clock.monotonic() - startedAt);
    this.log.info(
      { event: 'imap-session', ...this.notes, ended: this.ending, commands, in: input.bytes, out: out.bytes, ms },
      'session ended',
    );
    this.destroyLater();
  }

  /** A client that never closes its side does not keep the socket. */
  private destroyLater(): void {
    const { socket } = this;
    if (socket.destroyed) return;
    const cancel = this.service.clock.after(5000, () => socket.destroy());
    socket.once('close', cancel);
    socket.resume();
  }
}
