// One ManageSieve session (RFC 5804): reads a command with its literals, checks its arguments by the table, runs it.
// A script that cannot be stored whole changes nothing; what the client hears names no path and no reason of the store.
import type { Logger } from 'pino';
import type { Account, AuthOrigin } from '../accounts/directory.ts';
import { decodeUtf8, type SaslMechanism } from '../accounts/sasl/mechanism.ts';
import { offeredMechanisms } from '../accounts/sasl/mechanisms.ts';
import type { LineConnection } from '../net/line-server.ts';
import { type LineSession, LineTooLong, SessionEnd } from '../net/line-session.ts';
import type { Tls } from '../net/tls.ts';
import { ScriptError } from '../sieve/script-store.ts';
import type { Argument, Command, ManageSieveService, ResponseCode, SessionView } from './command.ts';
import { readCommand } from './command-reader.ts';
import { commandTable } from './command-table.ts';
import { describeDiagnostics } from './commands/script-commands.ts';
import { maxLineBytes } from './limits.ts';
import { stringOut, type Word } from './wire.ts';

const codeOf: Readonly<Partial<Record<ScriptError['code'], ResponseCode>>> = {
  nonexistent: 'NONEXISTENT',
  alreadyexists: 'ALREADYEXISTS',
  active: 'ACTIVE',
  maxscripts: 'QUOTA/MAXSCRIPTS',
  maxsize: 'QUOTA/MAXSIZE',
};

export class ManageSieveSession implements SessionView {
  readonly service: ManageSieveService;
  readonly lines: LineSession;
  readonly log: Logger;
  readonly from: AuthOrigin;
  readonly #startTls: Tls | undefined;
  readonly #allowPlaintext: boolean;
  #user: string | undefined;
  #next: 'go-on' | 'start-tls' | 'end' = 'go-on';
  #failures = 0;
  #badCommands = 0;
  #commands = 0;

  constructor(connection: LineConnection, service: ManageSieveService) {
    this.service = service;
    this.lines = connection.session;
    this.log = connection.log;
    this.from = { address: connection.remote.address, service: 'managesieve' };
    this.#startTls = connection.startTls;
    this.#allowPlaintext = connection.allowPlaintextAuth;
  }

