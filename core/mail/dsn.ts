// Delivery status notifications: RFC 3464 (the report), RFC 3462 (multipart/report), RFC 3461 §6 (what to return),
// RFC 6533 (addresses beyond ASCII). Built as a rope: the original is returned as the range of the file it lies in.
// What goes into `diagnostic` and `remoteMta` is read by strangers: leave them out for a next hop that is an inner host
// (invariant I6). A DSN is sent with the null sender (RFC 3464 §2) and never because of one (RFC 3461 §6.2).
import { randomUUID } from 'node:crypto';
import { type Address, needsSmtputf8 } from './address.ts';
import { formatDate } from './date.ts';
import { encodeWords } from './encoded-words.ts';
import { renderField } from './header-edit.ts';
import type { Message } from './message.ts';
import { parseMessageIds } from './message-id.ts';
import { bufferRope, concatRopes, inMemory, type Rope, sliceRope } from './rope.ts';
import { encodeUtf8Address } from './xtext.ts';

export type DsnAction = 'failed' | 'delayed' | 'delivered' | 'relayed' | 'expanded';

export interface DsnRecipient {
  readonly address: Address;
  /** As the client gave it with RCPT; the report must repeat it (RFC 3464 §2.3.1). */
  readonly orcpt?: { readonly type: string; readonly address: string };
  readonly action: DsnAction;
  /** RFC 3463, e.g. `5.1.1`. */
  readonly status: string;
  /** Reply of the next hop, e.g. `550 5.1.1 No such user`; may have several lines. */
  readonly diagnostic?: string;
  /** The next hop that gave it. */
  readonly remoteMta?: string;
  /** ms since the epoch. */
  readonly lastAttempt?: number;
  /** For `delayed`: until when delivery is tried, ms since the epoch. */
  readonly retryUntil?: number;
  /** A sentence for people in place of the one for the action. */
  readonly explanation?: string;
}

export interface DsnRequest {
  /** Our name: the reporting MTA (RFC 3464 §2.2.2) and the domain of `From`. */
  readonly hostname: string;
  /** The envelope sender of the original. */
  readonly to: Address;
  /** Not empty. */
  readonly recipients: readonly DsnRecipient[];
  readonly original: Message;
  /** RET of the original; headers only where it said nothing, or where the message is larger than `maxReturnBytes`. */
  readonly ret?: 'FULL' | 'HDRS';
  readonly maxReturnBytes?: number;
  readonly envid?: string;
  /** When the original arrived, ms since the epoch. */
  readonly arrivedAt?: number;
  /** Queue id of the original, for the postmaster who looks for it. */
  readonly queueId?: string;
  /** Now, ms since the epoch. */
  readonly at: number;
  /** Distinguishes the Message-ID, e.g. a new queue id; random by default. */
  readonly unique?: string;
}

const crlf = (lines: readonly string[]): string => lines.map(line => `${line}\r\n`).join('');
const oneLine = (text: string): string => text.replace(/\s*[\r\n]+\s*/g, ' ').replace(/[\x00-\x1f\x7f]/g, ' ');

const subjects: Readonly<Record<DsnAction, string>> = {
  failed: 'Undelivered mail returned to sender',
  delayed: 'Delayed mail (still being retried)',
  delivered: 'Mail delivered',
  relayed: 'Mail relayed',
  expanded: 'Mail delivered to a mailing list',
};

const openings: Readonly<Record<DsnAction, string>> = {
  failed: 'Your message could not be delivered to the recipients below. No further attempt will be made.',
  delayed:
    'Your message has not yet been delivered to the recipients below. You need not send it again: delivery will be tried on.',
  delivered: 'Your message was delivered to the recipients below.',
  relayed: 'Your message was passed on for the recipients below, to a system that may not report its delivery.',
  expanded:
    'Your message was passed on to all addresses behind the recipients below. Their delivery will not be reported.',
};
const order: readonly DsnAction[] = ['failed', 'delayed', 'delivered', 'relayed', 'expanded'];

/** Breaks a paragraph at spaces, 76 columns. */
const wrap = (text: string): readonly string[] => text.match(/\S.{0,74}(?=\s|$)|\S{76,}/g) ?? [];

function explain(recipient: DsnRecipient): readonly string[] {
  const { address, status, explanation, diagnostic, retryUntil } = recipient;
  const said =
    diagnostic === undefined ? [] : wrap(`${recipient.remoteMta ?? 'The next system'} said: ${oneLine(diagnostic)}`);
  const until = retryUntil === undefined ? [] : [`Delivery is tried until ${formatDate(retryUntil)}.`];
  const lines = [...(explanation ? wrap(oneLine(explanation)) : []), ...said, ...until, `Status ${status}`];
  return [`<${address.text}>`, ...lines.map(line => `    ${line}`), ''];
}

function humanPart({ hostname, recipients, queueId }: DsnRequest): string {
  const lines = [`This is the mail system at ${hostname}.`, ''];
  for (const action of order) {
    const these = recipients.filter(recipient => recipient.action === action);
    if (these.length > 0) lines.push(...wrap(openings[action]), '', ...these.flatMap(explain));
  }
  if (queueId !== undefined)
    lines.push(...wrap(`If you ask the postmaster of that system about it, please quote ${queueId}.`));
  return crlf(lines);
}

const field = (name: string, value: string | undefined, utf8: boolean): string =>
  value === undefined ? '' : renderField(name, oneLine(value), { utf8 }).toString('utf8');
const dateField = (name: string, ms: number | undefined): string =>
  ms === undefined ? '' : field(name, formatDate(ms), false);

