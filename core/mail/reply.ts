// SMTP replies as values. RFC 5321 §4.2 (reply codes), RFC 2034 and RFC 3463 (enhanced status codes).
type Code = {
  2: 220 | 221 | 250 | 251 | 252;
  4: 421 | 450 | 451 | 452 | 454;
  5: 500 | 501 | 502 | 503 | 504 | 521 | 530 | 535 | 538 | 550 | 551 | 552 | 553 | 554 | 555;
};

/** A reply whose enhanced status code has the class of its reply code: a 5.x.x inside a deferral does not compile. */
export interface Reply<C extends 2 | 4 | 5 = 2 | 4 | 5> {
  readonly code: Code[C];
  readonly enhanced: `${C}.${number}.${number}`;
  /** For the client: generic, ASCII, one line, no configuration detail, host, path or score (invariant I6). */
  readonly text: string;
  /** Hang up after replying. */
  readonly close?: boolean;
}

/** The class comes from the enhanced code: `reply(451, '4.3.0', 'Try again later')` is a `Reply<4>`. */
export const reply = <C extends 2 | 4 | 5>(
  code: Code[C],
  enhanced: `${C}.${number}.${number}`,
  text: string,
): Reply<C> => ({ code, enhanced, text });

/** The same reply, after which the connection is closed. */
export const closing = <C extends 2 | 4 | 5>(given: Reply<C>): Reply<C> => ({ ...given, close: true });

// Those that several parts need in the same words.
export const replies = {
  /** RFC 5321 §4.2.2, whole service; hangs up. */
  shuttingDown: closing(reply(421, '4.3.2', 'Service closing, try again later')),
  tryLater: reply(451, '4.3.0', 'Temporary failure, try again later'),
  noSpace: reply(452, '4.3.1', 'Insufficient system storage, try again later'),
  noSuchUser: reply(550, '5.1.1', 'No such user here'),
  relayDenied: reply(550, '5.7.1', 'Relaying denied'),
} as const;
