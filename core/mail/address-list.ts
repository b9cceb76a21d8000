// Address lists of header fields (From, To, Cc …): RFC 5322 §3.4 and the obsolete forms of §4.4, read tolerantly: what is
// broken yields the best guess, nothing throws, and the work is linear in the length of the value. For the addresses
// that mail is routed by, `address.ts` is strict.
import { decodeWords } from './encoded-words.ts';

export interface HeaderMailbox {
  readonly kind: 'mailbox';
  /** Display name as written: unquoted and unfolded, encoded words not decoded (IMAP ENVELOPE wants it so); `''` where there is none. */
  readonly name: string;
  /** Local part unquoted, comments and white space removed. */
  readonly local: string;
  /** As written; `''` where there is none. A domain literal keeps its brackets. */
  readonly domain: string;
  /** Obsolete source route, `@a,@b`; absent mostly. */
  readonly route?: string;
}

export interface HeaderGroup {
  readonly kind: 'group';
  readonly name: string;
  readonly members: readonly HeaderMailbox[];
}
export type HeaderAddress = HeaderMailbox | HeaderGroup;

/** The display name as people read it. */
export const displayName = (address: HeaderAddress): string => decodeWords(address.name);

/** All mailboxes of a list, members of groups included, in order. */
export const mailboxesOf = (list: readonly HeaderAddress[]): readonly HeaderMailbox[] =>
  list.flatMap(address => (address.kind === 'group' ? address.members : [address]));

type Special = ',' | ';' | ':' | '<' | '>' | '@';
interface Token {
  readonly kind: 'atom' | 'quoted' | 'literal' | 'comment' | Special;
  readonly text: string;
  /** White space or a comment before it. */
  readonly spaced: boolean;
}

const isSpecial = (character: string): character is Special => ',;:<>@'.includes(character);

/** Position behind a quoted string, comment or literal that begins at `open`; -1 where it is not closed. */
function enclosedEnd(value: string, open: number, close: string): number {
  let depth = 0;
  for (let at = open; at < value.length; at++) {
    const character = value[at];
    if (character === '\\') at++;
    else if (close === ')' && character === '(') depth++;
    else if (character === close && at > open && (close !== ')' || --depth === 0)) return at + 1;
  }
  return -1;
}

const closers: Readonly<Record<string, readonly [close: string, kind: 'quoted' | 'comment' | 'literal']>> = {
  '"': ['"', 'quoted'],
  '(': [')', 'comment'],
  '[': [']', 'literal'],
};

// Encoded words hold characters that RFC 2047 §5 forbids in a phrase, commas most of all.
const encodedWord = /=\?[^?\s]{1,60}\?[bq]\?[^?\r\n]{0,4096}\?=/iy;

