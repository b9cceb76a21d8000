// What is known of the client once its session is over.

/** Who gave us the message: kept with it, and told to a trusted next hop by XCLIENT or XFORWARD. */
export interface ClientFacts {
  readonly address: string;
  readonly port?: number;
  /** Verified reverse name. */
  readonly name?: string;
  readonly helo?: string;
  /** `SMTP`, `ESMTP` or `LMTP`. */
  readonly protocol?: string;
  /** Login name, where the client authenticated. */
  readonly identity?: string;
}
