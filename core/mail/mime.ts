// The MIME tree with byte offsets: RFC 2045, 2046, 2183, 2231. Offsets are what IMAP BODY[…] and BODYSTRUCTURE need;
// nothing is decoded until asked for.
import type { HeaderList } from './headers.ts';

export interface ContentType {
  /** Lower case, e.g. `text`. */
  readonly type: string;
  /** Lower case, e.g. `plain`. */
  readonly subtype: string;
  /** Lower-case names; values decoded by RFC 2231 where they were encoded so. */
  readonly params: ReadonlyMap<string, string>;
}

export interface MimePart {
  /** IMAP section number (RFC 3501 §6.4.5): `''` for the message itself, then `1`, `1.2` … */
  readonly section: string;
  readonly headers: HeaderList;
  readonly contentType: ContentType;
  readonly disposition?: { readonly type: string; readonly params: ReadonlyMap<string, string> };
  /** Content-Transfer-Encoding, lower case; `7bit` where absent (RFC 2045 §6.1). */
  readonly encoding: string;
  /** Byte offsets into the message: the part's header begins at `start`, its body at `bodyStart`, and ends before `end`. */
  readonly start: number;
  readonly bodyStart: number;
  readonly end: number;
  /** Number of lines of the body (CRLF count, RFC 3501 §7.4.2 body lines). */
  readonly lines: number;
  /** Children of a multipart, in order; empty otherwise. */
  readonly parts: readonly MimePart[];
  /** The message inside a message/rfc822 part (RFC 2046 §5.2.1). */
  readonly message?: MimePart;
  /** What a strict reader would complain about, e.g. `missing-boundary`, `unclosed-multipart`, `too-deep`, `too-many-parts`. */
  readonly defects: readonly string[];
}
