// One POP3 session (RFC 1939): reads a command, looks it up, runs it, until QUIT or the end of the connection. Invariants:
// - Messages are removed by QUIT alone; a lost connection, a timeout or a shutdown removes nothing (RFC 1939 §6).
// - A reply that cannot be completed is never ended properly: the connection is cut, so that the client does not take a
//   part of a message for the whole.
// - What the client hears names no path, no host and no reason of the store.
import type { Logger } from 'pino';
import type { Account, AuthOrigin } from '../accounts/directory.ts';
import type { SaslMechanism } from '../accounts/sasl/mechanism.ts';
import { offeredMechanisms } from '../accounts/sasl/mechanisms.ts';
import type { LineConnection } from '../net/line-server.ts';
import { type LineSession, LineTooLong, SessionEnd } from '../net/line-session.ts';
import type { Tls } from '../net/tls.ts';
import type { Pop3Service, Pop3State, ResponseCode, SessionView } from './command.ts';
import { commandTable } from './command-table.ts';
import { maxAuthBytes, maxCommandBytes } from './limits.ts';
import { Maildrop } from './maildrop.ts';

type Next = 'go-on' | 'start-tls' | 'end';

export class Pop3Session implements SessionView {
  readonly service: Pop3Service;
  readonly lines: LineSession;
  readonly log: Logger;
  readonly from: AuthOrigin;
  pendingUser: string | undefined;
  readonly #startTls: Tls | undefined;
  readonly #allowPlaintext: boolean;
  #maildrop: Maildrop | undefined;
  #utf8 = false;
  #next: Next = 'go-on';
  #failures = 0;
  #badCommands = 0;
  #commands = 0;
  #replied = false;

  constructor(connection: LineConnection, service: Pop3Service) {
    this.service = service;
    this.lines = connection.session;
    this.log = connection.log;
    this.from = { address: connection.remote.address, service: 'pop3' };
    this.#startTls = connection.startTls;
    this.#allowPlaintext = connection.allowPlaintextAuth;
  }

