// New files that are synced together. While the journal of ext4 commits, a create waits for it; were each create followed by
// its sync, the next ones would wait in line for one commit after the other. So all that wait are created first and synced
// then, side by side: one commit for all of them. Only for one local disk: whoever hangs holds up the next batch.

interface Waiting {
  readonly create: () => number;
  readonly resolve: (fd: number) => void;
  readonly reject: (error: unknown) => void;
}

export class Batches {
  readonly #limit: number;
  #waiting: Waiting[] = [];
  /** Members of the batch that are not done. */
  #running = 0;

  /** `limit`: members of one batch; more than there are threads to sync them makes no sense. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Creates with the next batch. Who got a descriptor calls `done` once it is synced, or failed. */
  open(create: () => number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ create, resolve, reject });
      if (this.#running === 0) this.#begin();
    });
  }

  done(): void {
    this.#running--;
    if (this.#running === 0) this.#begin();
  }

  #begin(): void {
    while (this.#running === 0 && this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, this.#limit);
      this.#waiting = this.#waiting.slice(this.#limit);
      for (const { create, resolve, reject } of batch) {
        try {
          // A promise goes on only after this loop: no sync begins before the last create.
          resolve(create());
          this.#running++;
        } catch (error) {
          reject(error);
        }
      }
    }
  }
}
