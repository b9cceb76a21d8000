// Back-pressure of a connection: after a write that returned false.
import type { Socket } from 'node:net';

/** Resolves when more may be written, or the connection is closed. Leaves no listener behind. */
export function drained(socket: Socket): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
    if (socket.destroyed) done();
  });
}
