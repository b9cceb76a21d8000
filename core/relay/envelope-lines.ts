// MAIL, RCPT and XFORWARD/XCLIENT lines for one message and one server, or why it cannot be sent there.
import type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
import type { Reply } from '../mail/reply.ts';
import { type Rope, ropeChunks } from '../mail/rope.ts';
import { encodeXtext } from '../mail/xtext.ts';
import type { SmtpSession } from './session.ts';

/** Who gave us the message; the shape of the queue's `ClientFacts`. */
export interface RelayClient {
  readonly address: string;
  readonly port?: number;
  readonly name?: string;
  readonly helo?: string;
  readonly protocol?: string;
  readonly identity?: string;
}

/** The shape of the queue's `DeliveryJob`. */
export interface RelayJob {
  readonly id: string;
  readonly sender: ReversePath;
  readonly envelope: Omit<Envelope, 'recipients' | 'sender'>;
  readonly form: Rope;
  readonly client?: RelayClient;
}

export interface Refusal {
  readonly reply: Reply<5>;
  readonly why: string;
}

const unsafe = /[\x00-\x1f\x7f]/;
const isAscii = (text: string): boolean => /^[\x20-\x7e]*$/.test(text);

/** Facts about the message that some servers cannot take; looked up once, when first needed. */
export interface ContentFacts {
  /** RFC 6532: its header needs SMTPUTF8. */
  utf8Header(): Promise<boolean>;
  has8Bit(): Promise<boolean>;
}

export function contentFacts(form: Rope): ContentFacts {
  let facts: Promise<{ readonly header: boolean; readonly all: boolean }> | undefined;
  const look = () => {
    facts ??= scan(form);
    return facts;
  };
  return { utf8Header: async () => (await look()).header, has8Bit: async () => (await look()).all };
}

async function scan(form: Rope) {
  let header = false;
  let all = false;
  let inHeader = true;
  let tail: Buffer = Buffer.alloc(0);
  for await (const chunk of ropeChunks(form)) {
    const end = inHeader ? Buffer.concat([tail, chunk]).indexOf('\r\n\r\n') : -1;
    const headerBytes = inHeader
      ? end < 0
        ? chunk
        : chunk.subarray(0, Math.max(0, end - tail.length))
      : chunk.subarray(0, 0);
    header ||= headerBytes.some(byte => byte > 0x7f);
    all ||= header || chunk.some(byte => byte > 0x7f);
    if (end >= 0) inHeader = false;
    tail = chunk.subarray(-3);
    if (all && !inHeader) break;
  }
  return { header, all };
}

const unsupported = (text: string, enhanced: Reply<5>['enhanced'], why: string): Refusal => ({
  reply: { code: 554, enhanced, text },
  why,
});

/** The MAIL line, or why this server cannot take the message. */
export async function mailLine(
  job: RelayJob,
  recipients: readonly Recipient[],
  session: SmtpSession,
  facts: ContentFacts,
): Promise<string | Refusal> {
  const { sender, envelope, form } = job;
  const from = sender?.text ?? '';
  const addresses = [from, ...recipients.map(each => each.address.text)];
  if (addresses.some(each => unsafe.test(each)))
    return unsupported('Address cannot be sent', '5.1.3', 'Control characters in an address');
  const parameters: string[] = [];
  if (session.has('SIZE')) {
    const limit = Number(session.parameter('SIZE') || 0);
    if (limit > 0 && form.size > limit)
      return {
        reply: { code: 552, enhanced: '5.3.4', text: 'Message is too big for the destination' },
        why: `Size ${form.size} is above the limit of the next hop, ${limit}`,
      };
    parameters.push(`SIZE=${form.size}`);
  }
  const utf8 = !addresses.every(isAscii) || (envelope.smtputf8 && (await facts.utf8Header()));
  if (utf8) {
    // RFC 6531 §3.5: no downgrade, a bounce with 5.6.7.
    if (!session.has('SMTPUTF8'))
      return unsupported('Destination cannot take internationalised mail', '5.6.7', 'No SMTPUTF8 at the next hop');
    parameters.push('SMTPUTF8');
  }
  const body = await bodyParameter(envelope.body, session, facts);
  if (typeof body !== 'string') return body;
  if (body !== '') parameters.push(body);
  // RFC 8689 §4.2.1; the caller made sure that the connection is fit for it.
  if (envelope.requireTls) parameters.push('REQUIRETLS');
  if (session.has('DSN')) {
    if (envelope.ret !== undefined) parameters.push(`RET=${envelope.ret}`);
    if (envelope.envid !== undefined) parameters.push(`ENVID=${encodeXtext(envelope.envid)}`);
  }
  return [`MAIL FROM:<${from}>`, ...parameters].join(' ');
}

