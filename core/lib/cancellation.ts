// A reason to stop that costs next to nothing until it is needed: an AbortSignal is made only when somebody asks for it,
// and those inside wait by a plain callback. Thousands of hooks a second never see either.

export class Cancellation {
  #controller: AbortController | undefined;
  #reason: Error | undefined;
  #listeners: Set<(reason: Error) => void> | undefined;

  /** Aborts when `signal` does. */
  static following(signal: AbortSignal): Cancellation {
    const own = new Cancellation();
    const follow = (): void => own.abort(signal.reason as Error);
    if (signal.aborted) follow();
    else signal.addEventListener('abort', follow, { once: true });
    return own;
  }

  /** For I/O of others. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#reason) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Calls `listener` once, at once where it is aborted already; the returned function takes it back. */
  onAbort(listener: (reason: Error) => void): () => void {
    if (this.#reason) {
      listener(this.#reason);
      return () => undefined;
    }
    const listeners = this.#listeners ?? new Set();
    this.#listeners = listeners;
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** The first reason counts. */
  abort(reason: Error): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
    const listeners = this.#listeners;
    this.#listeners = undefined;
    if (listeners) for (const listener of listeners) listener(reason);
  }
}
