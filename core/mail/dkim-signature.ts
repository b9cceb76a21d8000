// Making signatures of the DKIM family (RFC 6376, and RFC 8617, which borrows its forms): what is hashed, what is signed, how the
// field is written. Relaxed canonicalization only, since a field passes through programs that fold it anew. Verifying is
// not done here. Text is taken byte for byte (latin1), so that no character beyond ASCII is changed by being looked at.
import { createHash, type KeyObject, sign } from 'node:crypto';
import type { HeaderList } from './headers.ts';
import type { Message } from './message.ts';
import { ropeChunks, sliceRope } from './rope.ts';

const LF = 0x0a;
const CR = 0x0d;
const SP = 0x20;
const TAB = 0x09;

/** RFC 6376 §3.4.2: name in lower case, unfolded, white space reduced. */
export function relaxedField(raw: Buffer | string): string {
  const text = typeof raw === 'string' ? raw : raw.toString('latin1');
  const colon = text.indexOf(':');
  const value = text
    .slice(colon + 1)
    .replace(/\r?\n/g, '')
    .replace(/[ \t]+/g, ' ');
  const name = text.slice(0, colon).replace(/[ \t]+$/, '');
  return `${name.toLowerCase()}:${value.replace(/^ | $/g, '')}`;
}

/** SHA-256 over a body as RFC 6376 §3.4.4 has it, in bounded memory. Bare LF counts as a line end, as it will to the next hop. */
export class RelaxedBodyHash {
  readonly #hash = createHash('sha256');
  /** What was seen and matters only if something follows: line ends, white space, a CR. */
  #lineEnds = 0;
  #space = false;
  #cr = false;
  #wrote = false;

  update(chunk: Buffer): void {
    const out = Buffer.allocUnsafe(chunk.length + 8);
    let length = 0;
    const put = (byte: number): void => {
      if (this.#lineEnds > 0) {
        this.#hash.update(out.subarray(0, length));
        length = 0;
        for (; this.#lineEnds > 0; this.#lineEnds -= Math.min(this.#lineEnds, 1024))
          this.#hash.update('\r\n'.repeat(Math.min(this.#lineEnds, 1024)));
      }
      if (this.#space) out[length++] = SP;
      this.#space = false;
      out[length++] = byte;
      this.#wrote = true;
    };
    for (const byte of chunk) {
      if (byte === LF) {
        this.#lineEnds++;
        this.#cr = false;
        this.#space = false;
        continue;
      }
      if (this.#cr) put(CR);
      this.#cr = byte === CR;
      if (byte === SP || byte === TAB) this.#space = true;
      else if (byte !== CR) put(byte);
    }
    this.#hash.update(out.subarray(0, length));
  }

  /** Base64, as `bh=` has it. */
  digest(): string {
    if (this.#cr) this.update(Buffer.from('\n'));
    if (this.#wrote) this.#hash.update('\r\n');
    return this.#hash.digest('base64');
  }
}

export async function relaxedBodyHash(message: Message, signal?: AbortSignal): Promise<string> {
  const hash = new RelaxedBodyHash();
  for await (const chunk of ropeChunks(sliceRope(message.rope, message.bodyStart))) {
    signal?.throwIfAborted();
    hash.update(chunk);
  }
  return hash.digest();
}

export interface SignedFields {
  /** Names for `h=`, in the order in which they are signed. */
  readonly names: readonly string[];
  readonly canonical: readonly string[];
}

/**
 * All fields of these names, each name's lowest first (RFC 6376 §5.4.2). A name in `oversigned` is listed once more than it is
 * there, so that nobody can add another (§8.15).
 */
export function fieldsToSign(
  headers: HeaderList,
  names: readonly string[],
  oversigned: ReadonlySet<string> = new Set(),
): SignedFields {
  const found = names.flatMap(name => [...headers.all(name)].reverse().map(field => [name, field.raw] as const));
  const extra = names.filter(name => oversigned.has(name));
  return {
    names: [...found.map(([name]) => name), ...extra],
    canonical: found.map(([, raw]) => relaxedField(raw)),
  };
}

const lineWidth = 72;

/** Lines of a value that may be broken behind each of its pieces. */
function wrap(pieces: readonly string[]): string {
  const lines: string[] = [''];
  for (const piece of pieces) {
    const last = lines.at(-1) ?? '';
    if (last !== '' && last.length + piece.length > lineWidth) lines.push(piece);
    else lines[lines.length - 1] = last + piece;
  }
  return lines.join('\r\n\t ');
}

const pieces = (text: string): readonly string[] => text.match(/.{1,64}/g) ?? [];
const asList = (text: string): readonly string[] => text.match(/[^:]+:?/g) ?? [];

export const signatureAlgorithm = (key: KeyObject): 'rsa-sha256' | 'ed25519-sha256' =>
  key.asymmetricKeyType === 'ed25519' ? 'ed25519-sha256' : 'rsa-sha256';

/** Base64. RFC 8463 §3: Ed25519 signs the SHA-256 hash. */
function signText(text: string, key: KeyObject): string {
  const bytes = Buffer.from(text, 'latin1');
  const ed25519 = key.asymmetricKeyType === 'ed25519';
  const signature = ed25519 ? sign(null, createHash('sha256').update(bytes).digest(), key) : sign('sha256', bytes, key);
  return signature.toString('base64');
}

/**
 * The value of a signature field, folded: these tags, then `b=` over `covered` (canonical fields) and the field itself
 * (RFC 6376 §3.7).
 */
export function signedValue(
  name: string,
  tags: readonly (readonly [tag: string, value: string])[],
  covered: readonly string[],
  key: KeyObject,
): string {
  const written = tags.map(([tag, value]) => {
    if (tag === 'h') return `h=${wrap(asList(value))}`;
    return `${tag}=${value}`;
  });
  const unsigned = `${written.join(';\r\n\t')};\r\n\tb=`;
  const own = relaxedField(`${name}: ${unsigned}`);
  return unsigned + wrap(pieces(signText([...covered, own].join('\r\n'), key)));
}
