// Actions reject and ereject, RFC 5429. Refused in the session where the host can; else a report goes to the sender: an MDN
// for reject (§2.2.1), a DSN for ereject (§2.1.2), none to the null sender.

import type { Message } from '../../mail/message.ts';
import type { Field, Part } from '../compose.ts';
import { addressField, commonFields, messageOf, multipart, textPart } from '../compose.ts';
import type { Call, CommandDefinition, Execution, Meeting } from '../contract.ts';
import { defineExtension } from '../extension.ts';
import type { Entry } from '../result.ts';
import { answersNothing } from './imapsieve.ts';
import { ownerOf } from './redirect.ts';

const rejecting = new Set(['reject', 'ereject']);
const incompatible = new Set(['keep', 'fileinto', 'redirect', 'vacation']);

// RFC 5429 §2.4
function meets(entry: Entry, earlier: Entry): Meeting {
  if (rejecting.has(earlier.action)) return { conflict: `Message is rejected twice (line ${earlier.line})` };
  if (incompatible.has(earlier.action))
    return { conflict: `Action '${entry.action}' cannot be combined with '${earlier.action}' (line ${earlier.line})` };
  return 'both';
}

const reportFields = [
  'from',
  'to',
  'subject',
  'date',
  'message-id',
  'in-reply-to',
  'references',
  'received',
  'return-path',
];

/** The header of the message as it came, without what only concerns this system. */
function originalHeader(message: Message): Buffer {
  const fields = [...message.headers].filter(field => reportFields.includes(field.name.toLowerCase()));
  return Buffer.concat(fields.map(field => field.raw));
}

const asciiOnly = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?');

function mdnFields(execution: Execution): Buffer {
  const messageId = execution.original.headers.get('message-id')?.value;
  const lines = [
    `Reporting-UA: ${execution.setting('hostname')}; Postern Sieve`,
    `Final-Recipient: rfc822; ${asciiOnly(execution.envelope.to)}`,
    ...(messageId === undefined ? [] : [`Original-Message-ID: ${asciiOnly(messageId)}`]),
    'Disposition: automatic-action/MDN-sent-automatically; deleted',
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n`);
}

function dsnFields(execution: Execution): Buffer {
  const lines = [
    `Reporting-MTA: dns; ${execution.setting('hostname')}`,
    '',
    `Final-Recipient: rfc822; ${asciiOnly(execution.envelope.to)}`,
    'Action: failed',
    'Status: 5.7.1',
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n`);
}

function report(entry: Entry, execution: Execution): { readonly fields: readonly Field[]; readonly part: Part } {
  const reason = String(entry.arguments['reason']);
  const isDsn = entry.action === 'ereject';
  const text = `Your message was refused by the recipient's mail filtering program.\r\nThe reason given was as follows:\r\n\r\n${reason}\r\n`;
  const machine: Part = {
    fields: [['Content-Type', isDsn ? 'message/delivery-status' : 'message/disposition-notification']],
    body: isDsn ? dsnFields(execution) : mdnFields(execution),
  };
  const header: Part = { fields: [['Content-Type', 'text/rfc822-headers']], body: originalHeader(execution.original) };
  const type = `multipart/report; report-type=${isDsn ? 'delivery-status' : 'disposition-notification'}`;
  const part = multipart(execution.host, type, [textPart(text), machine, header]);
  const subject = execution.original.headers.get('subject')?.value;
  const fields: Field[] = [
    ['From', `Mail Delivery Subsystem <MAILER-DAEMON@${execution.setting('hostname')}>`],
    ['To', addressField(execution.envelope.from)],
    ['Subject', subject === undefined ? 'Automatically rejected mail' : `Rejected: ${subject}`],
    ['Auto-Submitted', 'auto-replied (rejected)'],
    ['Precedence', 'bulk'],
  ];
  return { fields, part };
}

async function execute(entry: Entry, execution: Execution): Promise<void> {
  const reason = String(entry.arguments['reason']);
  const { host } = execution;
  // RFC 5429 §2.2: reject keeps the exact text, so one beyond ASCII goes by mail.
  const inSession = entry.action === 'ereject' || /^[\t\r\n\x20-\x7e]*$/.test(reason);
  const text = /^[\t\r\n\x20-\x7e]*$/.test(reason) ? reason : 'Message refused by the recipient';
  if (inSession && (await host.outgoing.refuse?.({ reason: text, action: entry.action }))) {
    execution.refused = text;
    execution.detail = 'refused in the session';
    return;
  }
  if (execution.envelope.from === '') {
    execution.skip('no report: the sender is null');
    return;
  }
  const { fields, part } = report(entry, execution);
  const message = messageOf([...fields, ...commonFields(host), ...part.fields], part.body);
  await execution.send({ from: '', to: [execution.envelope.from], message, reason: 'reject' });
  execution.detail = `reported to ${execution.envelope.from} for ${ownerOf(execution)}`;
}

function command(name: string): CommandDefinition {
  return {
    name,
    arguments: [{ name: 'reason', type: 'string' }],
    run(call: Call) {
      if (answersNothing(call)) return undefined;
      return call.act({ action: name, arguments: { reason: call.string('reason') }, cancelsKeep: true });
    },
  };
}

export const reject = defineExtension({
  name: 'reject',
  commands: [command('reject')],
  actions: [{ name: 'reject', meets, execute }],
});

export const ereject = defineExtension({
  name: 'ereject',
  commands: [command('ereject')],
  actions: [{ name: 'ereject', meets, execute }],
});
