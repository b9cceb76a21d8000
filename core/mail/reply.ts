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
