// The notice to the owner of a script that failed: at most one a day for each state of a script, stored like mail, run
// through no rules.
import type { Clock } from '../lib/clock.ts';
import { formatDate } from '../mail/date.ts';
import { formatMessageId } from '../mail/message-id.ts';
import { bufferRope, type Rope } from '../mail/rope.ts';
import { type Diagnostic, formatDiagnostics } from '../sieve/diagnostic.ts';

export interface Notice {
  readonly user: string;
  readonly hostname: string;
  readonly clock: Clock;
  readonly id: string;
  readonly script: string;
  readonly diagnostics: readonly Diagnostic[];
  /** Of the message that it failed on. */
  readonly about: { readonly from: string; readonly subject: string; readonly messageId: string };
}

const oneLine = (text: string): string => text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200);

export function ruleNotice(notice: Notice): Rope {
  const { user, hostname, clock, id, script, diagnostics, about } = notice;
  const lines = [
    `From: Mail rules <MAILER-DAEMON@${hostname}>`,
    `To: <${user}>`,
    'Subject: Your mail rules have failed',
    `Date: ${formatDate(clock.now())}`,
    `Message-ID: ${formatMessageId(id, hostname)}`,
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: 8bit',
    '',
    `Your script "${oneLine(script)}" could not be carried out on a message, so that message was`,
    'put into your inbox as if you had no rules.',
    '',
    ...formatDiagnostics(diagnostics.slice(0, 20)).split('\n'),
    '',
    `From: ${oneLine(about.from)}`,
    `Subject: ${oneLine(about.subject)}`,
    `Message-ID: ${oneLine(about.messageId)}`,
    '',
    'You hear of this at most once a day.',
  ];
  return bufferRope(Buffer.from(`${lines.join('\r\n')}\r\n`));
}
