export interface ManageSieveLimits {
  /** RFC 5804 §1.2: at least 30 minutes after login. */
  readonly idleMs: number;
  /** Before login. */
  readonly loginIdleMs: number;
  readonly handshakeMs: number;
  /** Failed logins of one connection; the last one ends it. */
  readonly maxFailures: number;
  readonly maxCommandsBeforeLogin: number;
  /** Malformed commands in a row. */
  readonly maxBadCommands: number;
  /** Largest literal that is kept; larger ones are refused as over quota. */
  readonly scriptBytes: number;
}

export const defaultLimits: ManageSieveLimits = {
  idleMs: 31 * 60_000,
  loginIdleMs: 2 * 60_000,
  handshakeMs: 30_000,
  maxFailures: 3,
  maxCommandsBeforeLogin: 50,
  maxBadCommands: 20,
  scriptBytes: 1024 * 1024,
};

/** A base64 response of SASL on one line, and a quoted string with every octet escaped. */
export const maxLineBytes = 16_384;
