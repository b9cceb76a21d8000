// The mail that tells the postmaster that an account sends too much, and what to do.
import { createHash } from 'node:crypto';
import { formatDate, formatMessageId, type Host } from '../../core/plugin/index.ts';

export interface Alarm {
  readonly account: string;
  /** `101 messages in 1h, limit 100`. */
  readonly what: string;
  readonly isHeld: boolean;
  readonly client: string;
  readonly sender: string;
}

function postmasterFor(account: string, host: Host): string {
  if (host.postmaster !== undefined) return host.postmaster;
  const domain = account.includes('@') ? account.slice(account.lastIndexOf('@') + 1) : host.hostname;
  return `postmaster@${domain}`;
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?');

export function alertBytes(alarm: Alarm, to: readonly string[], host: Host): Buffer {
  const account = printable(alarm.account);
  const now = host.clock.now();
  const unique = createHash('sha256').update(`${now} ${alarm.account}`).digest('hex').slice(0, 24);
  const lines = [
    `Date: ${formatDate(now)}`,
    `From: Postern <postmaster@${host.hostname}>`,
    `To: ${to.join(', ')}`,
    `Subject: ${alarm.isHeld ? 'Mail of an account is held' : 'Account over its limit'}: ${account}`.slice(0, 900),
    `Message-ID: ${formatMessageId(unique, host.hostname)}`,
    // RFC 3834 §5.
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=us-ascii',
    '',
    `The account ${account} went over a limit: ${alarm.what}.`,
    '',
    `Last client:    ${alarm.client}`,
    `Last sender:    ${printable(alarm.sender)}`,
    '',
    ...(alarm.isHeld
      ? [
          'Its mail is taken and kept in the quarantine; nothing of it goes out. If the account was',
          'broken into, change its password first. Then let it send again:',
          '',
          `    postern rate-limit release ${account}`,
          '',
          'What was kept meanwhile is listed, released or deleted by `postern quarantine`.',
        ]
      : [
          'Further mail is refused until the window ends, or at once after:',
          '',
          `    postern rate-limit release ${account}`,
        ]),
    '',
  ];
  return Buffer.from(lines.join('\r\n'), 'latin1');
}

/** A failed alert is logged and changes no verdict. */
export async function sendAlert(alarm: Alarm, alertTo: readonly string[], host: Host): Promise<void> {
  const to = alertTo.length > 0 ? alertTo : [postmasterFor(alarm.account, host)];
  try {
    await host.submit({ sender: null, recipients: to, bytes: alertBytes(alarm, to, host), origin: 'rate-limit' });
  } catch (err) {
    host.log.error({ err, account: alarm.account }, 'Alert about an account over its limit is not sent');
  }
}
