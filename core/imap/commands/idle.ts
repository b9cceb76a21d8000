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
  let looking: Promise<void> | undefined;
  const look = (): void => {
    pending = true;
    looking ??= (async () => {
      while (pending && !stopped) {
        pending = false;
        await at.tellChanges();
        await at.out.pace();
      }
    })()
      // Whoever reads the socket hears of the end, too.
      .catch(() => at.input.abort())
      .finally(() => {
        looking = undefined;
      });
  };
  const unsubscribe = at.selected?.mailbox.onChange(look);
  look();
  return async () => {
    stopped = true;
    unsubscribe?.();
    await looking;
  };
}
