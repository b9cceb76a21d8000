// Annotations of one scope. What an observing entry writes is seen by observing entries only: it decides nothing, not
// even through a plugin that would read it.
import type { ResultKey } from '../plugin/results.ts';

export class Results {
  #enforced: Map<string, unknown> | undefined;
  #observed: Map<string, unknown> | undefined;

  get(key: ResultKey<unknown>, observe: boolean): unknown {
    if (observe && this.#observed?.has(key.name)) return this.#observed.get(key.name);
    return this.#enforced?.get(key.name);
  }

  /** All that `get` would find, by name. */
  all(observe: boolean): ReadonlyMap<string, unknown> {
    return new Map([...(this.#enforced ?? []), ...((observe && this.#observed) || [])]);
  }

  set(key: ResultKey<unknown>, value: unknown, observe: boolean): void {
    if (observe) {
      this.#observed ??= new Map();
      this.#observed.set(key.name, value);
    } else {
      this.#enforced ??= new Map();
      this.#enforced.set(key.name, value);
    }
  }
}
