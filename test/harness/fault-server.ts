// A server that does on purpose what a real engine does only when it breaks: garbage, silence, an end or a reset in the
// middle.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import type { Teardown } from './engine-process.ts';

export type Fault =
  /** Answers these bytes to the first bytes that come, then closes. */
  | { readonly kind: 'say'; readonly bytes: string | Buffer }
  /** Answers these bytes again and again, for ever. */
  | { readonly kind: 'flood'; readonly bytes: string | Buffer }
  /** Takes all and never answers. */
  | { readonly kind: 'silent' }
  /** Resets the connection after so many bytes. */
  | { readonly kind: 'reset'; readonly afterBytes: number };

export interface FaultServer {
  readonly port: number;
  readonly connections: () => number;
  set(fault: Fault): void;
}

export async function startFaultServer(t: Teardown, first: Fault): Promise<FaultServer> {
  let fault = first;
  let connections = 0;
  const open = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    connections++;
    open.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => open.delete(socket));
    let bytes = 0;
    socket.on('data', chunk => {
      bytes += chunk.length;
      if (fault.kind === 'say' && !socket.writableEnded) socket.end(fault.bytes);
      if (fault.kind === 'reset' && bytes >= fault.afterBytes) socket.resetAndDestroy();
      if (fault.kind === 'flood' && bytes === chunk.length) pour(socket, fault.bytes);
    });
  });
  const pour = (socket: net.Socket, bytes: string | Buffer): void => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(bytes));
    };
    socket.on('drain', more);
    more();
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    for (const socket of open) socket.destroy();
    await new Promise<void>(resolve => server.close(() => resolve()));
  });
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    set(next) {
      fault = next;
    },
  };
}
