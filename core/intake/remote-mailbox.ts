// A mailbox at another provider, as the poller sees it; `pop3-mailbox.ts` and `imap-mailbox.ts` are the protocols.
import { WireError, type WireOptions } from '../lib/wire-client.ts';

export interface RemoteMessage {
  /** Names the message for ever: UIDL, or UIDVALIDITY and UID. */
  readonly uid: string;
  readonly size: number;
  /** Somebody marked it for removal: not to be taken, but to be removed if it was taken. */
  readonly deleted?: true;
}

export interface RemoteMailbox {
  list(): Promise<readonly RemoteMessage[]>;
  /** The message with CRLF line ends. To be read to its end before anything else is asked. */
  read(message: RemoteMessage): AsyncIterable<Buffer>;
  /** May take effect at `quit` only. */
  remove(message: RemoteMessage): Promise<void>;
  /** Makes the removals true. */
  quit(): Promise<void>;
  /** Hangs up; with POP3, what was removed since then comes back. */
  close(): void;
}

export interface RemoteAccount extends WireOptions {
  readonly startTls: boolean;
  readonly username: string;
  readonly password: string;
  /** `password` is an OAuth access token (RFC 7628's predecessor XOAUTH2, as Google and Microsoft take it). */
  readonly token: boolean;
  /** For IMAP. */
  readonly mailbox: string;
}

/** The login was refused: no use in trying again soon. */
export class LoginRefusedError extends Error {
  override readonly name = 'LoginRefusedError';
}

/** RFC 2449 §8, RFC 3206, RFC 5530: the password may be right, only not now. */
const passing = /\[(?:IN-?USE|LOGIN-DELAY|SYS\/TEMP|UNAVAILABLE|SERVERBUG|LIMIT)/i;

/** What a refused login means. */
export const loginError = (text: string): Error =>
  passing.test(text) ? new WireError(`No login now: ${text}`) : new LoginRefusedError(`The login was refused: ${text}`);

export const xoauth2 = ({ username, password }: RemoteAccount): string =>
  Buffer.from(`user=${username}\x01auth=Bearer ${password}\x01\x01`).toString('base64');
