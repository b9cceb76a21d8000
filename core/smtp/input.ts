// What the client sends, cut into command lines and message bytes, one step at a time: nothing is read ahead of a
// command that still works, so a hook that takes its time stalls the client and not the memory. Knows no SMTP beyond
// "lines end with LF, and a body may take over".

/** A handler that is done, or one that will be. */
export type Done = void | Promise<void>;

export interface BodySink {
  /**
   * Takes bytes from the beginning of `chunk` (and may overwrite it); answers how many were its own. `done` tells that
   * the body is complete; a returned promise holds the input back.
   */
  take(chunk: Buffer): { readonly used: number; readonly done: boolean; readonly wait?: Promise<void> | undefined };
  /** After the last byte. */
  finished(): Done;
}

export interface InputHandler {
  /** A line without its end. */
  line(line: Buffer): Done;
  /** A line went over `maxLine`; its bytes are dropped until the next line end. */
  lineTooLong(): Done;
  /** Nothing more to do with what has arrived; a promise (a client that does not read its replies) holds the input back. */
  drained(): Done;
  /** A command works and others wait behind it: replies so far should go out. */
  waiting(): void;
}

const LF = 10;
const CR = 13;
const empty = Buffer.alloc(0);
/** Commands of one chunk that are run before other connections get a turn. */
const commandsPerTurn = 100;
const skipPerError = 64 * 1024;

export class SmtpInput {
  /** Longest command line without its end, in bytes; may be raised for AUTH (RFC 4954 §4). */
  maxLine: number;
  /** While true nothing is parsed: before the greeting, and after the end. */
  held = true;
  private readonly handler: InputHandler;
  private pending: Buffer = empty;
  private next: (() => void) | undefined;
  private body: BodySink | undefined;
  private skipping = false;
  private skipped = 0;
  private busy = false;
  private closed = false;
  /** Where the search for the next LF goes on. */
  private searched = 0;

  constructor(handler: InputHandler, maxLine: number) {
    this.handler = handler;
    this.maxLine = maxLine;
  }

  /** Bytes that arrived and were not looked at. */
  get waitingBytes(): number {
    return this.pending.length;
  }

  get inBody(): boolean {
    return this.body !== undefined;
  }

  /** `next` is called when more may be fed. */
  feed(chunk: Buffer, next: () => void): void {
    if (this.closed) {
      next();
      return;
    }
    this.pending = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    this.next = next;
    this.pump();
  }

  /** Begins with the first line. */
  release(): void {
    this.held = false;
    this.pump();
  }

  /** The bytes from here on are the body's, until it is done. */
  startBody(sink: BodySink): void {
    this.body = sink;
    this.searched = 0;
  }

  /** Drops what waits and whatever comes. */
  close(): void {
    this.closed = true;
    this.pending = empty;
    this.body = undefined;
    this.more();
  }

  private pump(): void {
    if (this.busy || this.held) {
      // Before the greeting a client may not send; what it sends is kept only as proof, and little of it.
      if (this.held && !this.busy && this.pending.length < this.maxLine) this.more();
      return;
    }
    let turns = 0;
    for (;;) {
      const step = this.closed ? undefined : this.body ? this.bodyStep(this.body) : this.lineStep();
      if (step === undefined) break;
      if (step !== true) {
        this.hold(step);
        if (this.pending.length > 0) this.handler.waiting();
        return;
      }
      if (++turns >= commandsPerTurn) {
        this.hold(new Promise(resolve => setImmediate(resolve)));
        return;
      }
    }
    const wait = this.closed ? undefined : this.handler.drained();
    if (wait) this.hold(wait.then(() => this.more()));
    else this.more();
  }

  private hold(until: Promise<void>): void {
    this.busy = true;
    // The handler never rejects: it answers 451 for what went wrong.
    until.then(() => {
      this.busy = false;
      this.pump();
    });
  }

  private more(): void {
    const { next } = this;
    this.next = undefined;
    next?.();
  }

  /** `true`: did something; a promise: works on it; undefined: needs more bytes. */
  private lineStep(): true | Promise<void> | undefined {
    const { pending } = this;
    if (pending.length === 0) return undefined;
    const end = pending.indexOf(LF, this.searched);
    if (end < 0) {
      this.searched = pending.length;
      if (pending.length <= this.maxLine + 1 && !this.skipping) return undefined;
      this.skipped += pending.length;
      this.consume(pending.length);
      // A line without end is one more error for each 64 KiB, so that it ends with the client's credit.
      if (this.skipping && this.skipped < skipPerError) return undefined;
      this.skipped = 0;
      this.skipping = true;
      return this.handler.lineTooLong() ?? true;
    }
    const line = pending.subarray(0, end > 0 && pending[end - 1] === CR ? end - 1 : end);
    this.consume(end + 1);
    if (this.skipping) {
      this.skipping = false;
      this.skipped = 0;
      return true;
    }
    if (line.length > this.maxLine) return this.handler.lineTooLong() ?? true;
    return this.handler.line(line) ?? true;
  }

  private bodyStep(body: BodySink): true | Promise<void> | undefined {
    const { pending } = this;
    const { used, done, wait } = body.take(pending);
    this.consume(used);
    if (!done) return wait ?? (this.pending.length > 0 ? true : undefined);
    this.body = undefined;
    if (wait) return wait.then(() => (this.closed ? undefined : body.finished()));
    return body.finished() ?? true;
  }

  private consume(count: number): void {
    this.pending = count === this.pending.length ? empty : this.pending.subarray(count);
    this.searched = 0;
  }
}
