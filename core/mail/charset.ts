// Bytes of a named charset to text and UTF-8 to everything else. The only file that knows iconv-lite: the runtime's
// own decoder first (it has the charsets of the web), then iconv-lite (UTF-7, the code pages of old systems, VISCII).
import { TextDecoder } from 'node:util';
import iconv from 'iconv-lite';

// RFC 2045 and IANA say these are different charsets; mail in the wild means the larger one in each case, as
// https://encoding.spec.whatwg.org (which the runtime follows) does for most. These are the ones it does not know.
const aliases: Readonly<Record<string, string>> = {
  'unicode-1-1-utf-7': 'utf-7',
  'x-mac-roman': 'macintosh',
  cp932: 'shift_jis',
  ms932: 'shift_jis',
  cp936: 'gbk',
  ms936: 'gbk',
  cp949: 'euc-kr',
  'ks_c_5601-1987': 'euc-kr',
  cp950: 'big5',
  'iso-8859-8-i': 'iso-8859-8',
  'utf-8-mac': 'utf-8',
  utf8mb4: 'utf-8',
};

const latin1Names: ReadonlySet<string> = new Set(['', 'us-ascii', 'ascii', 'utf-8', 'utf8']);

/** Name without quotes, white space and the language of RFC 2231 §5, lower case. */
const normaliseCharset = (charset: string): string => {
  const name = (/^[\s'"]*([^\s'"*]*)/.exec(charset)?.[1] ?? '').toLowerCase();
  return aliases[name] ?? name;
};

/** Is there a decoder for this charset? (RFC 5228 and RFC 3501 want to know.) */
export function knowsCharset(charset: string): boolean {
  const name = normaliseCharset(charset);
  return latin1Names.has(name) || runtimeDecoder(name) !== undefined || iconv.encodingExists(name);
}

function runtimeDecoder(name: string): TextDecoder | undefined {
  try {
    return new TextDecoder(name, { ignoreBOM: false });
  } catch {
    return undefined; // RangeError: a label the runtime does not know
  }
}

/**
 * Text of `bytes`. Never throws: what cannot be decoded becomes U+FFFD; a charset that nobody knows is read as UTF-8
 * where the bytes are valid UTF-8, else as windows-1252. So is text that claims to be ASCII and is not.
 */
export function decodeText(bytes: Buffer, charset = 'us-ascii'): string {
  const name = normaliseCharset(charset);
  if (name === 'utf-8' || name === 'utf8') return stripBom(bytes.toString('utf8'));
  if (!latin1Names.has(name)) {
    const decoder = runtimeDecoder(name);
    if (decoder?.encoding === 'windows-1252') return decodeWindows1252(bytes);
    if (decoder) return decoder.decode(bytes);
    if (iconv.encodingExists(name)) return iconv.decode(bytes, name);
  }
  return guessText(bytes);
}

/** The bytes of `text` in this charset; undefined where it has not all of the characters, or nobody knows it. */
export function encodeText(text: string, charset = 'us-ascii'): Buffer | undefined {
  const name = normaliseCharset(charset);
  if (name === 'utf-8' || name === 'utf8') return Buffer.from(text);
  if (/^[\x00-\x7f]*$/.test(text)) return Buffer.from(text);
  if (name === 'us-ascii' || name === 'ascii' || !iconv.encodingExists(name)) return undefined;
  const bytes = iconv.encode(text, name);
  return decodeText(bytes, name) === text ? bytes : undefined;
}

const stripBom = (text: string): string => (text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);

/** 0x80 to 0x9f; the five bytes that the code page leaves open stay as they are. */
const windows1252Extras = '€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ';

/** The decoder of Node 20 takes windows-1252 for Latin-1: no euro sign, no typographic quotes. */
const decodeWindows1252 = (bytes: Buffer): string =>
  bytes.toString('latin1').replace(/[\x80-\x9f]/g, byte => windows1252Extras[byte.charCodeAt(0) - 0x80] ?? byte);

function guessText(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  return text.includes('\uFFFD') ? decodeWindows1252(bytes) : stripBom(text);
}