/** RFC 6152 §2, RFC 3030 §3. */
async function bodyParameter(
  declared: Envelope['body'],
  session: SmtpSession,
  facts: ContentFacts,
): Promise<string | Refusal> {
  if (declared === 'BINARYMIME') {
    if (session.has('BINARYMIME') && session.has('CHUNKING')) return 'BODY=BINARYMIME';
    return unsupported('Destination cannot take binary content', '5.6.3', 'No BINARYMIME at the next hop');
  }
  if (declared === '7BIT') return '';
  // Many clients send 8-bit content and do not say so.
  if (session.has('8BITMIME')) return 'BODY=8BITMIME';
  if (await facts.has8Bit())
    return unsupported('Destination cannot take 8-bit content', '5.6.3', 'No 8BITMIME at the next hop');
  return '';
}

/** RFC 3461 §4.1 and §4.2. */
export function rcptLine(recipient: Recipient, session: SmtpSession): string {
  const line = `RCPT TO:<${recipient.address.text}>`;
  if (!session.has('DSN')) return line;
  const notify = recipient.notify === undefined ? '' : ` NOTIFY=${recipient.notify.join(',').toUpperCase()}`;
  const { orcpt } = recipient;
  return `${line}${notify}${orcpt === undefined ? '' : ` ORCPT=${orcpt.type};${encodeXtext(orcpt.address)}`}`;
}

const attribute = (value: string | number | undefined, missing: string): string =>
  value === undefined || value === '' ? missing : encodeXtext(String(value));
const addressOf = (client: RelayClient): string =>
  client.address.includes(':') ? `IPV6:${client.address}` : client.address;

/** Postfix XFORWARD_README. Only attributes that the server names. */
export function xforwardLines(job: RelayJob, session: SmtpSession): readonly string[] {
  const { client } = job;
  const offered = session.parameter('XFORWARD')?.toUpperCase().split(' ') ?? [];
  if (!client || offered.length === 0) return [];
  const values: readonly (readonly [string, string])[] = [
    ['NAME', attribute(client.name, '[UNAVAILABLE]')],
    ['ADDR', attribute(addressOf(client), '[UNAVAILABLE]')],
    ['PORT', attribute(client.port, '[UNAVAILABLE]')],
    ['PROTO', attribute(client.protocol, '[UNAVAILABLE]')],
    ['HELO', attribute(client.helo, '[UNAVAILABLE]')],
    ['IDENT', attribute(job.id, '[UNAVAILABLE]')],
    ['SOURCE', 'REMOTE'],
  ];
  const wanted = values.filter(([name]) => offered.includes(name)).map(([name, value]) => `${name}=${value}`);
  return wanted.length === 0 ? [] : [`XFORWARD ${wanted.join(' ')}`];
}

/** Postfix XCLIENT_README. */
export function xclientLine(job: RelayJob, session: SmtpSession): string | undefined {
  const { client } = job;
  const offered = session.parameter('XCLIENT')?.toUpperCase().split(' ') ?? [];
  if (!client || offered.length === 0) return undefined;
  const values: readonly (readonly [string, string])[] = [
    ['NAME', attribute(client.name, '[UNAVAILABLE]')],
    ['ADDR', attribute(addressOf(client), '[UNAVAILABLE]')],
    ['PORT', attribute(client.port, '[UNAVAILABLE]')],
    ['PROTO', client.protocol === 'SMTP' ? 'SMTP' : 'ESMTP'],
    ['HELO', attribute(client.helo, '[UNAVAILABLE]')],
    ['LOGIN', attribute(client.identity, '[UNAVAILABLE]')],
  ];
  const wanted = values.filter(([name]) => offered.includes(name)).map(([name, value]) => `${name}=${value}`);
  return wanted.length === 0 ? undefined : `XCLIENT ${wanted.join(' ')}`;
}
