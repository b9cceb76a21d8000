// Action vacation, RFC 5230, with `:seconds` of RFC 6131. When it is silent: `vacation-restraint.ts`.

import { createHash } from 'node:crypto';
import { parseHeaders } from '../../mail/headers.ts';
import type { Rope } from '../../mail/rope.ts';
import { bufferRope } from '../../mail/rope.ts';
import { addressKey, parseAddressList, parseOneAddress } from '../addresses.ts';
import type { Field } from '../compose.ts';
import { addressField, commonFields, renderFields, textPart } from '../compose.ts';
import type { Call, Complain, Execution, Meeting } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { decodedValue } from '../header-cache.ts';
import type { Entry } from '../result.ts';
import { answersNothing } from './imapsieve.ts';
import { checkOutboundAddress, ownerOf } from './redirect.ts';
import { storeCopy } from './store-actions.ts';
import { whySilent } from './vacation-restraint.ts';

const day = 86_400;

/** RFC 5230 §4.2: what is below the minimum or above the maximum is set to it. */
function period(call: Call): number {
  const { minSeconds, maxSeconds, defaultSeconds } = call.run.setting('vacation');
  const days = call.maybeNumber('days');
  const wished = call.maybeNumber('seconds') ?? (days === undefined ? defaultSeconds : days * day);
  const least = Math.max(wished, minSeconds);
  return maxSeconds > 0 ? Math.min(least, maxSeconds) : least;
}

/** RFC 5230 §4.7: calls with the same arguments share a memory; a handle stands for itself. */
function handleOf(call: Call): string {
  const handle = call.maybeString('handle');
  if (handle !== undefined) return `handle\0${handle}`;
  const parts = [call.string('reason'), call.maybeString('subject'), call.maybeString('from'), call.has('mime')];
  return parts.map(part => String(part ?? '')).join('\0');
}

function vacate(call: Call) {
  if (answersNothing(call)) return undefined;
  const from = call.maybeString('from');
  return call.act({
    action: 'vacation',
    cancelsKeep: false,
    arguments: {
      reason: call.string('reason'),
      seconds: period(call),
      ...(call.has('subject') ? { subject: call.string('subject') } : {}),
      ...(from === undefined ? {} : { from }),
      ...(call.has('addresses') ? { addresses: call.strings('addresses') } : {}),
      ...(call.has('mime') ? { mime: true } : {}),
      handle: createHash('sha256').update(handleOf(call)).digest('hex').slice(0, 32),
    },
  });
}

// RFC 5230 §4.7: once in a script, and not with reject.
function meets(_: Entry, earlier: Entry): Meeting {
  if (earlier.action === 'vacation') return { conflict: `Action 'vacation' is taken twice (line ${earlier.line})` };
  if (earlier.action === 'reject' || earlier.action === 'ereject')
    return { conflict: `Action 'vacation' cannot be combined with '${earlier.action}' (line ${earlier.line})` };
  return 'both';
}

/** RFC 5230 §5.1 */
function subjectOf(entry: Entry, execution: Execution): string {
  const { subject } = entry.arguments;
  if (typeof subject === 'string') return subject;
  const { defaultSubject, subjectTemplate } = execution.setting('vacation');
  const field = entry.message.headers.get('subject');
  const original = field ? decodedValue(field) : '';
  return original === '' ? defaultSubject : subjectTemplate.replaceAll('%$', () => original);
}

/** RFC 5322 §3.6.4 */
function threadFields(entry: Entry): readonly Field[] {
  const id = entry.message.headers.get('message-id')?.value;
  if (id === undefined || id === '') return [];
  const before =
    entry.message.headers.get('references')?.value ?? entry.message.headers.get('in-reply-to')?.value ?? '';
  const ids = [...(before.match(/<[^<>\s]{1,250}>/g) ?? []).slice(-20), id];
  return [
    ['In-Reply-To', id],
    ['References', ids.join(' ')],
  ];
}

function replyOf(entry: Entry, execution: Execution): Rope {
  const reason = String(entry.arguments['reason']);
  const { from, mime } = entry.arguments;
  const sender = typeof from === 'string' ? addressField(from) : fromOf(entry, execution);
  const fields: Field[] = [
    ['From', sender],
    ['To', addressField(execution.envelope.from)],
    ['Subject', subjectOf(entry, execution)],
    ...threadFields(entry),
    // RFC 3834 §5
    ['Auto-Submitted', 'auto-replied (vacation)'],
    ['Precedence', 'bulk'],
    ['X-Auto-Response-Suppress', 'All'],
    ...commonFields(execution.host),
  ];
  // RFC 5230 §4.3: with `:mime` the reason is a whole MIME entity.
  if (mime === true) return bufferRope(Buffer.concat([renderFields(fields), Buffer.from(reason)]));
  const part = textPart(reason);
  return bufferRope(Buffer.concat([renderFields([...fields, ...part.fields]), Buffer.from('\r\n'), part.body]));
}

