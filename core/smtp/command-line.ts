// The grammar of SMTP commands: RFC 5321 §4.1.2 with its ESMTP parameters (esmtp-param). Knows characters, not sessions.
import { decodeXtext } from '../mail/xtext.ts';

export interface CommandLine {
  /** Upper case. */
  readonly verb: string;
  /** What follows the verb, white space trimmed at both ends. */
  readonly args: string;
}

/** Splits a line. The verb is what stands before the first white space. */
export function splitCommand(line: string): CommandLine {
  const match = /^(\S*)\s*(.*)$/s.exec(line);
  return { verb: (match?.[1] ?? '').toUpperCase(), args: (match?.[2] ?? '').trimEnd() };
}

/** Controls other than tab have no place in a command: they would end up in replies, header fields and logs. */
export const hasControls = (line: string): boolean => /[\x00-\x08\x0a-\x1f\x7f]/.test(line);

/**
 * Where a path `<…>` that begins `text` ends (behind the bracket); -1 when it does not. A quoted local part may hold `>`,
 * spaces and escaped characters (RFC 5321 §4.1.2, Quoted-string).
 */
export function pathEnd(text: string): number {
  if (text[0] !== '<') return -1;
  let quoted = false;
  for (let at = 1; at < text.length; at++) {
    const c = text[at];
    if (quoted) {
      if (c === '\\') at++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === '>') return at + 1;
    else if (c === '<') return -1;
  }
  return -1;
}

export type Parameters =
  | { readonly kind: 'ok'; readonly values: ReadonlyMap<string, string | undefined> }
  | { readonly kind: 'bad'; readonly why: string };

const keywordPattern = /^[A-Za-z0-9][A-Za-z0-9-]*$/;
/** esmtp-value: any character but `=`, space and controls; RFC 6531 adds non-ASCII. */
const valuePattern = /^[^\x00-\x20=\x7f]+$/;
const none: Parameters = { kind: 'ok', values: new Map() };

/** `KEY=value KEY …` behind the path. Keys come out in upper case, each at most once. */
export function parseParameters(text: string): Parameters {
  const trimmed = text.trim();
  if (trimmed === '') return none;
  if (!/^\s/.test(text)) return { kind: 'bad', why: 'no space before the parameters' };
  const values = new Map<string, string | undefined>();
  for (const word of trimmed.split(/\s+/)) {
    const equals = word.indexOf('=');
    const keyword = (equals < 0 ? word : word.slice(0, equals)).toUpperCase();
    const value = equals < 0 ? undefined : word.slice(equals + 1);
    if (!keywordPattern.test(keyword)) return { kind: 'bad', why: 'bad parameter name' };
    if (value !== undefined && !valuePattern.test(value)) return { kind: 'bad', why: 'bad parameter value' };
    if (values.has(keyword)) return { kind: 'bad', why: 'parameter given twice' };
    values.set(keyword, value);
  }
  return { kind: 'ok', values };
}

/** xtext without control characters, which would end up in header fields and logs. Undefined where it is malformed. */
export function xtextValue(text: string): string | undefined {
  const value = decodeXtext(text);
  return value === undefined || hasControls(value) || value.includes('\t') ? undefined : value;
}
