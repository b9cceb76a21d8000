// The MIME tree as a value, with byte offsets: RFC 2045, 2046, 2183. Offsets are what IMAP BODY[…] and BODYSTRUCTURE need;
// nothing is decoded until asked for.
import type { ContentType, Disposition } from './content-type.ts';
import type { HeaderList } from './headers.ts';

export interface MimePart {
  /**
   * IMAP section number (RFC 3501 §6.4.5): `''` for the message itself, then `1`, `1.2` … The message inside a
   * message/rfc822 part has the section of that part. The body of a message that is no multipart is also section 1.
   */
  readonly section: string;
  readonly headers: HeaderList;
  readonly contentType: ContentType;
  readonly disposition?: Disposition;
  /** Content-Transfer-Encoding, lower case; `7bit` where absent (RFC 2045 §6.1). */
  readonly encoding: string;
  /** Byte offsets into the message: the part's header begins at `start`, its body at `bodyStart`, and ends before `end`. */
  readonly start: number;
  readonly bodyStart: number;
  readonly end: number;
  /** Number of line ends in the body (RFC 3501 §7.4.2 body lines). */
  readonly lines: number;
  /** Children of a multipart, in order; empty otherwise. */
  readonly parts: readonly MimePart[];
  /** The message inside a message/rfc822 part (RFC 2046 §5.2.1). */
  readonly message?: MimePart;
  /** What a strict reader would complain about. `too-many-parts` stands at the message itself. */
  readonly defects: readonly MimeDefect[];
}

export type MimeDefect =
  /** A multipart without a usable boundary parameter; it has no children. */
  | 'missing-boundary'
  /** The boundary is longer than the limit (RFC 2046 §5.1.1 allows 70); it has no children. */
  | 'long-boundary'
  /** A multipart that ended without its closing delimiter. */
  | 'unclosed-multipart'
  /** No delimiter of this multipart was found. */
  | 'no-parts'
  /** A delimiter line of this multipart had other text behind the boundary. */
  | 'text-after-boundary'
  /** Below this part nesting goes on deeper than the limit; it has no children. */
  | 'too-deep'
  | 'too-many-parts'
  | 'bad-content-type'
  | 'bad-encoding'
  /** More than one Content-Type, Content-Transfer-Encoding or Content-Disposition: readers differ in which they take. */
  | 'repeated-field'
  /** base64 or quoted-printable on a multipart or message part (RFC 2045 §6.4). */
  | 'encoded-composite'
  | 'malformed-field'
  | 'header-too-large'
  | 'too-many-fields'
  /** The header section ended without an empty line. */
  | 'unclosed-header';

export interface MimeLimits {
  readonly maxDepth?: number;
  readonly maxParts?: number;
  readonly maxBoundaryBytes?: number;
  /** For the headers of all parts of one message together. */
  readonly maxTotalHeaderBytes?: number;
  readonly maxTotalHeaderFields?: number;
}
export const defaultMimeLimits = {
  maxDepth: 100,
  maxParts: 10_000,
  maxBoundaryBytes: 200,
  maxTotalHeaderBytes: 4 * 1024 * 1024,
  maxTotalHeaderFields: 100_000,
} as const;

/** The part with this section number (RFC 3501 §6.4.5), e.g. `[1, 2]`; `[]` is the message itself. */
export function partAt(root: MimePart, numbers: readonly number[]): MimePart | undefined {
  let part = root;
  let isMessage = true;
  for (const number of numbers) {
    // Numbers below a message/rfc822 part count in the message it holds.
    if (!isMessage && part.message) {
      part = part.message;
      isMessage = true;
    }
    const child = part.parts[number - 1];
    // The body of a message that is no multipart is its part 1.
    if (!child && !(isMessage && part.parts.length === 0 && number === 1)) return undefined;
    part = child ?? part;
    isMessage = false;
  }
  return part;
}

/** All parts, each before what it holds. */
export function* walkParts(part: MimePart): Generator<MimePart> {
  const pending: MimePart[] = [part];
  for (let next = pending.pop(); next; next = pending.pop()) {
    yield next;
    if (next.message) pending.push(next.message);
    for (let at = next.parts.length - 1; at >= 0; at--) pending.push(next.parts[at] as MimePart);
  }
}
