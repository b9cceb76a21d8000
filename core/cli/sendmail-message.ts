// From what a program writes to standard input to the message that enters the maildrop: line ends become CRLF, a lone dot
// ends it unless -i, the header section is completed (RFC 6409 §8) and Bcc goes (RFC 5322 §3.6.3 lets us remove it).
import { mailboxesOf, parseAddressList } from '../mail/address-list.ts';
import { formatDate } from '../mail/date.ts';
import { encodeWords } from '../mail/encoded-words.ts';
import { editHeaders, type HeaderEdit } from '../mail/header-edit.ts';
import { type HeaderList, parseHeaders } from '../mail/headers.ts';

/** The message cannot be read as mail; sysexits EX_DATAERR. */
export class MessageDataError extends Error {
  override readonly name = 'MessageDataError';
}

const CR = 0x0d;
const LF = 0x0a;
const crlf = Buffer.from('\r\n');

/** Lines with their end as CRLF; the last one gets one too. A line is held whole: `maxSize` bounds it. */
export async function* canonicalLines(
  input: AsyncIterable<Buffer | string>,
  options: { readonly ignoreDots: boolean; readonly maxSize: number },
): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let size = 0;
  const lineOf = (tail: Buffer): Buffer => {
    const line = held.length === 0 ? tail : Buffer.concat([...held, tail]);
    held = [];
    return line.at(-1) === CR ? line.subarray(0, -1) : line;
  };
  const isEnd = (line: Buffer): boolean => !options.ignoreDots && line.length === 1 && line[0] === 0x2e;
  for await (const given of input) {
    const chunk = typeof given === 'string' ? Buffer.from(given) : given;
    size += chunk.length;
    if (size > options.maxSize) throw new MessageDataError(`Message is larger than ${options.maxSize} bytes`);
    if (chunk.includes(0)) throw new MessageDataError('Message contains NUL');
    let start = 0;
    const out: Buffer[] = [];
    for (let end = chunk.indexOf(LF, start); end >= 0; end = chunk.indexOf(LF, start)) {
      const line = lineOf(chunk.subarray(start, end));
      start = end + 1;
      if (isEnd(line)) {
        if (out.length > 0) yield Buffer.concat(out);
        return;
      }
      out.push(line, crlf);
    }
    if (start < chunk.length) held.push(chunk.subarray(start));
    if (out.length > 0) yield Buffer.concat(out);
  }
  if (held.length === 0) return;
  const last = lineOf(Buffer.alloc(0));
  if (!isEnd(last)) yield Buffer.concat([last, crlf]);
}

export interface SplitMessage {
  readonly headers: HeaderList;
  /** What was read beyond the header section, empty line included, and the rest. */
  readonly body: AsyncIterable<Buffer>;
}

/** RFC 5322 §2.2: `name:`; a first line of mbox (`From bob …`) is dropped as sendmail does. */
const fieldLine = /^[\x21-\x39\x3b-\x7e]+[ \t]*:|^[ \t]/;

/** The header section ends at the empty line, or at the first line that is no field: then an empty line is put there. */
export async function splitMessage(lines: AsyncGenerator<Buffer>, maxHeaderBytes: number): Promise<SplitMessage> {
  let read = Buffer.alloc(0);
  let at = 0;
  const section: Buffer[] = [];
  let sectionBytes = 0;
  let bodyStart: Buffer | undefined;
  let done = false;
  while (bodyStart === undefined) {
    const end = read.indexOf(crlf, at);
    if (end < 0) {
      const next = done ? undefined : await lines.next();
      if (next === undefined || next.done) {
        done = true;
        bodyStart = crlf;
        break;
      }
      read = Buffer.concat([read.subarray(at), next.value]);
      at = 0;
      continue;
    }
    const line = read.subarray(at, end + 2);
    const text = line.toString('latin1');
    if (section.length === 0 && text.startsWith('From ')) {
      at = end + 2;
      continue;
    }
    if (line.length === 2) bodyStart = read.subarray(at);
    else if (!fieldLine.test(text)) bodyStart = Buffer.concat([crlf, read.subarray(at)]);
    else {
      section.push(line);
      at = end + 2;
      sectionBytes += line.length;
      if (sectionBytes > maxHeaderBytes)
        throw new MessageDataError(`Header section is larger than ${maxHeaderBytes} bytes`);
    }
  }
  const first = bodyStart;
  async function* body(): AsyncGenerator<Buffer> {
    yield first;
    if (!done) yield* lines;
  }
  return { headers: parseHeaders(Buffer.concat(section)), body: body() };
}

/** Recipients that the header names: the Resent fields alone where there are some (RFC 5322 §3.6.6). */
export function headerRecipients(headers: HeaderList): readonly string[] {
  const names = ['to', 'cc', 'bcc'];
  const resent = names.map(name => `resent-${name}`);
  const chosen = resent.some(name => headers.has(name)) ? resent : names;
  const boxes = chosen.flatMap(name => headers.all(name).flatMap(field => mailboxesOf(parseAddressList(field.value))));
  const texts = boxes.map(({ local, domain }) => (domain === '' ? local : `${quoted(local)}@${domain}`));
  return [...new Set(texts.filter(text => text !== ''))];
}

const quoted = (local: string): string =>
  /^[^\s"(),:;<>@[\\\]]+$/.test(local) ? local : `"${local.replace(/["\\]/g, '\\$&')}"`;

export interface Completion {
  readonly from: { readonly address: string; readonly name?: string };
  readonly messageId: string;
  readonly now: number;
  readonly zoneMinutes: number;
}

/** The header section without Bcc and with From, Date and Message-ID. */
export function completeHeaders(headers: HeaderList, { from, messageId, now, zoneMinutes }: Completion): Buffer {
  const edits: HeaderEdit[] = ['Bcc', 'Resent-Bcc'].map(name => ({ kind: 'remove-header', name }));
  const add = (name: string, value: string): void =>
    void (headers.has(name) || edits.push({ kind: 'add-header', name, value, at: 'bottom' }));
  const name = from.name === undefined || from.name === '' ? '' : phrase(from.name);
  add('From', name === '' ? from.address : `${name} <${from.address}>`);
  add('Date', formatDate(now, zoneMinutes));
  add('Message-ID', messageId);
  return editHeaders(headers, edits);
}

function phrase(name: string): string {
  if (/[^\x20-\x7e]/.test(name)) return encodeWords(name);
  return /^[\w!#$%&'*+/=?^`{|}~ -]+$/.test(name) ? name : `"${name.replace(/["\\]/g, '\\$&')}"`;
}
