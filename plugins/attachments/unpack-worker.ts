// Entry of an unpacking thread: one attachment at a time, so that no archive holds the event loop, and one that never ends
// is ended with the thread.
import { parentPort } from 'node:worker_threads';
import { openArchives } from './archive.ts';
import type { Container } from './detect.ts';
import { Inspection } from './inspect.ts';
import type { InspectLimits, Item } from './kinds.ts';

export interface UnpackTask {
  readonly bytes: Uint8Array;
  readonly names: readonly string[];
  readonly container?: Container;
  readonly limits: InspectLimits;
}
/** `ready` is said once, when tasks may come. */
export type UnpackReply = { readonly ready: true } | { readonly items: readonly Item[] } | { readonly error: string };

/** Of the thread; twice the largest attachment with what is unpacked of it, and a dictionary of 64 MiB, fits in. */
const maxMemory = 512 * 1024 * 1024;

const port = parentPort;
if (!port) throw new Error('Not a worker thread');
const archives = openArchives(maxMemory);

async function run(task: UnpackTask): Promise<UnpackReply> {
  const inspection = new Inspection(archives, task.limits);
  const { buffer, byteOffset, byteLength } = task.bytes;
  await inspection.file(Buffer.from(buffer, byteOffset, byteLength), task.names, '', 0, task.container);
  return { items: inspection.items };
}

port.on('message', (task: UnpackTask) => {
  run(task)
    .catch((error: unknown): UnpackReply => ({ error: String(error) }))
    .then(reply => port.postMessage(reply));
});
port.postMessage({ ready: true } satisfies UnpackReply);
