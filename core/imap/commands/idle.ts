import { type Authenticated, command, nothing } from '../command.ts';
import { bad, ok } from '../response.ts';

const maxDoneBytes = 1024;

/** RFC 2177: until DONE, everything that happens in the selected mailbox is told as it happens. */
export const idle = command({
  name: 'IDLE',
  state: 'authenticated',
  parse: nothing,
  async run(at) {
    at.out.write('+ idling\r\n');
    at.out.flush();
    const stop = tellWhileWaiting(at);
    try {
      const line = await at.input.line(maxDoneBytes);
      const done = line.kind === 'line' && line.bytes.toString('latin1').trim().toUpperCase() === 'DONE';
      return done ? ok('Idle completed') : bad('Expected DONE');
    } finally {
      await stop();
    }
  },
});

/** One look at a time; changes during a look cause one more. A client that does not read is not written to. */
function tellWhileWaiting(at: Authenticated): () => Promise<void> {
  let stopped = false;
  let pending = true;
  // What other programs did before is looked for once; after that the mailbox's own watch tells.
  let look: 'disk' | 'memory' = 'disk';
  let looking: Promise<void> | undefined;
  const tell = (): void => {
    pending = true;
    looking ??= (async () => {
      while (pending && !stopped) {
        pending = false;
        const now = look;
        look = 'memory';
        await at.tellChanges(now);
        await at.out.pace();
      }
    })()
      // Whoever reads the socket hears of the end, too.
      .catch(() => {
        stopped = true;
        at.input.abort();
      })
      .finally(() => {
        looking = undefined;
        if (pending && !stopped) tell();
      });
  };
  const unsubscribe = at.selected?.mailbox.onChange(tell);
  tell();
  return async () => {
    stopped = true;
    unsubscribe?.();
    await looking;
  };
}
