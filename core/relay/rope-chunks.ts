// The bytes of a rope in chunks of bounded size, for sending.
import { open } from 'node:fs/promises';
import type { Rope } from '../mail/rope.ts';

const chunkSize = 256 * 1024;

export async function* ropeChunks(rope: Rope): AsyncGenerator<Buffer> {
  for (const piece of rope.pieces) {
    if (Buffer.isBuffer(piece)) {
      yield piece;
      continue;
    }
    const handle = await open(piece.file, 'r');
    try {
      for (let at = piece.start; at < piece.end; ) {
        const buffer = Buffer.allocUnsafe(Math.min(chunkSize, piece.end - at));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw new Error(`Read a message body: ended ${piece.end - at} bytes early`);
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await handle.close();
    }
  }
}
