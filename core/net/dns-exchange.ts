// One question to one server: UDP from a fresh random port on a connected socket (so that only that server can answer,
// RFC 5452 §9.2), TCP when the answer does not fit (RFC 7766). Ends by its answer, its time, or the caller's signal, and
// leaves no socket behind.
import { createSocket } from 'node:dgram';
import { connect, isIP } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { decodeResponse, encodeQuery, type RecordType, type WireAnswer, type WireQuery } from './dns-wire.ts';

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
  /** As configured. */
  readonly text: string;
}

/** `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]:5353`. Throws where it is none of these. */
export function parseServer(text: string): ServerAddress {
  const match = /^\[([^\]]+)\](?::(\d+))?$/.exec(text) ?? /^([^:]+)(?::(\d+))?$/.exec(text) ?? [text, text];
  const [, host = '', port = '53'] = match;
  if (isIP(host.replace(/%.*$/, '')) === 0 || Number(port) < 1 || Number(port) > 65535)
    throw new Error(`Expected a resolver such as '192.0.2.1' or '[2001:db8::1]:5353', found '${text}'`);
  return { host, port: Number(port), text };
}

export type Exchanged = Exclude<WireAnswer, { kind: 'truncated' }> | { readonly kind: 'silent'; readonly why: string };

/** Never rejects. `silent`: no usable answer came in time. */
export async function exchange(
  server: ServerAddress,
  name: string,
  type: RecordType,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Exchanged> {
  const began = clock.monotonic();
  const left = (): number => Math.max(1, timeoutMs - (clock.monotonic() - began));
  let query = encodeQuery(name, type, true);
  const ask = (open: Opener): Promise<Attempt> => attempt(clock, left(), signal, open(server, query));
  let answer = await ask(byUdp);
  // RFC 6891 §7: an old server may refuse EDNS; then ask as in 1987.
  if (answer.kind === 'failed' && (answer.rcode === 'FORMERR' || answer.rcode === 'NOTIMP')) {
    query = encodeQuery(name, type, false);
    answer = await ask(byUdp);
  }
  if (answer.kind === 'truncated') answer = await ask(byTcp);
  return answer.kind === 'truncated' ? { kind: 'silent', why: 'truncated over TCP' } : answer;
}

type Attempt = WireAnswer | { readonly kind: 'silent'; readonly why: string };

/** Sends the query over one transport; returns how to end it. */
type Transport = (settle: (answer: Attempt) => void) => () => void;
type Opener = (server: ServerAddress, query: WireQuery) => Transport;

/** Settles once; `open` starts the transport and returns how to end it. */
function attempt(clock: Clock, timeoutMs: number, signal: AbortSignal, open: Transport): Promise<Attempt> {
  return new Promise(resolve => {
    let close = (): void => {};
    let settled = false;
    const settle = (answer: Attempt): void => {
      if (settled) return;
      settled = true;
      cancel();
      signal.removeEventListener('abort', onAbort);
      close();
      resolve(answer);
    };
    const cancel = clock.after(timeoutMs, () => settle({ kind: 'silent', why: 'timeout' }));
    const onAbort = (): void => settle({ kind: 'silent', why: 'aborted' });
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    else close = open(settle);
  });
}

const byUdp: Opener = (server, query) => settle => {
  const socket = createSocket(isIP(server.host.replace(/%.*$/, '')) === 6 ? 'udp6' : 'udp4');
  let closed = false;
  socket.on('error', error => settle({ kind: 'silent', why: error.message }));
  socket.on('message', bytes => {
    const answer = decodeResponse(query, bytes);
    // What is no answer is ignored: the right one may still come, and a forger shall not be able to end the wait.
    if (answer) settle(answer);
  });
  // By the event: a callback would be called for an error, too, such as no route to the server.
  socket.once('connect', () => {
    if (!closed) socket.send(query.bytes);
  });
  socket.connect(server.port, server.host);
  return () => {
    closed = true;
    socket.close();
  };
};

const byTcp: Opener = (server, query) => settle => {
  const socket = connect(server.port, server.host);
  // RFC 1035 §4.2.2: two bytes of length before each message, so at most 64 KiB are ever held.
  let held = Buffer.alloc(0);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(query.bytes.length);
  socket.write(Buffer.concat([length, query.bytes]));
  socket.on('data', chunk => {
    held = Buffer.concat([held, chunk]);
    if (held.length < 2 || held.length < 2 + held.readUInt16BE(0)) return;
    const answer = decodeResponse(query, held.subarray(2, 2 + held.readUInt16BE(0)));
    settle(answer ?? { kind: 'silent', why: 'unreadable answer over TCP' });
  });
  socket.on('error', error => settle({ kind: 'silent', why: error.message }));
  socket.on('close', () => settle({ kind: 'silent', why: 'connection closed' }));
  return () => socket.destroy();
};
