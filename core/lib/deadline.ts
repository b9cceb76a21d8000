// Deadlines are ours and not `AbortSignal.timeout`: that one is unreferenced and ignores a clock that a test holds.
import type { Clock } from './clock.ts';

export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';
  readonly limitMs: number;
  constructor(limitMs: number) {
    super(`Deadline of ${limitMs} ms passed`);
    this.limitMs = limitMs;
  }
}

export interface Deadline {
  /** Aborts with a `DeadlineError` when time is up, or with the parent's reason when the parent aborts. */
  readonly signal: AbortSignal;
  /** Ends the wait; the signal never aborts afterwards. Call it always, or the timer stays. */
  done(): void;
}

export function startDeadline(clock: Clock, limitMs: number, parent?: AbortSignal): Deadline {
  const controller = new AbortController();
  const cancel = clock.after(limitMs, () => controller.abort(new DeadlineError(limitMs)));
  const onParent = (): void => controller.abort(parent?.reason);
  if (parent?.aborted) onParent();
  else parent?.addEventListener('abort', onParent, { once: true });
  return {
    signal: controller.signal,
    done() {
      cancel();
      parent?.removeEventListener('abort', onParent);
    },
  };
}

/**
 * Settles as `work` does, or rejects with the signal's reason as soon as it aborts, whichever is first.
 * The work itself is not stopped by this: it holds the same signal for that.
 */
export function raceSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => undefined);
    return Promise.reject(signal.reason as Error);
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