  get user(): string {
    if (this.#user === undefined) throw new Error('Nobody is logged in');
    return this.#user;
  }
  get authenticated(): boolean {
    return this.#user !== undefined;
  }
  get canStartTls(): boolean {
    return this.#startTls !== undefined && !this.lines.secure && !this.authenticated;
  }
  get plaintextAllowed(): boolean {
    return this.lines.secure || this.#allowPlaintext;
  }
  get mechanisms(): readonly SaslMechanism[] {
    const { scramSha1 } = this.service;
    return offeredMechanisms(this.service, { plaintextAllowed: this.plaintextAllowed, scramSha1 });
  }

  ok(text?: string, code?: string): void {
    this.#reply('OK', text, code);
  }
  no(text: string, code?: ResponseCode): void {
    this.#reply('NO', text, code);
  }
  bye(text: string, code?: ResponseCode): void {
    this.#reply('BYE', text, code);
    this.end();
  }
  end(): void {
    this.#next = 'end';
  }
  startTls(): void {
    this.#next = 'start-tls';
  }

  /** RFC 5804 §1.7 */
  writeCapabilities(): void {
    const { extensions, notifyMethods, maxRedirects } = this.service;
    this.#capability('IMPLEMENTATION', 'Postern');
    this.#capability('SIEVE', extensions.join(' '));
    if (notifyMethods.length > 0) this.#capability('NOTIFY', notifyMethods.join(' '));
    // RFC 6134 §2.8: schemes of list names; which lists there are is the administrator's.
    if (extensions.includes('extlists')) this.#capability('EXTLISTS', 'tag urn');
    this.#capability('SASL', this.mechanisms.map(({ name }) => name).join(' '));
    if (this.canStartTls) this.#capability('STARTTLS');
    this.#capability('MAXREDIRECTS', String(maxRedirects));
    if (this.#user !== undefined) this.#capability('OWNER', this.#user);
    this.#capability('UNAUTHENTICATE');
    this.#capability('VERSION', '1.0');
  }

  logIn(account: Account, saslData: Buffer | undefined): void {
    this.#user = account.name;
    this.lines.setIdle(this.service.limits.idleMs);
    const code = saslData && `SASL ${stringOut(saslData.toString('base64')).toString('latin1')}`;
    this.ok('Logged in', code);
  }

  logOut(): void {
    this.#user = undefined;
    this.lines.setIdle(this.service.limits.loginIdleMs);
  }

  refuseLogin(code: ResponseCode | undefined, username: string | undefined, why: string): void {
    this.log.info({ event: 'managesieve-login-failed', user: username, why }, 'login failed');
    this.#failures += 1;
    if (this.#failures >= this.service.limits.maxFailures) this.bye('Too many failed logins', code);
    else if (code === 'TRYLATER') this.no('Login is not possible now, try again later', code);
    else this.no('Name or password is wrong', code);
  }

  async readString(): Promise<Buffer | undefined> {
    const read = await this.#read();
    if (read.kind === 'hopeless') this.bye(read.why);
    const [word, ...more] = read.kind === 'words' ? read.words : [];
    return word?.kind === 'string' && more.length === 0 ? word.bytes : undefined;
  }

  /** Until the end of the session. Never rejects. */
  async run(): Promise<void> {
    let why = 'logout';
    try {
      this.writeCapabilities();
      this.ok('ManageSieve ready');
      while (this.#next !== 'end') await this.#turn();
    } catch (error) {
      why = error instanceof SessionEnd ? error.reason : 'error';
      if (why === 'error') this.log.error({ event: 'managesieve-session', err: error }, 'session failed');
      if (why === 'idle') this.bye('Idle for too long');
      if (why === 'shutdown') this.bye('Server is going down', 'TRYLATER');
    }
    if (why === 'error') this.lines.destroy();
    else await this.lines.close();
    const { bytesIn, bytesOut, secure } = this.lines;
    const entry = { event: 'managesieve-session-end', why, user: this.#user, tls: secure, bytesIn, bytesOut };
    this.log.info(entry, 'session ended');
  }

  #reply(word: 'OK' | 'NO' | 'BYE', text: string | undefined, code: string | undefined): void {
    this.lines.write(code === undefined ? word : Buffer.from(`${word} (${code})`, 'latin1'));
    if (text !== undefined) {
      this.lines.write(' ');
      this.lines.write(stringOut(text));
    }
    this.lines.write('\r\n');
  }

  #capability(name: string, value?: string): void {
    this.lines.write(`"${name}"`);
    if (value !== undefined) {
      this.lines.write(' ');
      this.lines.write(stringOut(value));
    }
    this.lines.write('\r\n');
  }

  #read() {
    const literalBytes = this.authenticated ? this.service.limits.scriptBytes : maxLineBytes;
    return readCommand(this.lines, {
      lineBytes: maxLineBytes,
      literalBytes,
      dropBytes: this.authenticated ? 16 * literalBytes : literalBytes,
    });
  }

  async #turn(): Promise<void> {
    try {
      const read = await this.#read();
      if (read.kind === 'words') await this.#command(read.words);
      else if (read.kind === 'bad') this.#bad(read.why);
      else if (read.kind === 'hopeless') this.bye(read.why);
      else this.no('Script is too large', 'QUOTA/MAXSIZE');
    } catch (error) {
      if (!(error instanceof LineTooLong)) throw error;
      this.#bad('Line is too long');
    }
    if (this.#next === 'start-tls' && this.#startTls !== undefined) {
      this.#next = 'go-on';
      await this.lines.startTls(this.#startTls, this.service.limits.handshakeMs).catch((error: unknown) => {
        this.log.info({ event: 'managesieve-tls', err: error }, 'TLS handshake failed');
        throw new SessionEnd('gone');
      });
      // RFC 5804 §2.2
      this.writeCapabilities();
      this.ok('TLS is active');
    }
  }

  async #command(words: readonly Word[]): Promise<void> {
    const [first, ...rest] = words;
    const command = first?.kind === 'atom' ? commandTable.get(first.text.toUpperCase()) : undefined;
    if (command === undefined) return this.#bad('Unknown command');
    if (!this.authenticated && ++this.#commands > this.service.limits.maxCommandsBeforeLogin)
      return this.bye('Too many commands');
    if (command.state === 'authenticated' && !this.authenticated) return this.no('Log in first');
    if (command.state === 'anonymous' && this.authenticated) return this.no('Not possible after login');
    const args = readArguments(command, rest);
    if (args === undefined) return this.#bad(`${command.name} needs other arguments`);
    this.#badCommands = 0;
    try {
      await command.run(this, ...(args as never[]));
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (error instanceof SessionEnd || error instanceof LineTooLong) throw error;
    if (error instanceof ScriptError) {
      const text = error.diagnostics.length > 0 ? describeDiagnostics(error.diagnostics) : error.message;
      this.no(text, codeOf[error.code]);
      return;
    }
    this.log.error({ event: 'managesieve-command', user: this.#user, err: error }, 'command failed');
    this.no('Not possible now, try again later', 'TRYLATER');
  }

  #bad(text: string): void {
    this.#badCommands += 1;
    if (this.#badCommands >= this.service.limits.maxBadCommands) this.bye(text);
    else this.no(text);
  }
}

/** Undefined where number or kinds are wrong. */
function readArguments(command: Command, words: readonly Word[]): readonly Argument[] | undefined {
  const { args: kinds, optional = 0 } = command;
  if (words.length > kinds.length || words.length < kinds.length - optional) return undefined;
  const args: Argument[] = [];
  for (const [index, word] of words.entries()) {
    const kind = kinds[index];
    const text = word.kind === 'string' && kind === 'text' ? decodeUtf8(word.bytes) : undefined;
    if (kind === 'number' && word.kind === 'number' && word.value < 2 ** 32) args.push(word.value);
    else if (kind === 'bytes' && word.kind === 'string') args.push(word.bytes);
    else if (text !== undefined) args.push(text);
    else return undefined;
  }
  return args;
}
