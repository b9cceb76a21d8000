// Threads that take attachments apart. One that dies, or is not done in time, costs its attachment a mark and is replaced;
// the event loop never waits. A thread is kept for the next attachment: loading the code costs more than most archives,
// and on a busy machine seconds, which is not the attachment's fault and does not count against it.
import { Worker } from 'node:worker_threads';
import { type Clock, startDeadline } from '../../core/plugin/index.ts';
import type { Item } from './kinds.ts';
import type { UnpackReply, UnpackTask } from './unpack-worker.ts';

const entry = new URL(`./unpack-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
/** Of JavaScript objects in a thread; bytes are counted by the limits of the inspection. */
const maxHeapMb = 128;
const maxWaiting = 1000;

export type Unpacked =
  | { readonly kind: 'items'; readonly items: readonly Item[]; readonly ms: number }
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
  const waiting: (() => void)[] = [];
  let closed = false;

  function start(): Worker {
    const worker = new Worker(entry, { name: 'unpack', resourceLimits: { maxOldGenerationSizeMb: maxHeapMb } });
    all.add(worker);
    // Nobody listens while it is idle; an error is followed by its exit.
    worker.on('error', () => undefined);
    worker.on('exit', () => gone(worker));
    return worker;
  }

  /** The next message of a thread; undefined when it ended. */
  function heard(worker: Worker, signal: AbortSignal): Promise<UnpackReply | undefined> {
    return new Promise((resolve, reject) => {
      const settle = (reply: UnpackReply | undefined): void => {
        signal.removeEventListener('abort', onAbort);
        worker.off('message', settle).off('exit', onExit);
        resolve(reply);
      };
      const onExit = (): void => settle(undefined);
      const onAbort = (): void => {
        // First: what is settled stays so.
        reject(signal.reason as Error);
        settle(undefined);
      };
      worker.on('message', settle).on('exit', onExit);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  function gone(worker: Worker): void {
    all.delete(worker);
    const at = idle.indexOf(worker);
    if (at >= 0) idle.splice(at, 1);
    if (!closed) waiting.shift()?.();
  }

  function release(worker: Worker): void {
    worker.unref();
    if (all.has(worker)) idle.push(worker);
    waiting.shift()?.();
  }

  /** A thread that is ready for a task; undefined where it ended before it was. */
  async function take(signal: AbortSignal): Promise<Worker | undefined> {
    while (idle.length === 0 && all.size >= threads) await turn(signal);
    const free = idle.pop();
    free?.ref();
    if (free) return free;
    const fresh = start();
    try {
      return (await heard(fresh, signal)) && fresh;
    } catch (error) {
      // It may still come up, and then serves the next one.
      void heard(fresh, new AbortController().signal).then(ready => ready && release(fresh));
      throw error;
    }
  }

  function turn(signal: AbortSignal): Promise<void> {
    if (waiting.length >= maxWaiting) return Promise.reject(new Error('Too many attachments are waiting'));
    return new Promise((resolve, reject) => {
      const mine = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        waiting.splice(waiting.indexOf(mine), 1);
        reject(signal.reason as Error);
      };
      waiting.push(mine);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  async function ask(worker: Worker, task: UnpackTask, limitMs: number, signal: AbortSignal): Promise<Unpacked> {
    const began = clock.monotonic();
    const deadline = startDeadline(clock, limitMs, signal);
    // A copy of its own, so that it can be handed over instead of copied again.
    const bytes = new Uint8Array(task.bytes);
    worker.postMessage({ ...task, bytes }, [bytes.buffer]);
    try {
      const reply = await heard(worker, deadline.signal);
      if (reply) release(worker);
      if (reply && 'items' in reply) return { kind: 'items', items: reply.items, ms: clock.monotonic() - began };
      return { kind: 'failed', why: reply && 'error' in reply ? reply.error : 'Thread ended' };
    } catch (error) {
      void worker.terminate();
      if (signal.aborted) throw error;
      return { kind: 'failed', why: 'Not taken apart in time' };
    } finally {
      deadline.done();
    }
  }

  return {
    async unpack(task, limitMs, signal) {
      if (closed) throw new Error('The unpacking threads are closed');
      if (signal.aborted) throw signal.reason as Error;
      const worker = await take(signal);
      return worker ? ask(worker, task, limitMs, signal) : { kind: 'failed', why: 'Thread did not start' };
    },
    async close() {
      closed = true;
      await Promise.all([...all].map(worker => worker.terminate()));
    },
  };
}
