// Values of Content-Type and Content-Disposition: RFC 2045 §5.1, RFC 2183 §2, parameters continued and encoded by
// RFC 2231. Read tolerantly and in one pass: unquoted values with spaces, missing semicolons and stray ones occur.
import { decodeText } from './charset.ts';

export interface ContentType {
  /** Lower case, e.g. `text`. */
  readonly type: string;
  /** Lower case, e.g. `plain`. */
  readonly subtype: string;
  /** Lower-case names; values decoded by RFC 2231 where they were encoded so. */
  readonly params: ReadonlyMap<string, string>;
}

export interface Disposition {
  /** Lower case, e.g. `attachment`. */
  readonly type: string;
  readonly params: ReadonlyMap<string, string>;
}

/** A value with its parameters in the order and with the names (lower case) they were written: not decoded. */
export interface ParameterizedValue {
  /** What stands before the first `;`, white space and comments removed. */
  readonly head: string;
  readonly params: readonly (readonly [name: string, value: string])[];
}

const maxParams = 200;

/** Removes comments (RFC 5322 §3.2.2) outside quoted strings. */
function stripComments(value: string): string {
  if (!value.includes('(')) return value;
  let out = '';
  let depth = 0;
  let quoted = false;
  let last = 0;
  for (let at = 0; at < value.length; at++) {
    const character = value[at];
    if (character === '\\') at++;
    else if (character === '"' && depth === 0) quoted = !quoted;
    else if (character === '(' && !quoted) {
      if (depth++ === 0) out += value.slice(last, at);
    } else if (character === ')' && depth > 0 && --depth === 0) last = at + 1;
  }
  // A comment that never ends is no comment: a name such as `report(1.pdf` must not vanish.
  return depth > 0 ? value : out + value.slice(last);
}

/** Splits at `;` outside quoted strings. */
function splitParams(value: string): readonly string[] {
  const parts: string[] = [];
  let quoted = false;
  let start = 0;
  for (let at = 0; at < value.length && parts.length < maxParams; at++) {
    const character = value[at];
    if (quoted && character === '\\') at++;
    else if (character === '"') quoted = !quoted;
    else if (character === ';' && !quoted) {
      parts.push(value.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(value.slice(start));
  return parts;
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  const end = /^"([^"\\]*(?:\\.[^"\\]*)*)"?/s.exec(text)?.[1] ?? '';
  return end.replace(/\\(.)/gs, '$1');
}

/** An unfolded value taken apart; parameters beyond a bound are dropped. */
export function splitValue(value: string): ParameterizedValue {
  const [head = '', ...rest] = splitParams(stripComments(value));
  const params: (readonly [string, string])[] = [];
  for (const part of rest) {
    const equals = part.indexOf('=');
    const name = (equals < 0 ? part : part.slice(0, equals)).trim().toLowerCase();
    if (equals < 0 || name === '') continue;
    params.push([name, unquote(part.slice(equals + 1).trim())]);
  }
  return { head: head.trim(), params };
}

interface Segment {
  readonly index: number;
  readonly encoded: boolean;
  readonly value: string;
}

/** RFC 2231 §4: `charset'language'text`, percent-encoded. */
const percentBytes = (text: string): Buffer =>
  Buffer.from(
    text.replace(/%([\da-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    /[^\x00-\xff]/.test(text) ? 'utf8' : 'latin1',
  );

/** RFC 2231 §3, §4.1: segments in the order of their numbers, up to the first one that is missing. */
function joinSegments(segments: readonly Segment[]): string {
  const ordered = [...segments].sort((a, b) => a.index - b.index);
  let charset = 'utf-8';
  let text = '';
  let encoded: Buffer[] = [];
  const close = (): void => {
    if (encoded.length > 0) text += decodeText(Buffer.concat(encoded), charset);
    encoded = [];
  };
  let expected = 0;
  for (const segment of ordered) {
    if (segment.index !== expected) break;
    expected++;
    if (!segment.encoded) {
      close();
      text += segment.value;
      continue;
    }
    const intro = segment.index === 0 ? /^([^']*)'[^']*'/.exec(segment.value) : null;
    if (intro) charset = intro[1] || 'us-ascii';
    encoded.push(percentBytes(segment.value.slice(intro?.[0].length ?? 0)));
  }
  close();
  return text;
}

/** Decoded parameters by lower-case name; of a repeated one the first counts, an encoded form before a plain one. */
function decodeParams(params: ParameterizedValue['params']): ReadonlyMap<string, string> {
  const plain = new Map<string, string>();
  const segments = new Map<string, Segment[]>();
  for (const [name, value] of params) {
    const match = /^([^*]+)\*(?:(\d{1,4})(\*?))?$/.exec(name);
    if (!match) {
      if (!plain.has(name)) plain.set(name, value);
      continue;
    }
    const [, base = '', index, star] = match;
    const list = segments.get(base) ?? [];
    list.push({ index: Number(index ?? 0), encoded: index === undefined || star === '*', value });
    segments.set(base, list);
  }
  for (const [name, list] of segments) {
    const text = joinSegments(list);
    if (text !== '' || !plain.has(name)) plain.set(name, text);
  }
  return plain;
}

// RFC 2045 §5.1 token
const token = /^[^\x00-\x20\x7f()<>@,;:\\"/[\]?=]+$/;

/** Undefined where there is no valid `type/subtype` (RFC 2045 §5.2: then it is text/plain). */
export function parseContentType(value: string): ContentType | undefined {
  const { head, params } = splitValue(value);
  // `text/plain charset=…` without the semicolon is common enough.
  const [, type = '', subtype = '', rest = ''] = /^([^/\s]+)\s*\/\s*([^\s]+)\s*(.*)$/s.exec(head) ?? [];
  if (!token.test(type) || !token.test(subtype)) return undefined;
  const late = rest === '' ? [] : splitValue(`;${rest}`).params;
  return { type: type.toLowerCase(), subtype: subtype.toLowerCase(), params: decodeParams([...late, ...params]) };
}

/** Undefined where the value has no type. RFC 2183 §2.8: unknown types are for the caller to treat as `attachment`. */
export function parseDisposition(value: string): Disposition | undefined {
  const { head, params } = splitValue(value);
  const type = head.split(/\s/, 1)[0] ?? '';
  return token.test(type) ? { type: type.toLowerCase(), params: decodeParams(params) } : undefined;
}
