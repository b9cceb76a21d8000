// Signs messages the way a test wants them, right or wrong: the tag list is taken as it is written, and what is signed
// follows the canonicalizations of RFC 6376 §3.4. Written from the standard and without the library that the product uses, so that
// the two check each other.
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

export interface SigningKey {
  readonly privateKey: KeyObject;
  /** `p=` of the key record. */
  readonly published: string;
  readonly kind: 'rsa' | 'ed25519';
}

export function makeKey(kind: SigningKey['kind'], bits = 2048): SigningKey {
  const { privateKey, publicKey } =
    kind === 'rsa' ? generateKeyPairSync('rsa', { modulusLength: bits }) : generateKeyPairSync('ed25519');
  const der = publicKey.export({ type: 'spki', format: 'der' });
  // RFC 8463 §4.2: the bare 32 bytes of the key.
  return { kind, privateKey, published: (kind === 'rsa' ? der : der.subarray(-32)).toString('base64') };
}

const relaxedField = (field: string): string => {
  const colon = field.indexOf(':');
  const name = field.slice(0, colon).trim().toLowerCase();
  const value = field
    .slice(colon + 1)
    .replace(/\r\n/g, '')
    .replace(/[ \t]+/g, ' ')
    .trim();
  return `${name}:${value}`;
};
const relaxedBody = (body: string): string => {
  const text = body
    .replace(/[ \t]+(?=\r\n)/g, '')
    .replace(/[ \t]+/g, ' ')
    .replace(/(?:\r\n)+$/, '');
  return text === '' ? '' : `${text}\r\n`;
};
const simpleBody = (body: string): string => `${body.replace(/(?:\r\n)+$/, '')}\r\n`;

interface Parts {
  readonly fields: readonly string[];
  readonly body: string;
}

function split(message: string): Parts {
  const end = message.indexOf('\r\n\r\n');
  const head = end < 0 ? message.replace(/\r\n$/, '') : message.slice(0, end);
  return { fields: head.split(/\r\n(?![ \t])/), body: end < 0 ? '' : message.slice(end + 4) };
}

const tagOf = (tags: string, name: string): string | undefined =>
  new RegExp(`(?:^|;)\\s*${name}\\s*=\\s*([^;]*?)\\s*(?:;|$)`).exec(tags)?.[1];

export interface ForgeOptions {
  readonly key: SigningKey;
  readonly field?: string;
  /** How it is really signed, whatever the tag list says. */
  readonly canonical?: string;
  readonly hash?: string;
}

const signBytes = (text: string, { key, hash = 'sha256' }: ForgeOptions): string => {
  const bytes = Buffer.from(text, 'latin1');
  // RFC 8463 §3: Ed25519 signs the hash.
  const signed =
    key.kind === 'rsa'
      ? sign(hash, bytes, key.privateKey)
      : sign(null, createHash(hash).update(bytes).digest(), key.privateKey);
  return signed.toString('base64');
};

/**
 * The message (CRLF, one character a byte) with a signature on top. In `tags`, `{bh}` becomes the body hash; where it
 * holds no `{b}`, the signature is put at the end.
 */
export function forgeSignature(message: string, tags: string, options: ForgeOptions): string {
  const { fields, body } = split(message);
  const canonical = options.canonical ?? tagOf(tags, 'c') ?? 'simple/simple';
  const [header = 'simple', content = 'simple'] = canonical.split('/');
  const limit = tagOf(tags, 'l');
  const whole = content === 'relaxed' ? relaxedBody(body) : simpleBody(body);
  const covered = limit === undefined ? whole : whole.slice(0, Number(limit));
  const bodyHash = createHash(options.hash ?? 'sha256')
    .update(Buffer.from(covered, 'latin1'))
    .digest('base64');
  const template = (tags.includes('{b}') ? tags : `${tags.replace(/;?\s*$/, '')}; b={b}`).replace('{bh}', bodyHash);
  const name = options.field ?? 'DKIM-Signature';
  const left = [...fields];
  const signed = (tagOf(tags, 'h') ?? '').split(':').flatMap(wanted => {
    const at = left.findLastIndex(
      field => field.slice(0, field.indexOf(':')).trim().toLowerCase() === wanted.trim().toLowerCase(),
    );
    return at < 0 ? [] : left.splice(at, 1);
  });
  const own = `${name}: ${template.replace('{b}', '')}`;
  const text = header === 'relaxed' ? [...signed, own].map(relaxedField).join('\r\n') : [...signed, own].join('\r\n');
  return `${name}: ${template.replace('{b}', signBytes(text, options))}\r\n${message}`;
}

export interface ArcTags {
  /** Behind `ARC-Authentication-Results: `. */
  readonly aar: string;
  readonly ams: string;
  readonly as: string;
}

/** The message with one more ARC set on top (RFC 8617 §5.1), each field as the tags say. */
export function forgeArcSet(message: string, tags: ArcTags, options: ForgeOptions): string {
  const withAms = forgeSignature(message, tags.ams, { ...options, field: 'ARC-Message-Signature' });
  const ams = split(withAms).fields[0] ?? '';
  const aar = `ARC-Authentication-Results: ${tags.aar}`;
  const older = split(message).fields.filter(field => /^ARC-/i.test(field));
  const instance = (field: string): number => Number(/[\s;:]i\s*=\s*(\d+)/.exec(field)?.[1]);
  const order = ['arc-authentication-results', 'arc-message-signature', 'arc-seal'];
  const rank = (field: string): number =>
    instance(field) * 10 + order.indexOf(field.slice(0, field.indexOf(':')).toLowerCase());
  // §5.1.2: a seal of a failed chain covers its own set only.
  const before = tagOf(tags.as, 'cv') === 'fail' ? [] : older.toSorted((a, b) => rank(a) - rank(b));
  const template = tags.as.includes('{b}') ? tags.as : `${tags.as.replace(/;?\s*$/, '')}; b={b}`;
  const text = [...before, aar, ams, `ARC-Seal: ${template.replace('{b}', '')}`].map(relaxedField).join('\r\n');
  return `ARC-Seal: ${template.replace('{b}', signBytes(text, options))}\r\n${ams}\r\n${aar}\r\n${message}`;
}
