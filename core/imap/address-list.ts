// address-list of RFC 5322 §3.4 with the obsolete forms of §4.4, for ENVELOPE: lenient, since what stands in a header is
// what somebody wrote. Works on byte strings, never throws, and is linear in the length of the field.

export interface ListedAddress {
  readonly name: string | undefined;
  /** Source route of the obsolete form, `@a,@b`. */
  readonly route: string | undefined;
  /** Local part, or the group's name where `host` is undefined; both undefined: the end of a group. */
  readonly mailbox: string | undefined;
  readonly host: string | undefined;
}

type Token =
  | { readonly kind: 'word'; readonly text: string; readonly quoted: boolean; readonly spaced: boolean }
  | { readonly kind: 'comment'; readonly text: string }
  | { readonly kind: 'special'; readonly text: string };

const specials = new Set(['<', '>', '@', ',', ';', ':']);

export function parseAddresses(field: string): readonly ListedAddress[] {
  const tokens = tokenize(field);
  const found: ListedAddress[] = [];
  let inGroup = false;
  let from = 0;
  const flush = (to: number): void => {
    const address = readAddress(tokens.slice(from, to));
    if (address) found.push(address);
  };
  let inAngle = false;
  tokens.forEach((token, index) => {
    if (token.kind !== 'special') return;
    if (token.text === '<') inAngle = true;
    else if (token.text === '>') inAngle = false;
    else if (inAngle) return;
    else if (token.text === ',') {
      flush(index);
      from = index + 1;
    } else if (token.text === ':' && !inGroup) {
      const name = phrase(tokens.slice(from, index));
      found.push({ name: undefined, route: undefined, mailbox: name ?? '', host: undefined });
      inGroup = true;
      from = index + 1;
    } else if (token.text === ';') {
      flush(index);
      if (inGroup) found.push(groupEnd);
      inGroup = false;
      from = index + 1;
    }
  });
  flush(tokens.length);
  if (inGroup) found.push(groupEnd);
  return found;
}

const groupEnd: ListedAddress = { name: undefined, route: undefined, mailbox: undefined, host: undefined };

function readAddress(tokens: readonly Token[]): ListedAddress | undefined {
  const open = tokens.findIndex(token => token.kind === 'special' && token.text === '<');
  if (open < 0) return readBare(tokens);
  const close = tokens.findIndex((token, index) => index > open && token.kind === 'special' && token.text === '>');
  const inside = tokens.slice(open + 1, close < 0 ? tokens.length : close);
  const colon = inside.findIndex(token => token.kind === 'special' && token.text === ':');
  const route = colon < 0 ? undefined : joined(inside.slice(0, colon));
  const spec = addrSpec(inside.slice(colon + 1));
  const name = phrase(tokens.slice(0, open)) ?? comment(tokens.slice(close < 0 ? tokens.length : close));
  return { name, route, ...spec };
}

/** addr-spec without angle brackets; a comment beside it is the name (RFC 5322 §3.4, note on display names). */
function readBare(tokens: readonly Token[]): ListedAddress | undefined {
  if (!tokens.some(token => token.kind !== 'comment')) return undefined;
  const spec = addrSpec(tokens);
  return { name: comment(tokens), route: undefined, ...spec };
}

function addrSpec(tokens: readonly Token[]): { readonly mailbox: string; readonly host: string } {
  const words = tokens.filter(token => token.kind !== 'comment');
  const at = words.findLastIndex(token => token.kind === 'special' && token.text === '@');
  if (at < 0) return { mailbox: joined(words, ' '), host: missing };
  // RFC 5322 §4.4, obs-local-part: white space around dots is none of the name's.
  return { mailbox: joined(words.slice(0, at), ' ').replace(/ ?\. ?/g, '.'), host: joined(words.slice(at + 1)) };
}

/** nstring, but NIL would make it a group: an address without a domain gets an empty one. */
const missing = '';

function phrase(tokens: readonly Token[]): string | undefined {
  const words = tokens.filter(token => token.kind === 'word' || token.kind === 'special');
  if (words.length === 0) return comment(tokens);
  let text = '';
  for (const token of words) {
    const spaced = token.kind === 'word' && token.spaced && text !== '';
    text += (spaced ? ' ' : '') + token.text;
  }
  return text === '' ? undefined : text;
}

const comment = (tokens: readonly Token[]): string | undefined =>
  tokens.findLast(token => token.kind === 'comment')?.text.trim();

function joined(tokens: readonly Token[], space = ''): string {
  let text = '';
  for (const token of tokens) {
    if (token.kind === 'word' && token.spaced && text !== '') text += space;
    text += token.text;
  }
  return text;
}

function tokenize(field: string): readonly Token[] {
  const tokens: Token[] = [];
  let spaced = false;
  for (let at = 0; at < field.length; ) {
    const char = field[at] ?? '';
    if (char === ' ' || char === '\t') {
      spaced = true;
      at += 1;
    } else if (char === '"') {
      const end = closing(field, at);
      tokens.push({ kind: 'word', text: unquote(field.slice(at + 1, end)), quoted: true, spaced });
      at = end + 1;
      spaced = false;
    } else if (char === '(') {
      const end = commentEnd(field, at);
      tokens.push({ kind: 'comment', text: unquote(field.slice(at + 1, end)) });
      at = end + 1;
      spaced = true;
    } else if (specials.has(char)) {
      tokens.push({ kind: 'special', text: char });
      at += 1;
      spaced = false;
    } else {
      const end = wordEnd(field, at);
      tokens.push({ kind: 'word', text: unquote(field.slice(at, end)), quoted: false, spaced });
      at = end;
      spaced = false;
    }
  }
  return tokens;
}

const unquote = (text: string): string => text.replace(/\\(.)/g, '$1');

/** Index of the closing quote, or the end of the field. */
function closing(field: string, open: number): number {
  for (let at = open + 1; at < field.length; at += 1) {
    if (field[at] === '\\') at += 1;
    else if (field[at] === '"') return at;
  }
  return field.length;
}

function commentEnd(field: string, open: number): number {
  let depth = 0;
  for (let at = open; at < field.length; at += 1) {
    if (field[at] === '\\') at += 1;
    else if (field[at] === '(') depth += 1;
    else if (field[at] === ')') {
      depth -= 1;
      if (depth === 0) return at;
    }
  }
  return field.length;
}

function wordEnd(field: string, from: number): number {
  // An address literal may hold colons: `[IPv6:…]`.
  if (field[from] === '[') {
    const end = field.indexOf(']', from);
    return end < 0 ? field.length : end + 1;
  }
  let at = from;
  while (at < field.length && !/[ \t"(<>@,;:]/.test(field[at] ?? '')) at += field[at] === '\\' ? 2 : 1;
  return Math.max(Math.min(at, field.length), from + 1);
}
