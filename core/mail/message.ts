// What a plugin, a rule or a mailbox sees of a message. Bytes never change under a reader: edits make a new message.
import type { Readable } from 'node:stream';
import type { HeaderList } from './headers.ts';
import type { MimePart } from './mime.ts';
import type { Rope } from './rope.ts';

export interface Message {
  /** Bytes as they travel, line ends CRLF, without dot-stuffing. */
  readonly size: number;
  readonly headers: HeaderList;
  readonly rope: Rope;
  /** A new stream over the whole message, as often as wanted. */
  open(): Readable;
  /** The whole message as one buffer. Only for a message that is in memory or known to be small. */
  bytes(): Promise<Buffer>;
  /** Parsed at the first call, once, within the limits of RFC 2046 trees (depth, parts); see `mime.ts`. */
  mime(): Promise<MimePart>;
}
