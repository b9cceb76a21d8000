/** Bounds of a POP3 session; the defaults suit one that talks to the whole Internet. */
export interface Pop3Limits {
  /** RFC 1939 §3: at least 10 minutes after login. */
  readonly idleMs: number;
  /** Before login. */
  readonly loginIdleMs: number;
  readonly handshakeMs: number;
  /** Failed logins of one connection; the last one ends it. */
  readonly maxFailures: number;
  /** Commands before login. */
  readonly maxCommandsBeforeLogin: number;
  /** Unknown or malformed commands in a row. */
  readonly maxBadCommands: number;
}

export const defaultLimits: Pop3Limits = {
  idleMs: 10 * 60_000,
  loginIdleMs: 2 * 60_000,
  handshakeMs: 30_000,
  maxFailures: 3,
  maxCommandsBeforeLogin: 50,
  maxBadCommands: 20,
};

/** RFC 2449 §4: a command has at most 255 octets; names and passwords of today may be longer. */
export const maxCommandBytes = 2048;
/** RFC 5034 §4: AUTH and its continuation lines. */
export const maxAuthBytes = 12_288;
