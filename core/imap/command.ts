// What a command is: one row of the table in `commands/table.ts`. The row says in which state the command is allowed,
// what it may do to the view and how its arguments read; the dispatcher checks all that, so that a handler begins with
// everything it needs and never asks which state it is in.
import type { Logger } from 'pino';
import type { Account, AuthResult, Directory } from '../accounts/directory.ts';
import type { SaslContext, SaslMechanism, VerifyToken } from '../accounts/sasl/mechanism.ts';
import type { Clock } from '../lib/clock.ts';
import type { Mailbox, MailStore, UserMail } from '../mailstore/mailbox.ts';
import type { Metadata } from '../mailstore/metadata.ts';
import type { AppendSpool } from './append-spool.ts';
import type { Input } from './input.ts';
import type { ImapLimits } from './limits.ts';
import type { Output } from './output.ts';
import type { StoredMailRules } from './ports.ts';
import type { Ending } from './response.ts';
import type { View } from './view.ts';
import type { Lexer } from './wire/lexer.ts';
import type { LiteralHead } from './wire/types.ts';

/** What all sessions of a server share. */
export interface ImapService {
  readonly hostname: string;
  readonly directory: Directory;
  /** Absent: no bearer mechanisms. */
  readonly verifyToken?: VerifyToken;
  readonly store: MailStore;
  readonly clock: Clock;
  readonly limits: ImapLimits;
  readonly spool: AppendSpool;
  /** Absent: no METADATA. */
  readonly metadata?: Metadata;
  /** As the configuration is now; absent or undefined: no scripts. */
  readonly rules?: () => StoredMailRules | undefined;
}

/** Extensions a client may switch on (RFC 5161). */
export type Enabled = 'CONDSTORE' | 'QRESYNC';

/** What a handler of a command has that is valid in any state. */
export interface AnyState {
  readonly service: ImapService;
  readonly log: Logger;
  readonly remote: { readonly address: string; readonly port: number };
  readonly secure: boolean;
  /** Aborts with `ClientGone` when nobody is left to answer. */
  readonly signal: AbortSignal;
  /** Of the command that runs. */
  readonly tag: string;
  readonly out: Output;
  readonly input: Input;
  readonly enabled: Set<Enabled>;
  /** As they are now: they change with TLS and login (RFC 3501 §6.1.1, §6.2). */
  capabilities(): readonly string[];
  /** The session ends after this command. */
  logout(): void;
  /** Noted in the summary line of the session. */
  note(name: string, value: unknown): void;
}

export interface Anonymous extends AnyState {
  /** Why a password may not be sent now; undefined where it may. */
  readonly passwordsForbidden: boolean;
  readonly canStartTls: boolean;
  /** After the reply to STARTTLS. */
  startTls(): void;
  /** Offered now: those that show the password only where it may be sent. */
  readonly mechanisms: readonly SaslMechanism[];
  readonly sasl: SaslContext;
  /** Opens the user's store, or delays and counts the failure. `name` as the client gave it, for the log. */
  finishLogin(result: AuthResult, name: string, mechanism: string): Promise<Ending>;
}

export interface Authenticated extends AnyState {
  readonly account: Account;
  readonly mail: UserMail;
  /** The selected mailbox, where there is one. */
  readonly selected: View | undefined;
  /** Leaves the selected mailbox, if any, and enters another. */
  select(view: View | undefined): Promise<void>;
  /** Tells the client all that is new, outside the end of a command: IDLE. `disk`: looks for what other programs did. */
  tellChanges(look: 'disk' | 'memory'): Promise<void>;
  /** Switches an extension on, by ENABLE or by a command that implies it (RFC 5161, RFC 7162 §3.1). */
  enable(name: Enabled): void;
  /** Opens a mailbox for the time of `work`. */
  withMailbox<T>(name: string, work: (mailbox: Mailbox) => Promise<T>): Promise<T>;
}

export interface Selected extends Authenticated {
  readonly view: View;
}

export interface States {
  readonly any: AnyState;
  readonly anonymous: Anonymous;
  readonly authenticated: Authenticated;
  readonly selected: Selected;
}
export type CommandState = keyof States;

/** What a literal of a command is: a word of it, or a message that may be big. */
export type LiteralRole = 'word' | 'message';

export interface Command {
  /** Upper case; `UID FETCH` for the variant with UIDs. */
  readonly name: string;
  readonly state: CommandState;
  /** What the client may be told after the command: RFC 3501 §7.4.1 forbids EXPUNGE for FETCH, STORE and SEARCH. */
  readonly updates: 'all' | 'no-expunge' | 'none';
  /** `write`: refused in a mailbox that was opened with EXAMINE. */
  readonly access: 'read' | 'write';
  /** `disk`: looks for what other programs did before it tells updates; else only what this process knows is told. */
  readonly sync: 'disk' | 'memory';
  /** Reads the arguments; what it returns runs the command. */
  prepare(lexer: Lexer): (states: States[CommandState]) => Promise<Ending>;
  /** For commands that take messages: asked before each literal, with all that came before it. */
  announce?(states: States[CommandState], lexer: Lexer, literal: LiteralHead): Promise<LiteralRole | Ending>;
}

export interface CommandDefinition<S extends CommandState, A> {
  readonly name: string;
  readonly state: S;
  readonly updates?: Command['updates'];
  readonly access?: Command['access'];
  readonly sync?: Command['sync'];
  /** The lexer stands behind the name, before the space; the end of the command is checked by the dispatcher's side. */
  parse(lexer: Lexer): A;
  run(at: States[S], args: A): Promise<Ending> | Ending;
  announce?(at: States[S], lexer: Lexer, literal: LiteralHead): Promise<LiteralRole | Ending>;
}

export function command<S extends CommandState, A>(definition: CommandDefinition<S, A>): Command {
  const { name, state, updates = 'all', access = 'read', sync = 'memory', announce } = definition;
  return {
    name,
    state,
    updates,
    access,
    sync,
    prepare(lexer) {
      const args = definition.parse(lexer);
      lexer.end();
      // The dispatcher has checked that the session is in `state`: the one place where that becomes a type.
      return async at => definition.run(at as States[S], args);
    },
    ...(announce && { announce: (at, lexer, literal) => announce(at as States[S], lexer, literal) }),
  };
}

/** For commands without arguments. */
export const nothing = (): undefined => undefined;
