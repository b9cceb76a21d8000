// Search in a mailbox (RFC 3501 §6.4.4), linear: what the index record decides is decided there, and only messages that
// it leaves open are read. Text is compared decoded, folded and as a substring, in headers (RFC 2047) and in text parts
// (transfer encodings and charsets). Bounded: so many bytes of a part, and other work gets its turn between messages.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { decodeBodyText } from '../mail/body.ts';
import { decodeWords } from '../mail/encoded-words.ts';
import type { HeaderList } from '../mail/headers.ts';
import type { Message } from '../mail/message.ts';
import type { MimePart } from '../mail/mime.ts';
import { emailId } from './email-id.ts';
import type { Mailbox, MessageRecord } from './mailbox.ts';

export type SearchKey =
  /** What the index record alone decides: flags, sizes, dates, numbers. */
  | { readonly kind: 'record'; test(record: MessageRecord): boolean }
  | { readonly kind: 'not'; readonly key: SearchKey }
  | { readonly kind: 'and' | 'or'; readonly keys: readonly SearchKey[] }
  /** `text` in a field of that name, as `foldText` gives it; `''`: there is such a field. */
  | { readonly kind: 'header'; readonly name: string; readonly text: string }
  /** In the body: text parts and the headers of parts. */
  | { readonly kind: 'body'; readonly text: string }
  /** In the header or the body. */
  | { readonly kind: 'text'; readonly text: string }
  /** EMAILID (RFC 8474 §5.4). */
  | { readonly kind: 'email-id'; readonly id: string }
  /** Day of the Date field as written, disregarding time and zone: ms of its midnight, `from` inclusive, `to` exclusive. */
  | { readonly kind: 'sent'; readonly from: number; readonly to: number };

export interface SearchOptions {
  /** Ends the search with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Decoded bytes of a text part that are looked at. Default 4 MiB. */
  readonly maxPartBytes?: number;
}

const defaultMaxPartBytes = 4 * 1024 * 1024;
/** Work between two turns for others: keys asked of index records, characters looked through. */
const asksPerTurn = 50_000;
const charactersPerTurn = 8 * 1024 * 1024;

/** Form in which text is compared: case and compatibility variants do not matter (RFC 5051 in spirit). */
export const foldText = (text: string): string => text.normalize('NFKC').toLowerCase();

/** Those of `records` that match, in their order. A message that is gone does not match. */
export async function searchMailbox(
  mailbox: Mailbox,
  records: readonly MessageRecord[],
  key: SearchKey,
  options: SearchOptions = {},
): Promise<readonly MessageRecord[]> {
  const found: MessageRecord[] = [];
  const keys = countKeys(key);
  let asked = 0;
  for (const record of records) {
    const known = byRecord(key, record);
    if (known ?? (await byMessage(mailbox, record, key, options))) found.push(record);
    asked += known === undefined ? asksPerTurn / 8 : keys;
    if (asked >= asksPerTurn) {
      asked = 0;
      await nextTurn();
      options.signal?.throwIfAborted();
    }
  }
  return found;
}

function countKeys(key: SearchKey): number {
  if (key.kind === 'not') return 1 + countKeys(key.key);
  return key.kind === 'and' || key.kind === 'or' ? key.keys.reduce((sum, part) => sum + countKeys(part), 1) : 1;
}

/** Undefined where the message must be read. */
function byRecord(key: SearchKey, record: MessageRecord): boolean | undefined {
  switch (key.kind) {
    case 'record':
      return key.test(record);
    case 'not': {
      const inner = byRecord(key.key, record);
      return inner === undefined ? undefined : !inner;
    }
    case 'and':
    case 'or': {
      // The value that settles it: false for `and`, true for `or`.
      const settles = key.kind === 'or';
      let open = false;
      for (const part of key.keys) {
        const value = byRecord(part, record);
        if (value === settles) return settles;
        if (value === undefined) open = true;
      }
      return open ? undefined : !settles;
    }
    default:
      return undefined;
  }
}

