// Every bound on what a client may make us hold or wait for (invariant I7), with its default.

export interface ImapLimits {
  /** Bytes of a line; RFC 2683 §3.2.1.5 asks for 8000, clients with long UID sets send more. */
  readonly lineBytes: number;
  readonly lineBytesBeforeLogin: number;
  /** Bytes of a literal that is a word (a name, a search string). */
  readonly wordBytes: number;
  readonly wordBytesBeforeLogin: number;
  /** Bytes of a command without messages. */
  readonly commandBytes: number;
  /** APPENDLIMIT (RFC 7889): bytes of one message. */
  readonly appendBytes: number;
  /** A message up to here is kept in memory while it comes, a larger one in a spool file. */
  readonly memoryBytes: number;
  readonly messagesPerAppend: number;
  /** Whether `{n+}` may be of any size (LITERAL+) or up to 4096 bytes (LITERAL-), RFC 7888 §5. */
  readonly literals: 'LITERAL+' | 'LITERAL-';
  /** Time from the greeting to the login. */
  readonly loginTimeoutMs: number;
  /** RFC 3501 §5.4: at least 30 minutes. */
  readonly idleTimeoutMs: number;
  /** A client that does not take what we send. */
  readonly stallTimeoutMs: number;
  readonly tlsHandshakeMs: number;
  /** Wait before the answer to a failed login, times the failures so far. */
  readonly loginDelayMs: number;
  readonly loginFailures: number;
  /** Commands in a row that could not be read or were not allowed. */
  readonly badCommands: number;
}

export const defaultLimits: ImapLimits = {
  lineBytes: 64 * 1024,
  lineBytesBeforeLogin: 8 * 1024,
  wordBytes: 64 * 1024,
  wordBytesBeforeLogin: 4 * 1024,
  commandBytes: 512 * 1024,
  appendBytes: 64 * 1024 * 1024,
  memoryBytes: 128 * 1024,
  messagesPerAppend: 1000,
  literals: 'LITERAL+',
  loginTimeoutMs: 3 * 60_000,
  idleTimeoutMs: 31 * 60_000,
  stallTimeoutMs: 5 * 60_000,
  tlsHandshakeMs: 60_000,
  loginDelayMs: 1000,
  loginFailures: 3,
  badCommands: 20,
};