  get state(): Pop3State {
    return this.#maildrop === undefined ? 'authorization' : 'transaction';
  }
  get maildrop(): Maildrop {
    if (this.#maildrop === undefined) throw new Error('Nobody is logged in');
    return this.#maildrop;
  }
  get canStartTls(): boolean {
    return this.#startTls !== undefined && !this.lines.secure && this.state === 'authorization';
  }
  get plaintextAllowed(): boolean {
    return this.lines.secure || this.#allowPlaintext;
  }
  get mechanisms(): readonly SaslMechanism[] {
    return offeredMechanisms(this.service, { plaintextAllowed: this.plaintextAllowed });
  }
  get utf8(): boolean {
    return this.#utf8;
  }

  enableUtf8(): void {
    this.#utf8 = true;
  }
  startTls(): void {
    this.#next = 'start-tls';
  }
  end(): void {
    this.#next = 'end';
  }
  ok(text: string): void {
    this.lines.write(`+OK ${text}\r\n`);
    this.#replied = true;
  }
  err(text: string, code?: ResponseCode): void {
    this.lines.write(code === undefined ? `-ERR ${text}\r\n` : `-ERR [${code}] ${text}\r\n`);
  }

  refuseLogin(code: ResponseCode, username: string | undefined, why: string): void {
    this.log.info({ event: 'pop3-login-failed', user: username, why }, 'login failed');
    this.err(code === 'AUTH' ? 'Name or password is wrong' : 'Login is not possible now, try again later', code);
    this.#failures += 1;
    if (this.#failures >= this.service.limits.maxFailures) this.end();
  }

  async logIn(account: Account): Promise<void> {
    const { name } = account;
    const { locks, options, logins } = this.service;
    if (!logins.admit(name)) return this.err('Too soon after the last login', 'LOGIN-DELAY');
    if (options.lock === 'session' && locks.has(name)) return this.err('Maildrop is open in another session', 'IN-USE');
    const unlock = (): void => void (options.lock === 'session' && locks.delete(name));
    if (options.lock === 'session') locks.add(name);
    try {
      this.#maildrop = await this.#open(account, unlock);
    } catch (error) {
      unlock();
      this.log.error({ event: 'pop3-open', user: name, err: error }, 'maildrop cannot be opened');
      return this.err('Maildrop cannot be opened now', 'SYS/TEMP');
    }
    this.lines.setIdle(this.service.limits.idleMs);
    const { count, octets } = this.#maildrop.total();
    this.ok(`${count} messages (${octets} octets)`);
  }

  async #open(account: Account, unlock: () => void): Promise<Maildrop> {
    const { store, options } = this.service;
    const { name: user, quotaBytes } = account;
    const mail = await store.user(user, quotaBytes === undefined ? {} : { quotaBytes });
    try {
      const mailbox = await mail.open('INBOX');
      try {
        await mailbox.sync();
      } catch (error) {
        await mailbox.close();
        throw error;
      }
      return new Maildrop({ user, mail, mailbox, uidl: options.uidl, markSeen: options.markSeen, unlock });
    } catch (error) {
      mail.release();
      throw error;
    }
  }

  /** Until the end of the session. Never rejects. */
  async run(): Promise<void> {
    const startedAt = this.service.clock.monotonic();
    let why = 'quit';
    try {
      this.ok(`${this.service.hostname} POP3 ready`);
      while (this.#next !== 'end') await this.#turn();
    } catch (error) {
      why = error instanceof SessionEnd ? error.reason : 'error';
      if (why === 'error') this.log.error({ event: 'pop3-session', err: error }, 'session failed');
      // RFC 1939 §3: a client that was silent too long hears nothing.
      if (why === 'shutdown') this.err('Server is going down, try again later', 'SYS/TEMP');
    }
    await this.#finish(why === 'error');
    this.log.info(
      {
        event: 'pop3-session-end',
        why,
        user: this.#maildrop?.user,
        tls: this.lines.secure,
        retrieved: this.#maildrop?.retrieved,
        deleted: why === 'quit' ? this.#maildrop?.deleted : 0,
        bytesIn: this.lines.bytesIn,
        bytesOut: this.lines.bytesOut,
        ms: Math.round(this.service.clock.monotonic() - startedAt),
      },
      'session ended',
    );
  }

  /** The maildrop first: who hears the last reply may open it again at once. */
  async #finish(cut: boolean): Promise<void> {
    if (cut) this.lines.destroy();
    await this.#maildrop?.close().catch((error: unknown) => {
      this.log.error({ event: 'pop3-close', err: error }, 'maildrop could not be closed');
    });
    if (!cut) await this.lines.close();
  }

  async #turn(): Promise<void> {
    this.#replied = false;
    try {
      await this.#command((await this.lines.readLine(maxAuthBytes)).toString('utf8'));
    } catch (error) {
      if (!(error instanceof LineTooLong)) throw error;
      this.#bad('Line is too long');
    }
    if (this.#next === 'start-tls' && this.#startTls !== undefined) {
      this.#next = 'go-on';
      await this.lines.startTls(this.#startTls, this.service.limits.handshakeMs).catch((error: unknown) => {
        this.log.info({ event: 'pop3-tls', err: error }, 'TLS handshake failed');
        throw new SessionEnd('gone');
      });
    }
  }

  async #command(line: string): Promise<void> {
    const space = line.indexOf(' ');
    const name = (space < 0 ? line : line.slice(0, space)).toUpperCase();
    const command = commandTable.get(name);
    if (command === undefined) return this.#bad('Unknown command');
    if (line.length > maxCommandBytes && name !== 'AUTH') return this.#bad('Line is too long');
    if (this.state === 'authorization' && ++this.#commands > this.service.limits.maxCommandsBeforeLogin) {
      this.end();
      return this.err('Too many commands');
    }
    if (!command.states.includes(this.state))
      return this.#bad(this.state === 'authorization' ? 'Log in first' : 'Not possible after login');
    await command.run(this, space < 0 ? '' : line.slice(space + 1));
    if (this.#replied) this.#badCommands = 0;
  }

  #bad(text: string): void {
    this.#badCommands += 1;
    this.err(text);
    if (this.#badCommands < this.service.limits.maxBadCommands) return;
    this.end();
  }
}
