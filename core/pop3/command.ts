// What a POP3 command is, and what it sees of its session. One command per file; `command-table.ts` lists them.
import type { Logger } from 'pino';
import type { Account, AuthOrigin, Directory } from '../accounts/directory.ts';
import type { SaslMechanism, VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { Clock } from '../lib/clock.ts';
import type { MailStore } from '../mailstore/mailbox.ts';
import type { LineSession } from '../net/line-session.ts';
import type { Pop3Limits } from './limits.ts';
import type { LoginTimes } from './login-times.ts';
import type { Maildrop, MaildropLocks } from './maildrop.ts';
import type { Pop3Options } from './options.ts';

/** Shared by all sessions of a server. */
export interface Pop3Service {
  readonly hostname: string;
  readonly directory: Directory;
  readonly store: MailStore;
  readonly clock: Clock;
  readonly limits: Pop3Limits;
  readonly options: Pop3Options;
  readonly locks: MaildropLocks;
  readonly logins: LoginTimes;
  readonly verifyToken?: VerifyToken;
}

/** RFC 1939 §3. UPDATE is not a state that commands are given in. */
export type Pop3State = 'authorization' | 'transaction';

/** Response codes: RFC 2449 §8.1.1, RFC 3206 §4, RFC 6856 §5. */
export type ResponseCode = 'IN-USE' | 'LOGIN-DELAY' | 'SYS/TEMP' | 'SYS/PERM' | 'AUTH' | 'UTF8';

export interface SessionView {
  readonly service: Pop3Service;
  readonly lines: LineSession;
  readonly log: Logger;
  readonly from: AuthOrigin;
  /** After login; throws before it. */
  readonly maildrop: Maildrop;
  readonly state: Pop3State;
  readonly canStartTls: boolean;
  /** Passwords may be sent: TLS, or the listener allows it without. */
  readonly plaintextAllowed: boolean;
  readonly mechanisms: readonly SaslMechanism[];
  /** Name given by USER. */
  pendingUser: string | undefined;
  readonly utf8: boolean;
  enableUtf8(): void;
  /** Opens the maildrop and enters TRANSACTION; answers the client either way. */
  logIn(account: Account): Promise<void>;
  /** Answers a failed login; too many end the session. */
  refuseLogin(code: ResponseCode, username: string | undefined, why: string): void;
  ok(text: string): void;
  err(text: string, code?: ResponseCode): void;
  /** After the reply, the handshake. */
  startTls(): void;
  /** After the reply, the end. */
  end(): void;
}

export interface Command {
  readonly name: string;
  readonly states: readonly Pop3State[];
  /** `args` is what follows the name and one space, as it was sent. */
  run(at: SessionView, args: string): Promise<void> | void;
}

/** Arguments that are numbers, all of them and no more; undefined where they are not. */
export function numbers(args: string, count: number): readonly number[] | undefined {
  const words = args.trim() === '' ? [] : args.trim().split(/ +/);
  return words.length === count && words.every(word => /^\d{1,10}$/.test(word)) ? words.map(Number) : undefined;
}

/** RFC 1939 §5: a message number is valid where the message exists and is not marked as deleted. */
export function messageNumber(at: SessionView, number: number | undefined): number | undefined {
  if (number !== undefined && at.maildrop.has(number)) return number;
  at.err('No such message');
  return undefined;
}