/** RFC 6533 §3: an address beyond ASCII in a report that must stay ASCII. */
const typedAddress = (type: string, address: string, utf8: boolean): string =>
  `${type}; ${utf8 || type !== 'utf-8' ? address : encodeUtf8Address(address)}`;

/** RFC 3464 §2.3 */
function recipientFields(recipient: DsnRecipient, utf8: boolean): string {
  const { address, orcpt, action, status, diagnostic, remoteMta } = recipient;
  const type = needsSmtputf8(address) ? 'utf-8' : 'rfc822';
  return [
    field('Original-Recipient', orcpt && typedAddress(orcpt.type.toLowerCase(), orcpt.address, utf8), utf8),
    field('Final-Recipient', typedAddress(type, address.text, utf8), utf8),
    field('Action', action, utf8),
    field('Status', status, utf8),
    field('Remote-MTA', remoteMta && `dns; ${remoteMta}`, utf8),
    field('Diagnostic-Code', diagnostic && `smtp; ${diagnostic}`, utf8),
    dateField('Last-Attempt-Date', recipient.lastAttempt),
    dateField('Will-Retry-Until', action === 'delayed' ? recipient.retryUntil : undefined),
  ].join('');
}

function statusPart({ hostname, envid, arrivedAt, recipients }: DsnRequest, utf8: boolean): string {
  const message = [
    field('Original-Envelope-Id', envid, utf8),
    field('Reporting-MTA', `dns; ${hostname}`, utf8),
    dateField('Arrival-Date', arrivedAt),
  ].join('');
  return [message, ...recipients.map(recipient => recipientFields(recipient, utf8))].join('\r\n');
}

/** RFC 3461 §6.2: the whole message only for a failure and where it was wanted. */
function returnsFull({ recipients, ret, original, maxReturnBytes = 1024 * 1024 }: DsnRequest): boolean {
  return ret === 'FULL' && original.size <= maxReturnBytes && recipients.some(({ action }) => action === 'failed');
}

const isAscii = (bytes: Buffer): boolean => !/[^\x00-\x7f]/.test(bytes.toString('latin1'));

function returnedPart(
  request: DsnRequest,
  utf8: boolean,
): { readonly type: string; readonly eightBit: boolean; readonly rope: Rope } {
  const { original } = request;
  const rope = returnsFull(request) ? original.rope : sliceRope(original.rope, 0, original.headers.size);
  const buffers = inMemory(rope);
  const eightBit = !buffers?.every(isAscii);
  // RFC 6533 §4: message/global and message/global-headers where the header itself is UTF-8.
  const global = utf8 || !isAscii(original.headers.raw);
  if (returnsFull(request)) return { type: global ? 'message/global' : 'message/rfc822', eightBit, rope };
  return { type: global ? 'message/global-headers' : 'text/rfc822-headers', eightBit, rope };
}

const partHead = (boundary: string, type: string, eightBit: boolean, description: string): string =>
  crlf([
    `--${boundary}`,
    `Content-Type: ${type}`,
    `Content-Description: ${description}`,
    ...(eightBit ? ['Content-Transfer-Encoding: 8bit'] : []),
    '',
  ]);

function topHeader(request: DsnRequest, boundary: string, utf8: boolean, eightBit: boolean): string {
  const { hostname, to, at, original, recipients, unique = randomUUID() } = request;
  const action = order.find(each => recipients.some(recipient => recipient.action === each)) ?? 'failed';
  const [about] = parseMessageIds(original.headers.get('message-id')?.value ?? '', 1);
  return [
    dateField('Date', at),
    field('From', `Mail Delivery System <MAILER-DAEMON@${hostname}>`, utf8),
    field('To', `<${to.text}>`, utf8),
    field('Subject', encodeWords(subjects[action]), utf8),
    field('Message-ID', `<${unique}.dsn@${hostname}>`, utf8),
    field('In-Reply-To', about, utf8),
    field('References', about, utf8),
    // RFC 3834 §5
    'Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n',
    `Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="${boundary}"\r\n`,
    eightBit ? 'Content-Transfer-Encoding: 8bit\r\n' : '',
    '\r\n',
  ].join('');
}

export interface Dsn {
  readonly rope: Rope;
  /** Addresses in it are UTF-8: it can travel only with SMTPUTF8. */
  readonly smtputf8: boolean;
  /** Wants BODY=8BITMIME. */
  readonly eightBit: boolean;
}

/** The report as a complete message. Recipients of several actions may share one; the Subject tells the gravest. */
export function buildDsn(request: DsnRequest): Dsn {
  if (request.recipients.length === 0) throw new RangeError('Cannot build a DSN about no recipient');
  // A sender with an ASCII address may have no way to receive SMTPUTF8: then the report is ASCII, addresses encoded.
  const utf8 = needsSmtputf8(request.to);
  const boundary = `=_dsn_${randomUUID()}`;
  const human = humanPart(request);
  const wideHuman = !/^[\x00-\x7f]*$/.test(human);
  const returned = returnedPart(request, utf8);
  const eightBit = returned.eightBit || wideHuman || utf8;
  const head = [
    topHeader(request, boundary, utf8, eightBit),
    partHead(boundary, 'text/plain; charset=utf-8', wideHuman, 'Notification'),
    human,
    '\r\n',
    partHead(boundary, utf8 ? 'message/global-delivery-status' : 'message/delivery-status', utf8, 'Delivery report'),
    statusPart(request, utf8),
    '\r\n',
    partHead(boundary, returned.type, returned.eightBit, 'Original message'),
  ].join('');
  const tail = `\r\n--${boundary}--\r\n`;
  const rope = concatRopes(bufferRope(Buffer.from(head)), returned.rope, bufferRope(Buffer.from(tail)));
  return { rope, smtputf8: utf8, eightBit };
}
