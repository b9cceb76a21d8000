import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { type ControlRequest, type ControlResponse, maxControlLine } from './protocol.ts';

export type ControlHandler = (request: ControlRequest) => Promise<unknown>;

export interface ControlServer {
  close(): Promise<void>;
}

function serve(socket: Socket, handle: ControlHandler): void {
  let pending = '';
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    pending += chunk;
    if (pending.length > maxControlLine) socket.destroy();
    for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n')) {
      const line = pending.slice(0, end);
      pending = pending.slice(end + 1);
      void answer(line, handle).then(response => socket.write(`${response}\n`));
    }
  });
}

/** As JSON, which what a plugin says of itself may have no form in. */
async function answer(line: string, handle: ControlHandler): Promise<string> {
  const write = (response: ControlResponse): string => JSON.stringify(response);
  try {
    return write({ ok: true, value: (await handle(JSON.parse(line) as ControlRequest)) ?? null });
  } catch (error) {
    return write({ ok: false, error: error instanceof Error ? error.message : String(error) });
  }
}

/** Listens at `file`; a socket left behind by a gateway that was killed is replaced. */
export async function startControlServer(file: string, handle: ControlHandler): Promise<ControlServer> {
  rmSync(file, { force: true });
  const sockets = new Set<Socket>();
  const server: Server = createServer(socket => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    serve(socket, handle);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(file, resolve);
  });
  chmodSync(file, 0o600);
  return {
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        // A client that never closes its side does not hold up the stop.
        for (const socket of sockets) socket.destroySoon();
      }),
  };
}
