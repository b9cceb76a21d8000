// A listening socket that knows the sockets it accepted. TCP with NODELAY (replies are written whole; Nagle and delayed
// ACKs would cost 40 ms per pipelined batch) or a Unix socket. Nothing about protocols, limits or TLS in here.
import { chmod, lstat, unlink } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../lib/clock.ts';

export type ListenTarget =
  /** `host` absent: all addresses, IPv6 and IPv4. Port 0: any free one. */
  | { readonly host?: string; readonly port: number }
  /** A Unix socket; a stale one is replaced. `mode`: permissions of the socket file, e.g. 0o660. */
  | { readonly path: string; readonly mode?: number };

export interface ListenerOptions {
  readonly target: ListenTarget;
  /** Connections that may wait to be accepted; the kernel cuts it at net.core.somaxconn. Default 4096. */
  readonly backlog?: number;
  /** Each accepted socket. It is not reading yet and has an error listener only once this added one. */
  onSocket(socket: Socket): void;
  /** Trouble of the listening socket after it was bound, such as EMFILE. */
  onError(error: Error): void;
}

export interface Listener {
  /** For a Unix socket `address` is its path and `port` 0. */
  readonly address: string;
  readonly port: number;
  /** Accepted and not yet closed. */
  readonly sockets: ReadonlySet<Socket>;
  /** Stops accepting; the sockets stay. Resolves once the port is free for another process. */
  stop(): Promise<void>;
  /** Stops accepting, waits up to `graceMs` for the sockets to close, destroys the rest. */
  close(graceMs: number, clock: Clock): Promise<void>;
}

/** Rejects with the bind error (EADDRINUSE, EACCES …), its message naming the address. */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const { target } = options;
  if ('path' in target) await removeStaleSocket(target.path);
  const sockets = new Set<Socket>();
  let onEmpty: (() => void) | undefined;
  const server = createServer({ noDelay: true, allowHalfOpen: false }, socket => {
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      if (sockets.size === 0) onEmpty?.();
    });
    options.onSocket(socket);
  });
  await bind(server, target, options.backlog ?? 4096);
  server.on('error', options.onError);
  try {
    if ('path' in target && target.mode !== undefined) await chmod(target.path, target.mode);
  } catch (error) {
    server.close();
    throw error;
  }
  const bound = server.address();
  // `close` calls back only when the last socket is gone; the port itself is free at once.
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (stopped) return;
    stopped = true;
    server.close();
  };
  return {
    address: typeof bound === 'object' && bound ? bound.address : 'path' in target ? target.path : '',
    port: typeof bound === 'object' && bound ? bound.port : 0,
    sockets,
    stop,
    async close(graceMs, clock) {
      await stop();
      if (sockets.size === 0) return;
      await new Promise<void>(resolve => {
        const cancel = clock.after(graceMs, () => {
          for (const socket of sockets) socket.destroy();
        });
        onEmpty = () => {
          cancel();
          resolve();
        };
      });
    },
  };
}

function bind(server: Server, target: ListenTarget, backlog: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      const where = 'path' in target ? target.path : `${target.host ?? '*'} port ${target.port}`;
      reject(new Error(`Cannot listen on ${where}: ${error.message}`, { cause: error }));
    };
    server.once('error', onError);
    const done = (): void => {
      server.removeListener('error', onError);
      resolve();
    };
    if ('path' in target) server.listen({ path: target.path, backlog }, done);
    else server.listen({ port: target.port, backlog, ...(target.host !== undefined && { host: target.host }) }, done);
  });
}

/** A socket file that nobody listens on any more would make the bind fail. One that answers is left alone. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found?.isSocket()) return;
  const alive = await new Promise<boolean>(resolve => {
    const probe = createConnection({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', error => resolve((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED'));
  });
  if (!alive) await unlink(path);
}
