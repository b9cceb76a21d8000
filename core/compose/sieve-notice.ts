// The notice to the owner of a script that failed: at most one a day for each state of a script, stored like mail, run
// through no rules.
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { randomId } from '../lib/random-id.ts';
import { parseMailbox } from '../mail/address.ts';
import { formatDate } from '../mail/date.ts';
import { type Message, readMessage } from '../mail/message.ts';
import { formatMessageId } from '../mail/message-id.ts';
import { bufferRope, type Rope } from '../mail/rope.ts';
import { type Diagnostic, formatDiagnostics } from '../sieve/diagnostic.ts';
import type { ActiveScript } from '../sieve/script-store.ts';
import { withReturnPath } from './local-transport.ts';
import type { RuleParts } from './sieve-rule-set.ts';

interface Notice {
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

function ruleNotice(notice: Notice): Rope {
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

export interface Failure {
  readonly user: string;
  /** The mailbox is another server's. */
  readonly onNextHop: boolean;
  readonly script: Pick<ActiveScript, 'name' | 'hash'>;
  readonly diagnostics: readonly Diagnostic[];
  /** On which the script failed. */
  readonly message: Message;
  readonly log: Logger;
}

const noticeSeconds = 86_400;

/** Never rejects: the message itself is safe. */
export async function tellOwner(parts: RuleParts, failure: Failure): Promise<void> {
  const { clock, hostname, mail, submitter } = parts;
  const { user, script, diagnostics, message } = failure;
  const field = (name: string): string => message.headers.get(name)?.value ?? '';
  try {
    const memory = parts.memory.of(user);
    const key = `notice:${script.hash}`;
    if (!(await memory.claim(key, noticeSeconds))) return;
    const notice = ruleNotice({
      user,
      hostname,
      clock,
      id: randomId(clock.now()),
      script: script.name,
      diagnostics,
      about: { from: field('from'), subject: field('subject'), messageId: field('message-id') },
    });
    const to = parseMailbox(user);
    if (!failure.onNextHop) await mail.deliver(withReturnPath({ sender: null, form: notice }), [{ user }]);
    else if (to.kind === 'address') {
      const recipients = [{ address: to.address }];
      await submitter.send({ sender: null, recipients, message: await readMessage(notice), origin: 'rules' });
    }
  } catch (error) {
    failure.log.warn({ err: error }, 'Owner of failed rules could not be told');
  }
}
