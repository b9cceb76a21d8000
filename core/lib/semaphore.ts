// At most so many at a time, the rest in the order they came.

export interface Semaphore {
  /** Runs `work` once a place is free; rejects with the signal's reason when it aborts before that. */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  readonly running: number;
  readonly waiting: number;
}

interface Waiter {
  start(): void;
}

export function createSemaphore(places: number): Semaphore {
  if (!(places >= 1)) throw new RangeError(`Cannot run ${places} at a time`);
  let running = 0;
  // A Set keeps order and forgets one that gave up without a search.
  const queue = new Set<Waiter>();

  const enter = (signal?: AbortSignal): Promise<void> => {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (running < places) {
      running++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        queue.delete(waiter);
        reject(signal?.reason as Error);
      };
      const waiter: Waiter = {
        start() {
          signal?.removeEventListener('abort', giveUp);
          resolve();
        },
      };
      queue.add(waiter);
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  };

  const leave = (): void => {
    const [next] = queue;
    if (!next) {
      running--;
      return;
    }
    // The place is handed over, so that nobody who comes in between takes it.
    queue.delete(next);
    next.start();
  };

  return {
    async run(work, signal) {
      await enter(signal);
      try {
        return await work();
      } finally {
        leave();
      }
    },
    get running() {
      return running;
    },
    get waiting() {
      return queue.size;
    },
  };
}
