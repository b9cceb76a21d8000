// What a ManageSieve command is, and what it sees of its session. `command-table.ts` lists them.
import type { Logger } from 'pino';
import type { Account, AuthOrigin, Directory } from '../accounts/directory.ts';
import type { SaslMechanism, VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { Clock } from '../lib/clock.ts';
import type { LineSession } from '../net/line-session.ts';
import type { SieveScripts } from '../sieve/script-store.ts';
import type { ManageSieveLimits } from './limits.ts';

export interface ManageSieveService {
  readonly directory: Directory;
  readonly scripts: SieveScripts;
  readonly clock: Clock;
  readonly limits: ManageSieveLimits;
  /** Names for `require`. */
  readonly extensions: readonly string[];
  /** URI schemes of `notify`, such as `mailto`; empty = no enotify. */
  readonly notifyMethods: readonly string[];
  /** Redirects that one run may do. */
  readonly maxRedirects: number;
  readonly scramSha1: boolean;
  readonly verifyToken?: VerifyToken;
}

/** RFC 5804 §1.3 */
export type ResponseCode =
  | 'ACTIVE'
  | 'ALREADYEXISTS'
  | 'AUTH-TOO-WEAK'
  | 'ENCRYPT-NEEDED'
  | 'NONEXISTENT'
  | 'QUOTA/MAXSCRIPTS'
  | 'QUOTA/MAXSIZE'
  | 'TRYLATER'
  | 'WARNINGS';

export interface SessionView {
  readonly service: ManageSieveService;
  readonly lines: LineSession;
  readonly log: Logger;
  readonly from: AuthOrigin;
  /** Account name; throws before login. */
  readonly user: string;
  readonly authenticated: boolean;
  readonly canStartTls: boolean;
  readonly plaintextAllowed: boolean;
  readonly mechanisms: readonly SaslMechanism[];
  ok(text?: string, code?: string): void;
  no(text: string, code?: ResponseCode): void;
  bye(text: string, code?: ResponseCode): void;
  writeCapabilities(): void;
  logIn(account: Account, saslData: Buffer | undefined): void;
  refuseLogin(code: ResponseCode | undefined, username: string | undefined, why: string): void;
  logOut(): void;
  /** After the reply, the handshake. */
  startTls(): void;
  end(): void;
  /** A string of an exchange; undefined where the line was something else. */
  readString(): Promise<Buffer | undefined>;
}

/** `text`: a string in UTF-8; `bytes`: a string as it came. */
export type ArgumentKind = 'text' | 'bytes' | 'number';
export type Argument = string | Buffer | number;

export interface Command {
  readonly name: string;
  readonly state: 'any' | 'authenticated' | 'anonymous';
  readonly args: readonly ArgumentKind[];
  /** How many of `args` may be left out at the end. */
  readonly optional?: number;
  run(at: SessionView, ...args: never[]): Promise<void> | void;
}

/** Ties the types of `args` to those of `run`. */
export function command<const Kinds extends readonly ArgumentKind[]>(definition: {
  readonly name: string;
  readonly state: Command['state'];
  readonly args: Kinds;
  readonly optional?: number;
  run(at: SessionView, ...args: ArgumentsOf<Kinds>): Promise<void> | void;
}): Command {
  return definition as unknown as Command;
}

type ArgumentsOf<Kinds extends readonly ArgumentKind[]> = {
  [Index in keyof Kinds]: Kinds[Index] extends 'number' ? number : Kinds[Index] extends 'bytes' ? Buffer : string;
};
