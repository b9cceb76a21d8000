// Connections kept open per next hop: reused while they are idle for a short time, limited in number, first come first
// served. A session is lent to one message at a time; a broken one is dropped.
import type { Clock } from '../lib/clock.ts';
import type { SmtpSession } from './session.ts';

export interface PoolOptions {
  readonly clock: Clock;
  /** Open connections to one next hop. */
  readonly limit: number;
  /** An idle connection is closed after so long, ms. */
  readonly idleMs: number;
  /** Messages over one connection. */
  readonly maxUses: number;
}

export interface Loan {
  readonly session: SmtpSession;
  /** It was idle before: the server may have hung up in the meantime. */
  readonly reused: boolean;
}

interface Idle {
  readonly session: SmtpSession;
  readonly cancel: () => void;
}
interface Hop {
  readonly idle: Idle[];
  readonly waiting: (() => void)[];
  /** Lent, idle and being opened. */
  open: number;
}

export class ConnectionPool {
  readonly #options: PoolOptions;
  readonly #hops = new Map<string, Hop>();
  readonly #closing = new Set<Promise<void>>();
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** A session of this next hop: an idle one, or a new one by `open`. Rejects as `open` does, or when `signal` aborts. */
  async take(
    key: string,
    open: () => Promise<SmtpSession>,
    signal: AbortSignal,
    limit: number = this.#options.limit,
  ): Promise<Loan> {
    let hop = this.#hop(key);
    for (;;) {
      const idle = hop.idle.pop();
      if (idle) {
        idle.cancel();
        if (!idle.session.broken) return { session: idle.session, reused: true };
        this.#left(key, hop);
        // Where it was the last one its hop is forgotten now.
        hop = this.#hop(key);
        continue;
      }
      if (hop.open < limit) break;
      await this.#turn(hop, signal);
    }
    hop.open += 1;
    try {
      return { session: await open(), reused: false };
    } catch (error) {
      this.#left(key, hop);
      throw error;
    }
  }

  #hop(key: string): Hop {
    let hop = this.#hops.get(key);
    if (!hop) {
      hop = { idle: [], waiting: [], open: 0 };
      this.#hops.set(key, hop);
    }
    return hop;
  }

  #turn(hop: Hop, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        hop.waiting.splice(hop.waiting.indexOf(go), 1);
        reject(signal.reason instanceof Error ? signal.reason : new Error('Attempt was aborted'));
      };
      if (signal.aborted) {
        reject(new Error('Attempt was aborted'));
        return;
      }
      hop.waiting.push(go);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Gives a session back after use. */
  give(key: string, session: SmtpSession): void {
    const hop = this.#hop(key);
    if (session.broken) {
      this.#left(key, hop);
      return;
    }
    if (this.#closed || session.used >= this.#options.maxUses) {
      this.#quit(session);
      this.#left(key, hop);
      return;
    }
    const idle: Idle = {
      session,
      cancel: this.#options.clock.after(this.#options.idleMs, () => this.#retire(key, hop, idle, true)),
    };
    session.onClose(() => this.#retire(key, hop, idle, false));
    hop.idle.push(idle);
    hop.waiting.shift()?.();
  }

  #retire(key: string, hop: Hop, idle: Idle, polite: boolean): void {
    const at = hop.idle.indexOf(idle);
    if (at < 0) return;
    hop.idle.splice(at, 1);
    idle.cancel();
    if (polite) this.#quit(idle.session);
    this.#left(key, hop);
  }

  #quit(session: SmtpSession): void {
    const done = session.quit().finally(() => this.#closing.delete(done));
    this.#closing.add(done);
  }

  #left(key: string, hop: Hop): void {
    hop.open -= 1;
    const next = hop.waiting.shift();
    if (next) next();
    else if (hop.open === 0) this.#hops.delete(key);
  }

  /** Connections now: in all, and idle. */
  status(): { readonly open: number; readonly idle: number } {
    let open = 0;
    let idle = 0;
    for (const hop of this.#hops.values()) {
      open += hop.open;
      idle += hop.idle.length;
    }
    return { open, idle };
  }

  /** Says QUIT on idle sessions; lent ones follow when they come back. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const [key, hop] of [...this.#hops]) for (const idle of [...hop.idle]) this.#retire(key, hop, idle, true);
    await Promise.all(this.#closing);
  }
}
