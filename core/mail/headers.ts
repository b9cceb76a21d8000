// The header section of a message: RFC 5322 §2.2, read without loss, so that what is not edited is not changed.

export interface HeaderField {
  /** As written, without the colon. */
  readonly name: string;
  /** The whole field as it stands in the message, name to final line end. */
  readonly raw: Buffer;
  /** The body of the field, unfolded (RFC 5322 §2.2.3), white space trimmed at both ends; UTF-8, invalid bytes as U+FFFD. Encoded words are not decoded. */
  readonly value: string;
}

export interface HeaderList extends Iterable<HeaderField> {
  /** Number of fields. */
  readonly count: number;
  /** Bytes of the section without the empty line that ends it. */
  readonly size: number;
  /** First field of that name, top to bottom, case-insensitive. */
  get(name: string): HeaderField | undefined;
  /** All fields of that name, top to bottom. */
  all(name: string): readonly HeaderField[];
  has(name: string): boolean;
}
