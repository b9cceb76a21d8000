// MAIL, RCPT and XFORWARD/XCLIENT lines for one message and one server, or why it cannot be sent there.
import type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
import type { Reply } from '../mail/reply.ts';
import { type Rope, ropeChunks } from '../mail/rope.ts';
import { toSevenBit } from '../mail/seven-bit.ts';
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
interface ContentFacts {
  /** RFC 6532: its header needs SMTPUTF8. */
  utf8Header(): Promise<boolean>;
  has8Bit(): Promise<boolean>;
}

function contentFacts(form: Rope): ContentFacts {
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

/** What is sent as the message: as it is, or converted for this server. */
interface Content {
  readonly size: number;
  chunks(): AsyncIterable<Buffer>;
  /** The BODY parameter of MAIL (RFC 6152 §2, RFC 3030 §3). */
  readonly body?: 'BODY=8BITMIME' | 'BODY=BINARYMIME';
  readonly converted?: true;
}

/** The content as this server takes it, or why it cannot be sent there. `convert`: to 7-bit, where it must be. */
async function contentFor(
  { envelope: { body: declared }, form }: RelayJob,
  session: SmtpSession,
  facts: ContentFacts,
  convert: boolean,
): Promise<Content | Refusal> {
  const asItIs = { size: form.size, chunks: () => ropeChunks(form) };
  const binary = declared === 'BINARYMIME';
  if (binary && session.has('BINARYMIME') && session.has('CHUNKING')) return { ...asItIs, body: 'BODY=BINARYMIME' };
  if (!binary && session.has('8BITMIME')) return declared === '7BIT' ? asItIs : { ...asItIs, body: 'BODY=8BITMIME' };
  // Many clients send 8-bit content and do not say so, or say that it is none.
  if (!binary && !(await facts.has8Bit())) return asItIs;
  const kind = binary ? 'binary' : '8-bit';
  const lacks = `No ${binary ? 'BINARYMIME' : '8BITMIME'} at the next hop`;
  const made = convert
    ? await toSevenBit(form, binary)
    : ({ kind: 'impossible', why: 'its route says bounce' } as const);
  if (made.kind === 'converted') return { ...made, converted: true };
  return unsupported(`Destination cannot take ${kind} content`, '5.6.3', `${lacks}, and no conversion: ${made.why}`);
}

/** What goes to this server, or why it cannot take the message. `convert`: 8-bit content to 7-bit, where it must be. */
export async function prepare(
  job: RelayJob,
  recipients: readonly Recipient[],
  session: SmtpSession,
  convert: boolean,
): Promise<{ readonly mail: string; readonly content: Content } | Refusal> {
  const { sender, envelope } = job;
  const from = sender?.text ?? '';
  const addresses = [from, ...recipients.map(each => each.address.text)];
  if (addresses.some(each => unsafe.test(each)))
    return unsupported('Address cannot be sent', '5.1.3', 'Control characters in an address');
  const facts = contentFacts(job.form);
  const utf8 = !addresses.every(isAscii) || (envelope.smtputf8 && (await facts.utf8Header()));
  // RFC 6531 §3.5: no downgrade, a bounce with 5.6.7.
  if (utf8 && !session.has('SMTPUTF8'))
    return unsupported('Destination cannot take internationalised mail', '5.6.7', 'No SMTPUTF8 at the next hop');
  const content = await contentFor(job, session, facts, convert);
  if ('reply' in content) return content;
  const limit = Number(session.parameter('SIZE') || 0);
  if (limit > 0 && content.size > limit)
    return {
      reply: { code: 552, enhanced: '5.3.4', text: 'Message is too big for the destination' },
      why: `Size ${content.size} is above the limit of the next hop, ${limit}`,
    };
  return { mail: mailLine(from, envelope, session, content, utf8), content };
}

function mailLine(
  from: string,
  { requireTls, ret, envid }: RelayJob['envelope'],
  session: SmtpSession,
  { size, body }: Content,
  utf8: boolean,
): string {
  const parameters: string[] = [];
  if (session.has('SIZE')) parameters.push(`SIZE=${size}`);
  if (utf8) parameters.push('SMTPUTF8');
  if (body !== undefined) parameters.push(body);
  // RFC 8689 §4.2.1; the caller made sure that the connection is fit for it.
  if (requireTls) parameters.push('REQUIRETLS');
  if (session.has('DSN')) {
    if (ret !== undefined) parameters.push(`RET=${ret}`);
    if (envid !== undefined) parameters.push(`ENVID=${encodeXtext(envid)}`);
  }
  return [`MAIL FROM:<${from}>`, ...parameters].join(' ');
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
