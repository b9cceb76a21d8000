// Mailbox addresses of the envelope. RFC 5321 §4.1.2 (Mailbox), RFC 6531 §3.3 (internationalised form).

/** An address as the envelope carries it. Compare with `sameAddress`, never with `===` on the text. */
export interface Address {
  /** Local part with quoting removed, case as given. */
  readonly local: string;
  /** Domain in lower case, A-labels (`xn--`) as they travel, no trailing dot; `''` for a bare local part such as `postmaster`; an address literal keeps its brackets. */
  readonly domain: string;
  /** The canonical text, `local@domain`, the local part quoted where RFC 5321 §4.1.2 needs it. */
  readonly text: string;
}
