// Tells when another program changed a folder. One inotify watch each for `new/` and `cur/`; where the system has no more
// of them, a look every few seconds does. What came is not told: the listener syncs, which is cheap.
import { watch } from 'node:fs';
import path from 'node:path';

const quietMs = 30;
const pollMs = 5000;

/** Calls `onEvent` soon after a change, at most once per `quietMs`. Returns what ends it. */
export function watchFolder(folder: string, onEvent: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const soon = (): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      onEvent();
    }, quietMs);
  };
  const ends = ['new', 'cur'].map(part => watchOne(path.join(folder, part), soon, onEvent));
  return () => {
    clearTimeout(timer);
    for (const end of ends) end();
  };
}

function watchOne(folder: string, soon: () => void, onEvent: () => void): () => void {
  const poll = (): (() => void) => {
    const timer = setInterval(onEvent, pollMs);
    timer.unref();
    return () => clearInterval(timer);
  };
  try {
    let end: (() => void) | undefined;
    const watcher = watch(folder, { persistent: false }, soon);
    end = () => watcher.close();
    watcher.on('error', () => {
      watcher.close();
      end = poll();
    });
    return () => end?.();
  } catch {
    // ENOSPC: out of watches; ENOENT: the folder is just being removed.
    return poll();
  }
}
