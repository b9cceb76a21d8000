/** Time as a value that is handed in, so that a test can hold it still. Units: milliseconds. */
export interface Clock {
  /** Wall-clock time, ms since the Unix epoch. */
  now(): number;
  /** Time for measuring intervals; never goes backwards. */
  monotonic(): number;
  /** Calls `run` once after `ms`; the returned function cancels it. A pending call keeps the process alive. */
  after(ms: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};
