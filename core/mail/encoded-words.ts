// Encoded words of header fields: RFC 2047, with the language suffix of RFC 2231 §5. Decoding is tolerant and linear:
// words of one charset that follow each other are decoded as one run of bytes, because many programs cut a character
// in two; what is no valid word stays as it is.
import { decodeText, knowsCharset } from './charset.ts';

// RFC 2047 §2. Space is allowed in the text although the standard forbids it; the lengths are bounded.
const wordPattern = /=\?([^?\s]{1,60})\?([bq])\?([^?\r\n]{0,4096})\?=/gi;

/** RFC 2047 §4.2: like quoted-printable, with `_` for a space. Invalid escapes stay as they are. */
function decodeQ(text: string): Buffer {
  const binary = text
    .replace(/_/g, ' ')
    .replace(/=([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(binary, 'latin1');
}

const decodeWord = (encoding: string, text: string): Buffer =>
  encoding.toLowerCase() === 'b' ? Buffer.from(text, 'base64') : decodeQ(text);

interface Run {
  readonly charset: string;
  readonly bytes: Buffer[];
}

const closeRun = (run: Run | undefined): string => (run ? decodeText(Buffer.concat(run.bytes), run.charset) : '');

/** Text of an unstructured field's value or a phrase, encoded words decoded. Never throws. */
export function decodeWords(value: string): string {
  if (!value.includes('=?')) return value;
  let out = '';
  let last = 0;
  let run: Run | undefined;
  for (const match of value.matchAll(wordPattern)) {
    const [whole, label = '', encoding = '', text = ''] = match;
    const charset = label.replace(/\*.*$/, '').toLowerCase();
    if (!knowsCharset(charset)) continue;
    const between = value.slice(last, match.index);
    // RFC 2047 §6.2: white space between encoded words is not shown.
    if (run && /\S/.test(between)) {
      out += closeRun(run) + between;
      run = undefined;
    } else if (!run) out += between;
    if (run && run.charset !== charset) {
      out += closeRun(run);
      run = undefined;
    }
    run ??= { charset, bytes: [] };
    run.bytes.push(decodeWord(encoding, text));
    last = match.index + whole.length;
  }
  return out + closeRun(run) + value.slice(last);
}

// RFC 2047 §5 (3): what may stand for itself in an encoded word even inside a phrase.
const isPlainQ = (byte: number): boolean =>
  (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);

const encodeQByte = (byte: number): string => {
  if (byte === 0x20) return '_';
  return isPlainQ(byte) ? String.fromCharCode(byte) : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`;
};

// RFC 2047 §2: a word has at most 75 characters; `=?utf-8?q?` and `?=` take 12 of them.
const maxWordText = 63;

/** `text` as one or more encoded words (UTF-8), separated by a space, no character cut in two. */
export function encodeWord(text: string): string {
  const bytes = Buffer.byteLength(text);
  const plain = Buffer.from(text).reduce((sum, byte) => sum + (isPlainQ(byte) || byte === 0x20 ? 1 : 3), 0);
  const useQ = plain <= Math.ceil(bytes / 3) * 4;
  const maxBytes = Math.floor(maxWordText / 4) * 3;
  const words: string[] = [];
  let current: number[] = [];
  let length = 0;
  const close = (): void => {
    const body = useQ ? current.map(encodeQByte).join('') : Buffer.from(current).toString('base64');
    if (current.length > 0) words.push(`=?utf-8?${useQ ? 'q' : 'b'}?${body}?=`);
    current = [];
    length = 0;
  };
  for (const character of text) {
    const encoded = Buffer.from(character);
    const cost = useQ ? encoded.reduce((sum, byte) => sum + encodeQByte(byte).length, 0) : encoded.length;
    if (length + cost > (useQ ? maxWordText : maxBytes)) close();
    current.push(...encoded);
    length += cost;
  }
  close();
  return words.join(' ');
}

// White space, `=?` that would read as an encoded word, and everything beyond ASCII need encoding.
const needsEncoding = (word: string): boolean => /[^\x20-\x7e\t]/.test(word) || word.includes('=?');

/** A value that may hold encoded words and text beyond ASCII side by side, in ASCII; one that is ASCII comes back as it is. */
export const encodeRest = (value: string): string =>
  /[^\x00-\x7f]/.test(value) ? encodeWords(decodeWords(value)) : value;

/** An unstructured value with those words encoded that need it; ASCII text comes back as it is. */
export function encodeWords(text: string): string {
  if (!needsEncoding(text)) return text;
  const out: string[] = [];
  let pending: string[] = [];
  const close = (): void => {
    if (pending.length > 0) out.push(encodeWord(pending.join(' ')));
    pending = [];
  };
  for (const word of text.split(/[ \t]+/)) {
    if (needsEncoding(word)) pending.push(word);
    else {
      close();
      out.push(word);
    }
  }
  close();
  return out.join(' ');
}
