// The main thread's end of one SQLite thread. The thread starts at the first order; if it dies, its open orders are
// rejected with `unavailable` (their outcome is unknown) and the next order starts a new one.
import { Worker } from 'node:worker_threads';
import { type Answer, type Order, type Request, type Response, type ThreadData, toError } from './sqlite-protocol.ts';
import { StateError } from './state.ts';

/** Beside this file, with the same ending: `.js` compiled, `.ts` where Node strips types. */
const entry = new URL(`./sqlite-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

export class SqliteThread {
  readonly #data: ThreadData;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #nextId = 1;

  constructor(data: ThreadData) {
    this.#data = data;
  }

  /** Orders not answered yet. */
  get pending(): number {
    return this.#waiting.size;
  }

  /** Answers come in the order of the calls. Rejects with a `StateError`. */
  ask(order: Order, transfer: readonly ArrayBuffer[] = []): Promise<Answer> {
    this.#worker ??= this.#start();
    const id = this.#nextId++;
    const worker = this.#worker;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ id, order } satisfies Request, transfer as ArrayBuffer[]);
    });
  }

  /** After the orders before it; harmless where the thread never started. */
  async close(): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) return;
    const gone = new Promise<void>(resolve => worker.once('exit', () => resolve()));
    // A thread that dies here had answered all that mattered: orders before this one have their own promises.
    await this.ask({ kind: 'close' }).catch(() => undefined);
    await gone;
  }

  #start(): Worker {
    const worker = new Worker(entry, { workerData: this.#data, name: 'state' });
    worker.on('message', ({ id, answer }: Response) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (answer.kind === 'failed') waiting?.reject(toError(answer.failure));
      else waiting?.resolve(answer);
    });
    const onGone = (cause: unknown): void => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      const lost = [...this.#waiting.values()];
      this.#waiting.clear();
      for (const { reject } of lost) reject(new StateError('unavailable', 'The state thread ended', { cause }));
    };
    worker.on('error', onGone);
    worker.on('exit', code => onGone(new Error(`Exit code ${code}`)));
    return worker;
  }
}