async function byMessage(
  mailbox: Mailbox,
  record: MessageRecord,
  key: SearchKey,
  options: SearchOptions,
): Promise<boolean> {
  const message = await mailbox.message(record.uid);
  const content = message && new Content(message, options, () => emailId(mailbox, record.uid));
  return content !== undefined && matches(content, record, key);
}

async function matches(content: Content, record: MessageRecord, key: SearchKey): Promise<boolean> {
  switch (key.kind) {
    case 'record':
      return key.test(record);
    case 'not':
      return !(await matches(content, record, key.key));
    case 'and':
    case 'or': {
      const settles = key.kind === 'or';
      // What needs no body is asked first.
      for (const part of [...key.keys].sort((a, b) => cost(a) - cost(b)))
        if ((await matches(content, record, part)) === settles) return settles;
      return !settles;
    }
    case 'header':
      return hasField(content.message.headers, key.name, key.text);
    case 'sent': {
      const day = sentDay(content.message.headers);
      return day !== undefined && day >= key.from && day < key.to;
    }
    case 'email-id':
      return (await content.emailId()) === key.id;
    case 'text':
      return headersContain(content.message.headers, key.text) || content.bodyContains(key.text);
    case 'body':
      return content.bodyContains(key.text);
  }
}

function cost(key: SearchKey): number {
  switch (key.kind) {
    case 'record':
      return 0;
    case 'header':
    case 'sent':
      return 1;
    case 'not':
      return cost(key.key);
    case 'and':
    case 'or':
      return Math.max(0, ...key.keys.map(cost));
    default:
      return 2;
  }
}

/** RFC 3501 §6.4.4, HEADER: an empty string matches every message that has the field. */
function hasField(headers: HeaderList, name: string, text: string): boolean {
  return headers.all(name).some(field => text === '' || foldText(decodeWords(field.value)).includes(text));
}

function headersContain(headers: HeaderList, text: string): boolean {
  if (text === '') return true;
  for (const field of headers) if (foldText(`${field.name}: ${decodeWords(field.value)}`).includes(text)) return true;
  return false;
}

const months = 'jan feb mar apr may jun jul aug sep oct nov dec'.split(' ');

function sentDay(headers: HeaderList): number | undefined {
  const match = /(\d{1,2})[ \t-]+([A-Za-z]{3})[a-z]*[ \t-]+(\d{4}|\d{2})\b/.exec(headers.get('Date')?.value ?? '');
  const month = months.indexOf((match?.[2] ?? '').toLowerCase());
  if (!match || month < 0) return undefined;
  const given = Number(match[3]);
  // RFC 5322 §4.3, obs-year.
  const year = given >= 100 ? given : given < 50 ? 2000 + given : 1900 + given;
  return Date.UTC(year, month, Number(match[1]));
}

/** A message during one search: texts of its parts are decoded once, however many keys look at them. */
class Content {
  readonly message: Message;
  private readonly maxPartBytes: number;
  private readonly texts = new Map<MimePart, string>();
  readonly emailId: () => Promise<string | undefined>;
  private looked = 0;

  constructor(message: Message, options: SearchOptions, id: () => Promise<string | undefined>) {
    this.message = message;
    this.emailId = id;
    this.maxPartBytes = options.maxPartBytes ?? defaultMaxPartBytes;
  }

  async bodyContains(text: string): Promise<boolean> {
    return text === '' || this.partContains(await this.message.mime(), text, false);
  }

  private async partContains(part: MimePart, text: string, withHeaders: boolean): Promise<boolean> {
    if (withHeaders && headersContain(part.headers, text)) return true;
    if (part.message) return this.partContains(part.message, text, true);
    for (const child of part.parts) if (await this.partContains(child, text, true)) return true;
    if (part.contentType.type !== 'text') return false;
    const whole = await this.textOf(part);
    this.looked += whole.length;
    if (this.looked > charactersPerTurn) {
      this.looked = 0;
      await nextTurn();
    }
    return whole.includes(text);
  }

  private async textOf(part: MimePart): Promise<string> {
    const known = this.texts.get(part);
    if (known !== undefined) return known;
    const text = foldText(await decodeBodyText(this.message.rope, part, this.maxPartBytes));
    this.texts.set(part, text);
    return text;
  }
}