function atomEnd(value: string, start: number): number {
  if (value.startsWith('=?', start)) {
    const pattern = new RegExp(encodedWord);
    pattern.lastIndex = start;
    const word = pattern.exec(value)?.[0];
    if (word !== undefined) return start + word.length;
  }
  let end = start + 1;
  while (end < value.length && !/[\s,;:<>@"([]/.test(value[end] as string)) end++;
  return end;
}

function lex(value: string): readonly Token[] {
  const tokens: Token[] = [];
  let spaced = false;
  // What is never closed is no quoting: the rest of the list must not vanish into it, nor be searched again.
  const unclosed = new Set<string>();
  for (let at = 0; at < value.length; ) {
    const character = value[at] as string;
    const closer = unclosed.has(character) ? undefined : closers[character];
    let end = at + 1;
    if (closer) {
      end = enclosedEnd(value, at, closer[0]);
      if (end < 0) {
        unclosed.add(character);
        continue;
      }
      const inner = value.slice(at + 1, end - 1).replace(/\\(.)/gs, '$1');
      tokens.push({ kind: closer[1], text: closer[1] === 'literal' ? value.slice(at, end) : inner, spaced });
    } else if (isSpecial(character)) tokens.push({ kind: character, text: character, spaced });
    else if (!/\s/.test(character)) {
      end = atomEnd(value, at);
      tokens.push({ kind: 'atom', text: value.slice(at, end), spaced });
    }
    spaced = /\s/.test(character) || closer?.[1] === 'comment';
    at = end;
  }
  return tokens;
}

/** Words of a phrase with the white space between them reduced to what was there. */
function phraseText(tokens: readonly Token[]): string {
  let text = '';
  for (const token of tokens)
    if (token.kind !== 'comment') text += `${text !== '' && token.spaced ? ' ' : ''}${token.text}`;
  return text.trim();
}

const glued = (tokens: readonly Token[]): string =>
  tokens.map(token => (token.kind === 'comment' ? '' : token.text)).join('');

interface Spec {
  readonly local: string;
  readonly domain: string;
  readonly route?: string;
}

/** What stands between angle brackets. */
function readAngle(tokens: readonly Token[]): Spec {
  const colon = tokens[0]?.kind === '@' ? tokens.findIndex(token => token.kind === ':') : -1;
  const route = colon > 0 ? { route: glued(tokens.slice(0, colon)) } : {};
  const spec = tokens.slice(colon + 1);
  const at = spec.findLastIndex(token => token.kind === '@');
  if (at < 0) return { local: glued(spec), domain: '', ...route };
  return { local: glued(spec.slice(0, at)), domain: glued(spec.slice(at + 1)), ...route };
}

/** Where the local part before the `@` at `at` begins: dots may be spaced (RFC 5322 §4.4 obs-local-part), words may not. */
function localStart(tokens: readonly Token[], at: number): number {
  let start = at;
  while (start > 0) {
    const previous = tokens[start - 1] as Token;
    const next = tokens[start] as Token;
    const joined = next.kind === '@' || !next.spaced || next.text.startsWith('.') || previous.text.endsWith('.');
    if (!joined && previous.kind !== 'comment') break;
    start--;
  }
  return start;
}

function readMailbox(tokens: readonly Token[]): HeaderMailbox | undefined {
  const open = tokens.findIndex(token => token.kind === '<');
  if (open >= 0) {
    const close = tokens.findIndex((token, at) => at > open && token.kind === '>');
    const spec = readAngle(tokens.slice(open + 1, close < 0 ? undefined : close));
    const before = phraseText(tokens.slice(0, open));
    return { kind: 'mailbox', name: before || lastComment(tokens), ...spec };
  }
  const words = tokens.filter(token => token.kind !== '>');
  if (words.every(token => token.kind === 'comment')) return undefined;
  const at = words.findLastIndex(token => token.kind === '@');
  if (at < 0) {
    // A lone word is a local part, several are more likely a name without its address.
    const text = phraseText(words);
    return { kind: 'mailbox', name: lastComment(words), local: text, domain: '' };
  }
  const start = localStart(words, at);
  // RFC 5322 §3.4 note: a comment is the old way to give a name.
  const name = phraseText(words.slice(0, start)) || lastComment(words);
  return { kind: 'mailbox', name, local: glued(words.slice(start, at)), domain: glued(words.slice(at + 1)) };
}

const lastComment = (tokens: readonly Token[]): string =>
  tokens.findLast(token => token.kind === 'comment')?.text.trim() ?? '';

/** The addresses of an unfolded value, in order. Never throws. */
export function parseAddressList(value: string): readonly HeaderAddress[] {
  const list: HeaderAddress[] = [];
  let members: HeaderMailbox[] | undefined;
  let pending: Token[] = [];
  /** Inside `<…>`, and there inside the source route, whose commas separate no addresses. */
  let angle: 'none' | 'open' | 'route' = 'none';
  let hasAt = false;
  const flush = (): void => {
    const mailbox = pending.length > 0 ? readMailbox(pending) : undefined;
    if (mailbox) (members ?? list).push(mailbox);
    pending = [];
    angle = 'none';
    hasAt = false;
  };
  for (const token of lex(value)) {
    if (token.kind === ',' && angle !== 'route') {
      flush();
      continue;
    }
    if (token.kind === ';') {
      // Outside a group some clients separate addresses with it.
      flush();
      members = undefined;
      continue;
    }
    if (token.kind === ':' && angle === 'none' && !hasAt && !members) {
      members = [];
      list.push({ kind: 'group', name: phraseText(pending), members });
      pending = [];
      continue;
    }
    if (token.kind === '<') angle = 'open';
    else if (token.kind === '>') angle = 'none';
    else if (token.kind === ':' && angle === 'route') angle = 'open';
    else if (token.kind === '@') {
      if (pending.at(-1)?.kind === '<') angle = 'route';
      hasAt = true;
    }
    pending.push(token);
  }
  flush();
  return list;
}
