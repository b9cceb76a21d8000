// Threads that take attachments apart. One that dies, or is not done in time, costs its attachment a mark and is replaced;
// the event loop never waits. A thread is kept for the next attachment: loading the code costs more than most archives.
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../core/plugin/index.ts';
import type { Item } from './kinds.ts';
import type { UnpackReply, UnpackTask } from './unpack-worker.ts';

const entry = new URL(`./unpack-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
/** Of JavaScript objects in a thread; bytes are counted by the limits of the inspection. */
const maxHeapMb = 128;
const maxWaiting = 1000;

export type Unpacked =
  | { readonly kind: 'items'; readonly items: readonly Item[] }
  /** The thread died or was not done in time. */
  | { readonly kind: 'failed'; readonly why: string };

export interface Unpackers {
  /** Rejects with the signal's reason when it aborts. */
  unpack(task: UnpackTask, limitMs: number, signal: AbortSignal): Promise<Unpacked>;
  close(): Promise<void>;
}

export function openUnpackers(threads: number, clock: Clock): Unpackers {
  const idle: Worker[] = [];
  const all = new Set<Worker>();
  const waiting: ((worker: Worker) => void)[] = [];
  let closed = false;

  function start(): Worker {
    const worker = new Worker(entry, { name: 'unpack', resourceLimits: { maxOldGenerationSizeMb: maxHeapMb } });
    all.add(worker);
    // Nobody listens while it is idle; an error is followed by its exit.
    worker.on('error', () => undefined);
    worker.on('exit', () => gone(worker));
    return worker;
  }

  function gone(worker: Worker): void {
    all.delete(worker);
    const at = idle.indexOf(worker);
    if (at >= 0) idle.splice(at, 1);
    const next = closed ? undefined : waiting.shift();
    if (next) next(start());
  }

  function release(worker: Worker): void {
    worker.unref();
    const next = waiting.shift();
    if (next) next(worker);
    else idle.push(worker);
  }

  function take(signal: AbortSignal): Promise<Worker> {
    const free = idle.pop() ?? (all.size < threads ? start() : undefined);
    if (free) return Promise.resolve(free);
    if (waiting.length >= maxWaiting) return Promise.reject(new Error('Too many attachments are waiting'));
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        waiting.splice(waiting.indexOf(mine), 1);
        reject(signal.reason as Error);
      };
      const mine = (worker: Worker): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(worker);
      };
      waiting.push(mine);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  function ask(worker: Worker, task: UnpackTask, limitMs: number, signal: AbortSignal): Promise<Unpacked> {
    return new Promise((resolve, reject) => {
      const cancel = clock.after(limitMs, () => end({ kind: 'failed', why: 'Not taken apart in time' }, true));
      const onAbort = (): void => end(undefined, true);
      const onMessage = (reply: UnpackReply): void =>
        'items' in reply
          ? end({ kind: 'items', items: reply.items }, false)
          : end({ kind: 'failed', why: reply.error }, false);
      const onGone = (): void => end({ kind: 'failed', why: 'Thread ended' }, false);
      let done = false;
      function end(result: Unpacked | undefined, kill: boolean): void {
        if (done) return;
        done = true;
        cancel();
        signal.removeEventListener('abort', onAbort);
        worker.off('message', onMessage).off('exit', onGone);
        if (kill) void worker.terminate();
        else if (all.has(worker)) release(worker);
        if (result) resolve(result);
        else reject(signal.reason as Error);
      }
      worker.on('message', onMessage).prependListener('exit', onGone);
      signal.addEventListener('abort', onAbort, { once: true });
      worker.ref();
      // A copy of its own, so that it can be handed over instead of copied again.
      const bytes = new Uint8Array(task.bytes);
      worker.postMessage({ ...task, bytes }, [bytes.buffer]);
    });
  }

  return {
    async unpack(task, limitMs, signal) {
      if (closed) throw new Error('The unpacking threads are closed');
      if (signal.aborted) throw signal.reason as Error;
      return ask(await take(signal), task, limitMs, signal);
    },
    async close() {
      closed = true;
      await Promise.all([...all].map(worker => worker.terminate()));
    },
  };
}
