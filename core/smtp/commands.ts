// The commands of SMTP and LMTP as one table: `dispatch.ts` reads the flags, a handler never asks whether
// it may run.

import { auth } from './auth.ts';
import { bdat } from './bdat.ts';
import { data } from './data.ts';
import { hello } from './hello.ts';
import type { Done } from './input.ts';
import { mail } from './mail.ts';
import { rcpt } from './rcpt.ts';
import type { SmtpSession } from './session.ts';
import { xclient } from './xclient.ts';

export interface Command {
  /** Absent = both. */
  readonly only?: 'smtp' | 'lmtp';
  /** Allowed on a submission listener before STARTTLS (RFC 3207 §4). */
  readonly beforeTls?: true;
  readonly afterHello?: true;
  /** On a submission listener (RFC 6409 §4.3). */
  readonly afterAuth?: true;
  /** False: counted, since a client may send it for ever without getting anywhere. */
  readonly moves?: false;
  run(session: SmtpSession, args: string): Done;
}

const afterHello = { afterHello: true } as const;
const inMail = { afterHello: true, afterAuth: true } as const;

export const commands: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['EHLO', { only: 'smtp', beforeTls: true, moves: false, run: (s, args) => hello(s, 'EHLO', args) }],
  ['HELO', { only: 'smtp', beforeTls: true, moves: false, run: (s, args) => hello(s, 'HELO', args) }],
  ['LHLO', { only: 'lmtp', moves: false, run: (s, args) => hello(s, 'LHLO', args) }],
  ['STARTTLS', { ...afterHello, beforeTls: true, moves: false, run: starttls }],
  ['AUTH', { ...afterHello, run: auth }],
  ['MAIL', { ...inMail, run: mail }],
  ['RCPT', { ...inMail, run: rcpt }],
  ['DATA', { ...inMail, run: data }],
  ['BDAT', { ...inMail, run: bdat }],
  ['RSET', { beforeTls: true, moves: false, run: rset }],
  ['NOOP', { beforeTls: true, moves: false, run: s => s.reply(250, '2.0.0', 'Ok') }],
  ['QUIT', { beforeTls: true, run: quit }],
  ['HELP', { beforeTls: true, moves: false, run: s => s.reply(214, '2.0.0', 'See RFC 5321') }],
  ['VRFY', { ...inMail, moves: false, run: vrfy }],
  ['EXPN', { ...inMail, moves: false, run: s => s.error(502, '5.5.1', 'Command not implemented') }],
  ['ETRN', { ...inMail, only: 'smtp', moves: false, run: etrn }],
  ['XCLIENT', { beforeTls: true, moves: false, run: xclient }],
]);

/** RFC 5321 §4.1.1.5 */
function rset(session: SmtpSession, args: string): Done {
  if (args !== '') return session.error(501, '5.5.4', 'RSET takes no parameter');
  session.abortTransaction();
  session.reply(250, '2.0.0', 'Ok');
}

/** RFC 5321 §4.1.1.10: whatever was said after it is not read. */
function quit(session: SmtpSession): void {
  session.reply(221, '2.0.0', 'Bye');
  session.close('quit');
}

/** RFC 5321 §3.5.3, §7.3: 252 tells nothing, so that nobody harvests addresses. */
function vrfy(session: SmtpSession, args: string): void {
  if (args === '') session.error(501, '5.5.4', 'VRFY needs an address');
  else session.reply(252, '2.5.0', 'Cannot verify, but will take mail for it and try to deliver');
}

/** RFC 3207 §4 */
function starttls(session: SmtpSession, args: string): Done {
  if (args !== '') return session.error(501, '5.5.4', 'STARTTLS takes no parameter');
  if (session.facts.tls) return session.error(503, '5.5.1', 'TLS is already active');
  if (!session.context.startTlsOffered) return session.error(502, '5.5.1', 'Command not implemented');
  session.abortTransaction();
  session.reply(220, '2.0.0', 'Ready to start TLS');
  session.startTls();
}

/** RFC 1985 §5 */
async function etrn(session: SmtpSession, args: string): Promise<void> {
  if (session.transaction) return session.error(503, '5.5.1', 'Mail transaction in progress');
  const { flushQueue } = session.context;
  const domain = /^[#@]?([A-Za-z0-9]+(?:[.-]?[A-Za-z0-9-]+)*)$/.exec(args)?.[1];
  if (domain === undefined) return session.error(501, '5.5.4', 'ETRN needs a domain');
  const answer = flushQueue ? await flushQueue(domain.toLowerCase(), session.facts) : 'not-allowed';
  if (answer === 'started') session.reply(250, '2.0.0', 'Queuing started');
  else if (answer === 'nothing-pending') session.reply(251, '2.0.0', 'No messages waiting');
  else if (answer === 'unable') session.error(458, '4.3.0', 'Unable to queue messages');
  else session.error(459, '4.7.1', 'Not allowed');
}
