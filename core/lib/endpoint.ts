// Where a local service listens, as administrators write it, and a connection to it that never outlives its signal.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import type { Clock } from './clock.ts';
import { raceSignal, startDeadline } from './deadline.ts';
import { fitsSocket } from './socket-path.ts';

export type Endpoint =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls: boolean };

/**
 * `/run/x.sock`, `unix:/run/x.sock`, `host`, `host:port`, `[::1]:port`, `tls://host:port`, and as milters are named:
 * `inet:port@host`. Undefined for anything else, for a path too long for a socket, or where the port is missing and
 * there is no default.
 */
export function parseEndpoint(text: string, defaultPort?: number): Endpoint | undefined {
  const unix = /^(?:unix:|local:)?(\/.+)$/.exec(text);
  if (unix?.[1]) return fitsSocket(unix[1]) ? { kind: 'unix', path: unix[1] } : undefined;
  const milter = /^inet6?:(\d+)@(.+)$/.exec(text);
  const plain = /^(tls:\/\/)?(?:inet:)?(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d+))?$/i.exec(text);
  const host = milter ? milter[2] : (plain?.[2] ?? plain?.[3]);
  const port = Number(milter ? milter[1] : (plain?.[4] ?? defaultPort));
  if (host === undefined || !Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
  return { kind: 'tcp', host, port, tls: plain?.[1] !== undefined };
}

export function formatEndpoint(endpoint: Endpoint): string {
  if (endpoint.kind === 'unix') return endpoint.path;
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host;
  return `${endpoint.tls ? 'tls://' : ''}${host}:${endpoint.port}`;
}

export interface ConnectOptions {
  /** Destroys the socket when it aborts, connected or not. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** For the connection and the TLS handshake. */
  readonly connectMs: number;
  /** File with the certificates that vouch for the service; default: those Node trusts. */
  readonly caFile?: string;
}

/** The caller listens for `error` on the socket from then on. Rejects when nobody answers in time or the signal aborts. */
export async function connectEndpoint(endpoint: Endpoint, options: ConnectOptions): Promise<net.Socket> {
  const { signal } = options;
  signal.throwIfAborted();
  const socket = open(endpoint, options);
  const onAbort = (): void => void socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  socket.once('close', () => signal.removeEventListener('abort', onAbort));
  const deadline = startDeadline(options.clock, options.connectMs, signal);
  const event = endpoint.kind === 'tcp' && endpoint.tls ? 'secureConnect' : 'connect';
  try {
    await raceSignal(once(socket, event), deadline.signal);
    return socket;
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    throw error;
  } finally {
    deadline.done();
  }
}

function open(endpoint: Endpoint, { caFile }: ConnectOptions): net.Socket {
  if (endpoint.kind === 'unix') return net.connect({ path: endpoint.path });
  const { host, port } = endpoint;
  if (!endpoint.tls) return net.connect({ host, port, noDelay: true });
  const servername = net.isIP(host) ? {} : { servername: host };
  return tls.connect({ host, port, ...servername, ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }) });
}
