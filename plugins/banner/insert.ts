// A text put into a text part: in its charset, under its transfer encoding, at its beginning or end. Bytes that are there
// stay as they are once decoded; only where the charset has no such characters does the part become UTF-8.
import {
  decodeBody,
  decodeText,
  encodeText,
  encodeTransfer,
  type MimePart,
  type PartChange,
  type Rope,
} from '../../core/plugin/index.ts';

export interface Banner {
  /** For text/plain, lines ended by LF. */
  readonly text: string;
  /** For text/html. */
  readonly html: string;
  readonly position: 'top' | 'bottom';
}

/** RFC 5322 §2.1.1 */
const maxLine = 998;
const ascii = /^[\x00-\x7f]*$/;
/** Charsets in which ASCII text is not ASCII bytes. */
const wide = /^(?:utf-?16|utf-?32|ucs-?[24]|utf-?7)/i;

/** HTML that is right in every charset. */
const entities = (html: string): string =>
  html.replace(/[^\x00-\x7f]/gu, character => `&#${character.codePointAt(0)};`);

export const escapeHtml = (text: string): string =>
  text.replace(
    /[&<>"]/g,
    character => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[character] ?? character,
  );

/** Where the content of a page begins or ends; comments do not count. */
export function htmlPosition(page: string, position: Banner['position']): number {
  const visible = page.replace(/<!--[\s\S]*?(?:-->|$)/g, comment => ' '.repeat(comment.length));
  if (position === 'bottom') {
    const end = visible.toLowerCase().lastIndexOf('</body');
    return end >= 0 ? end : page.length;
  }
  for (const opening of [/<body(?:\s[^>]*)?>/i, /<\/head\s*>/i, /<html(?:\s[^>]*)?>/i, /<!doctype[^>]*>/i]) {
    const found = opening.exec(visible);
    if (found) return found.index + found[0].length;
  }
  return 0;
}

interface Content {
  readonly bytes: Buffer;
  readonly charset: string;
}

function insertHtml({ bytes, charset }: Content, banner: Banner): Content {
  const html = Buffer.from(entities(banner.html));
  const at = htmlPosition(bytes.toString('latin1'), banner.position);
  return { bytes: Buffer.concat([bytes.subarray(0, at), html, bytes.subarray(at)]), charset };
}

const joined = (bytes: Buffer, addition: Buffer, position: Banner['position']): Buffer =>
  position === 'top' ? Buffer.concat([addition, bytes]) : Buffer.concat([bytes, addition]);

function insertPlain(content: Content, banner: Banner): Content {
  const { bytes, charset } = content;
  const lines = banner.text.trimEnd().replace(/\r?\n/g, '\r\n');
  const addition =
    banner.position === 'top' ? `${lines}\r\n\r\n` : `${bytes.at(-1) === 0x0a ? '' : '\r\n'}\r\n${lines}\r\n`;
  if (ascii.test(addition)) return { bytes: joined(bytes, Buffer.from(addition), banner.position), charset };
  const own = encodeText(addition, charset);
  if (own !== undefined) return { bytes: joined(bytes, own, banner.position), charset };
  return {
    bytes: joined(Buffer.from(decodeText(bytes, charset)), Buffer.from(addition), banner.position),
    charset: 'utf-8',
  };
}

/** The encoding under which the bytes can travel; what was encoded stays so. */
function encodingFor(bytes: Buffer, given: string): string {
  if (given === 'base64' || given === 'quoted-printable') return given;
  const text = bytes.toString('latin1');
  const fits = !text.split('\n').some(line => line.length > maxLine);
  return fits && (ascii.test(text) || given !== '7bit') ? given : 'quoted-printable';
}

/**
 * Undefined where the part is better left alone: too large, in an encoding that is not known, in a charset whose bytes
 * are not ASCII, or with the banner in it already.
 */
export async function insertBanner(
  message: Rope,
  part: MimePart,
  banner: Banner,
  maxBytes: number,
): Promise<PartChange | undefined> {
  const { params, subtype } = part.contentType;
  const charset = (params.get('charset') ?? 'us-ascii').toLowerCase();
  if (wide.test(charset) || !/^(?:7bit|8bit|binary|base64|quoted-printable)$/.test(part.encoding)) return undefined;
  const bytes = await decodeBody(message, part, maxBytes + 1);
  if (bytes.length > maxBytes) return undefined;
  const isHtml = subtype === 'html';
  const known = isHtml ? entities(banner.html) : banner.text.trim();
  if (holds(isHtml ? bytes.toString('latin1') : decodeText(bytes, charset), known, banner.position)) return undefined;
  const content = isHtml ? insertHtml({ bytes, charset }, banner) : insertPlain({ bytes, charset }, banner);
  const encoding = encodingFor(content.bytes, part.encoding);
  const rest = [...params].filter(([name]) => name !== 'charset').map(([name, value]) => `; ${name}=${quote(value)}`);
  return {
    part,
    fields: {
      ...(content.charset !== charset && {
        'Content-Type': `text/${subtype}; charset=${content.charset}${rest.join('')}`,
      }),
      ...(encoding !== part.encoding && { 'Content-Transfer-Encoding': encoding }),
    },
    body: encodeTransfer(content.bytes, encoding),
  };
}

const quote = (value: string): string => (/^[\w.+-]+$/.test(value) ? value : `"${value.replace(/["\\\r\n]/g, '')}"`);

/** Is it there already, near the place where it would stand? Answers quote the messages that they answer. */
function holds(text: string, banner: string, position: Banner['position']): boolean {
  const near = banner.length + 2000;
  const place = position === 'top' ? text.slice(0, near) : text.slice(-near);
  return place.replace(/\s+/g, ' ').includes(banner.replace(/\s+/g, ' '));
}
