// Addresses in header fields, RFC 5322 §3.4 with the obsolete forms of §4.4, read leniently: what is no address is kept as
// a token that matches `:all` only (RFC 5228 §2.7.4: parts of an invalid address are not found). Groups give their members.

export interface HeaderAddress {
  readonly local: string;
  readonly domain: string;
  /** `local@domain`, or the text as written where it is no address. */
  readonly text: string;
  readonly name?: string;
  readonly valid: boolean;
}

type Token =
  | { readonly kind: 'special'; readonly text: string }
  | { readonly kind: 'word'; readonly text: string; readonly quoted: boolean };

// RFC 6532 §3.2: UTF-8 is text of an atom; what was no UTF-8 is not.
const atext = /[^\s()<>[\]:;@\\,."\ufffd]/u;

class AddressParser {
  readonly #text: string;
  #at = 0;
  readonly out: HeaderAddress[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  run(): readonly HeaderAddress[] {
    let from = 0;
    let tokens: Token[] = [];
    let angle = false;
    const flush = (to: number): void => {
      if (tokens.length > 0) this.#mailbox(tokens, this.#text.slice(from, to).trim());
      tokens = [];
      angle = false;
    };
    for (;;) {
      const at = this.#at;
      const token = this.#next();
      if (!token) break;
      const special = token.kind === 'special' ? token.text : '';
      if (special === '<') angle = true;
      if (special === '>') angle = false;
      if ((special === ',' && !angle) || special === ';') {
        flush(at);
        from = this.#at;
      } else if (special === ':' && !angle && !tokens.some(other => other.kind === 'special' && other.text === '@')) {
        tokens = [];
        from = this.#at;
      } else tokens.push(token);
    }
    flush(this.#text.length);
    return this.out;
  }

  #next(): Token | undefined {
    const text = this.#text;
    for (;;) {
      const char = text[this.#at];
      if (char === undefined) return undefined;
      if (char === '(') this.#comment();
      else if (/\s/.test(char)) this.#at += 1;
      else break;
    }
    const char = text[this.#at] as string;
    if (char === '"') return { kind: 'word', text: this.#quoted(), quoted: true };
    if (char === '[') {
      const close = text.indexOf(']', this.#at);
      const end = close === -1 ? text.length : close + 1;
      const literal = text.slice(this.#at, end);
      this.#at = end;
      return { kind: 'word', text: literal, quoted: false };
    }
    if (!atext.test(char)) {
      this.#at += 1;
      return { kind: 'special', text: char };
    }
    const from = this.#at;
    while (this.#at < text.length && atext.test(text[this.#at] as string)) this.#at += 1;
    return { kind: 'word', text: text.slice(from, this.#at), quoted: false };
  }

  #comment(): void {
    let depth = 0;
    for (; this.#at < this.#text.length; this.#at += 1) {
      const char = this.#text[this.#at];
      if (char === '\\') this.#at += 1;
      else if (char === '(') depth += 1;
      else if (char === ')') {
        depth -= 1;
        if (depth === 0) {
          this.#at += 1;
          return;
        }
      }
    }
  }

  #quoted(): string {
    let out = '';
    for (this.#at += 1; this.#at < this.#text.length; this.#at += 1) {
      const char = this.#text[this.#at] as string;
      if (char === '"') {
        this.#at += 1;
        break;
      }
      if (char === '\\') this.#at += 1;
      out += this.#text[this.#at] ?? '';
    }
    return out;
  }

  #mailbox(tokens: readonly Token[], raw: string): void {
    const open = tokens.findIndex(token => token.kind === 'special' && token.text === '<');
    if (open === -1) {
      this.#addrSpec(tokens, raw, undefined);
      return;
    }
    const close = tokens.findIndex((token, at) => at > open && token.kind === 'special' && token.text === '>');
    let inner = tokens.slice(open + 1, close === -1 ? undefined : close);
    // RFC 5322 §4.4 obs-route: `<@a,@b:local@domain>`
    const colon = inner.findIndex(token => token.kind === 'special' && token.text === ':');
    if (colon !== -1 && inner[0]?.text === '@') inner = inner.slice(colon + 1);
    const name = tokens
      .slice(0, open)
      .map(token => token.text)
      .join(' ')
      .replace(/ \. ?/g, '. ');
    const valid = close !== -1 && close === tokens.length - 1;
    this.#addrSpec(inner, raw, name, valid);
  }

  #addrSpec(tokens: readonly Token[], raw: string, name: string | undefined, wellFormed = true): void {
    const at = tokens.findLastIndex(token => token.kind === 'special' && token.text === '@');
    const local = dotted(tokens.slice(0, at));
    const domain = dotted(tokens.slice(at + 1));
    const named = name === undefined || name === '' ? {} : { name };
    if (at <= 0 || !wellFormed || local === undefined || domain === undefined || domain === '')
      this.out.push({ local: '', domain: '', text: raw, valid: false, ...named });
    else this.out.push({ local, domain, text: formatSpec(local, domain), valid: true, ...named });
  }
}

const dotAtom =
  /^[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\u{10ffff}]+(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\u{10ffff}]+)*$/u;

/** `local@domain`, the local part quoted where RFC 5322 §3.4.1 needs it. */
export const formatSpec = (local: string, domain: string): string =>
  `${dotAtom.test(local) ? local : `"${local.replace(/["\\]/g, char => `\\${char}`)}"`}@${domain}`;

/** Words separated by dots; undefined where two words stand without one, or something else is between. */
function dotted(tokens: readonly Token[]): string | undefined {
  let out = '';
  let word = false;
  for (const token of tokens) {
    if (token.kind === 'word') {
      if (word) return undefined;
      out += token.text;
      word = true;
    } else if (token.text === '.') {
      out += '.';
      word = false;
    } else return undefined;
  }
  return out;
}

/** Every address of a field's value (encoded words not yet decoded), in order. Linear in its length. */
export function parseAddressList(value: string): readonly HeaderAddress[] {
  return new AddressParser(value).run();
}

/** As `parseBareAddress`, but `Name <a@b>` will do (RFC 5228 §2.4.2.3 for `:from` and `redirect`). */
export function parseOneAddress(text: string): HeaderAddress | undefined {
  const list = parseAddressList(text);
  const only = list[0];
  return list.length === 1 && only?.valid ? only : undefined;
}

/** For comparing addresses: domain in lower case; local part too, as mail systems everywhere do. */
export const addressKey = (address: string): string => address.trim().toLowerCase();
