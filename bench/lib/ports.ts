// Ports of the contestants. One that somebody else holds would take the load of the contestant that could not bind it, and
// the figures would be nonsense: it is asked for before every start.
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Throws where a program listens on that port of 127.0.0.1. */
export async function demandFree(port: number, who: string): Promise<void> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new Error(
      `Port ${port} of 127.0.0.1, meant for ${who}, is taken by another program (ss -ltnp 'sport = :${port}' names it): end it, or run again for other ports`,
      { cause: error },
    );
  }
  server.close();
  await once(server, 'close');
}