/** RFC 5230 §5.2: the address of the owner that the message was sent to, with the name it was given there. */
function fromOf(entry: Entry, execution: Execution): string {
  const owner = ownerOf(execution);
  for (const name of ['to', 'cc', 'resent-to', 'resent-cc'])
    for (const field of entry.message.headers.all(name)) {
      const found = parseAddressList(decodedValue(field)).find(
        address => addressKey(address.text) === addressKey(owner),
      );
      if (found?.name !== undefined) return addressField(`"${found.name.replace(/["\\]/g, '\\$&')}" <${found.text}>`);
    }
  return addressField(owner);
}

/**
 * RFC 5230 §4.2: one reply in the period, so it is claimed before it is sent and nobody is answered twice by messages that
 * come together. RFC 6131 §2: with a period of 0 every message gets one.
 */
async function claimReply(entry: Entry, execution: Execution, memory: string): Promise<boolean> {
  const seconds = Number(entry.arguments['seconds']);
  const { tracking } = execution.host;
  if (seconds === 0 || !tracking) return true;
  try {
    if (await tracking.claim(memory, seconds)) return true;
    execution.skip(`${addressKey(execution.envelope.from)} has had this reply`);
  } catch (error) {
    // A reply that is missing is the lesser evil; the message goes where the script wants it.
    const why = error instanceof Error ? error.message : String(error);
    execution.note('warning', entry, `Reply is not sent, for it could not be remembered: ${why}`);
    execution.skip('the reply could not be remembered');
  }
  return false;
}

async function execute(entry: Entry, execution: Execution): Promise<void> {
  const silent = whySilent(entry, execution);
  if (silent !== undefined) return execution.skip(silent);
  const sender = addressKey(execution.envelope.from);
  const memory = `vacation:${createHash('sha256')
    .update(`${String(entry.arguments['handle'])}\0${sender}`)
    .digest('hex')}`;
  const message = replyOf(entry, execution);
  const { sendFromRecipient } = execution.setting('vacation');
  if (!(await claimReply(entry, execution, memory))) return;
  try {
    // RFC 5230 §5.1: the null sender, so that nobody answers the answer.
    await execution.send({
      from: sendFromRecipient ? execution.envelope.to : '',
      to: [execution.envelope.from],
      message,
      reason: 'vacation',
    });
  } catch (error) {
    // The next message may get it. Where the claim cannot be given back either, none does for the period.
    await execution.host.tracking?.forget(memory).catch(() => undefined);
    throw error;
  }
  execution.detail = `replied to ${sender}`;
  await storeCopy(entry, execution, message);
}

function checkMime(text: string, complain: Complain): void {
  const section = /^([\s\S]*?\r\n)(?:\r\n|$)/.exec(text)?.[1] ?? '';
  const fields = [...parseHeaders(Buffer.from(section))];
  if (fields.length === 0 || fields.some(field => !/^(content-[\x21-\x39\x3b-\x7e]+|mime-version)$/i.test(field.name)))
    complain(`Text of 'vacation :mime' must begin with MIME header fields, found ${quote(text.slice(0, 40))}`);
}

export const vacation = defineExtension({
  name: 'vacation',
  commands: [
    {
      name: 'vacation',
      tags: [
        { name: 'days', type: 'number', group: 'period' },
        { name: 'subject', type: 'string' },
        { name: 'from', type: 'string', check: checkOutboundAddress },
        {
          name: 'addresses',
          type: 'string-list',
          check(address, complain) {
            if (!parseOneAddress(address)) complain(`${quote(address)} is not a valid address`);
          },
        },
        { name: 'mime' },
        { name: 'handle', type: 'string' },
      ],
      arguments: [{ name: 'reason', type: 'string' }],
      validate(word) {
        const reason = word.string('reason');
        if (word.has('mime') && reason !== undefined) checkMime(reason, message => word.error(message, 'reason'));
      },
      run: vacate,
    },
  ],
  actions: [{ name: 'vacation', meets, execute }],
});

/** RFC 6131 */
export const vacationSeconds = defineExtension({
  name: 'vacation-seconds',
  implies: ['vacation'],
  tags: [{ name: 'seconds', type: 'number', group: 'period', on: ['vacation'] }],
});
