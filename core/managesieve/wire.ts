// The grammar of ManageSieve (RFC 5804 §4): words of a line, strings out. Knows bytes and no scripts.

export type Word =
  | { readonly kind: 'atom'; readonly text: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'string'; readonly bytes: Buffer };

export type LineParse =
  /** `literal`: so many bytes follow the line and belong after the last word. */
  | { readonly kind: 'words'; readonly words: readonly Word[]; readonly literal?: number }
  | { readonly kind: 'bad'; readonly why: string };

const quote = 0x22;
const backslash = 0x5c;
const space = 0x20;

interface Taken {
  readonly word: Word;
  readonly end: number;
}

/** RFC 5804 §4, `quoted`. */
function takeQuoted(line: Buffer, start: number): Taken | undefined {
  const bytes: number[] = [];
  for (let at = start + 1; at < line.length; at++) {
    let byte = line[at] ?? 0;
    if (byte === quote) return { word: { kind: 'string', bytes: Buffer.from(bytes) }, end: at + 1 };
    if (byte === backslash) {
      at++;
      byte = line[at] ?? 0;
      if (byte !== quote && byte !== backslash) return undefined;
    }
    if (byte === 0) return undefined;
    bytes.push(byte);
  }
  return undefined;
}

/** Words stand between single spaces; more of them, and one at the end, do no harm. */
export function parseLine(line: Buffer): LineParse {
  const words: Word[] = [];
  let at = 0;
  while (at < line.length) {
    if (line[at] === space) {
      at++;
      continue;
    }
    if (line[at] === quote) {
      const taken = takeQuoted(line, at);
      if (taken === undefined) return { kind: 'bad', why: 'Quoted string is malformed' };
      words.push(taken.word);
      at = taken.end;
    } else {
      const end = line.indexOf(space, at);
      const text = line.subarray(at, end < 0 ? line.length : end).toString('latin1');
      at += text.length;
      // `literal-c2s`; the form without "+" is what some clients send, and nothing else can be meant.
      const literal = /^\{(\d{1,10})\+?\}$/.exec(text)?.[1];
      if (literal !== undefined) {
        if (at !== line.length) return { kind: 'bad', why: 'Something follows a literal' };
        return { kind: 'words', words, literal: Number(literal) };
      }
      if (/^\d{1,10}$/.test(text)) words.push({ kind: 'number', value: Number(text) });
      else if (/^[^\x00-\x20"(){}\\\x7f-\xff]+$/.test(text)) words.push({ kind: 'atom', text });
      else return { kind: 'bad', why: 'Word is malformed' };
    }
    if (at < line.length && line[at] !== space) return { kind: 'bad', why: 'Words must stand apart' };
  }
  return { kind: 'words', words };
}

/** A string for the client: quoted where it can be, else a literal (RFC 5804 §4, at most 1024 octets are quoted). */
export function stringOut(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  if (bytes.length <= 1024 && !bytes.some(byte => byte === 0 || byte === 0x0a || byte === 0x0d))
    return Buffer.from(`"${bytes.toString('latin1').replace(/["\\]/g, '\\$&')}"`, 'latin1');
  return Buffer.concat([Buffer.from(`{${bytes.length}}\r\n`), bytes]);
}
