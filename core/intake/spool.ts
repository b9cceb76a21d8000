// A message on its way in: in memory while it is small, in a file otherwise.
import { open, unlink } from 'node:fs/promises';
import { bufferRope, fileRope, type Rope } from '../mail/rope.ts';

export interface Spooled {
  readonly rope: Rope;
  dispose(): Promise<void>;
}

const memoryBytes = 1_048_576;

/** `file` is made only where it is needed. Rejects as the source does, with nothing left behind. */
export async function spoolMessage(source: AsyncIterable<Buffer>, file: string): Promise<Spooled> {
  let held: Buffer[] = [];
  let size = 0;
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  const dispose = () => unlink(file).catch(() => undefined);
  try {
    for await (const chunk of source) {
      size += chunk.length;
      held.push(chunk);
      if (size <= memoryBytes) continue;
      handle ??= await open(file, 'w', 0o600);
      for (const bytes of held) await handle.writeFile(bytes);
      held = [];
    }
    if (!handle) return { rope: bufferRope(Buffer.concat(held)), dispose: () => Promise.resolve() };
    await handle.close();
    return { rope: fileRope(file, 0, size), dispose };
  } catch (error) {
    await handle?.close().catch(() => undefined);
    if (handle) await dispose();
    throw error;
  }
}
