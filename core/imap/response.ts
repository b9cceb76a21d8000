// Status responses as values (RFC 3501 §7.1) and the response codes they may carry (RFC 5530, 4315, 7162, 7889 …).
import type { MailboxError } from '../mailstore/mailbox.ts';

/** Codes without arguments. A code that takes some is written with them: `UIDNEXT 5`. */
export type PlainCode =
  | 'ALERT'
  | 'ALREADYEXISTS'
  | 'AUTHENTICATIONFAILED'
  | 'AUTHORIZATIONFAILED'
  | 'CANNOT'
  | 'CLIENTBUG'
  | 'EXPUNGEISSUED'
  | 'INUSE'
  | 'LIMIT'
  | 'NONEXISTENT'
  | 'NOPERM'
  | 'OVERQUOTA'
  | 'PRIVACYREQUIRED'
  | 'READ-ONLY'
  | 'READ-WRITE'
  | 'SERVERBUG'
  | 'TOOBIG'
  | 'TRYCREATE'
  | 'UNAVAILABLE'
  | 'UNKNOWN-CTE'
  | 'USEATTR';
export type ArgumentCode =
  `${'APPENDUID' | 'BADCHARSET' | 'CAPABILITY' | 'COPYUID' | 'HIGHESTMODSEQ' | 'MAILBOXID' | 'METADATA' | 'MODIFIED' | 'PERMANENTFLAGS' | 'UIDNEXT' | 'UIDVALIDITY' | 'UNSEEN'} ${string}`;
export type ResponseCode = PlainCode | ArgumentCode;

/** How a command ended. `text` is for the client: generic, ASCII, no path, host or reason of ours (invariant I6). */
export interface Ending {
  readonly status: 'OK' | 'NO' | 'BAD';
  readonly code?: ResponseCode;
  readonly text: string;
}

export const ok = (text: string, code?: ResponseCode): Ending => ending('OK', text, code);
export const no = (text: string, code?: ResponseCode): Ending => ending('NO', text, code);
export const bad = (text: string, code?: ResponseCode): Ending => ending('BAD', text, code);

function ending(status: Ending['status'], text: string, code: ResponseCode | undefined): Ending {
  return code === undefined ? { status, text } : { status, code, text };
}

export function encodeEnding(tag: string, { status, code, text }: Ending): string {
  return `${tag} ${status} ${code === undefined ? '' : `[${code}] `}${text}\r\n`;
}

/** Thrown by a handler that cannot go on; the dispatcher answers with it. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly ending: Ending;
  constructor(ending: Ending) {
    super(ending.text);
    this.ending = ending;
  }
}

const mailboxEndings: Readonly<Record<MailboxError['code'], Ending>> = {
  nonexistent: no('Mailbox does not exist', 'NONEXISTENT'),
  alreadyexists: no('Mailbox exists already', 'ALREADYEXISTS'),
  cannot: no('Not possible with this mailbox or name', 'CANNOT'),
  overquota: no('Quota exceeded', 'OVERQUOTA'),
  inuse: no('Mailbox is in use', 'INUSE'),
  expunged: no('Some messages were expunged', 'EXPUNGEISSUED'),
  limit: no('Limit reached', 'LIMIT'),
  unavailable: no('Mailbox is not available at the moment', 'UNAVAILABLE'),
};

export const mailboxEnding = (error: MailboxError): Ending => mailboxEndings[error.code];
