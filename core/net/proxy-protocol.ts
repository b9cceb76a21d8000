// The PROXY protocol, versions 1 and 2 (HAProxy specification, 2.1 and 2.2): a load balancer tells the real addresses
// before the first byte of the client. Only believed from trusted addresses (the caller checks), bounded in bytes and
// time, and nothing of the client's own bytes is consumed.
import { isIP, type Socket } from 'node:net';
import { unmapAddress } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export type ProxyHeader =
  /** The balancer's own connection (health check): keep the socket's addresses. */
  { readonly kind: 'local' } | { readonly kind: 'proxied'; readonly source: Endpoint; readonly destination: Endpoint };

export type ProxyParse =
  | { readonly kind: 'more' }
  | { readonly kind: 'invalid'; readonly why: string }
  | { readonly kind: 'done'; readonly length: number; readonly header: ProxyHeader };

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const signature1 = Buffer.from('PROXY ', 'latin1');
/** Version 1: 107 bytes with CRLF is the longest line the specification allows. */
const maxLine = 107;
/** Version 2: addresses and TLVs; more than any balancer sends. */
const maxBody = 4096;
const invalid = (why: string): ProxyParse => ({ kind: 'invalid', why });

/** Parses the header at the beginning of `bytes`; `more` while it may still become one. */
export function parseProxyHeader(bytes: Buffer): ProxyParse {
  if (startsLike(bytes, signature1)) return parseVersion1(bytes);
  if (startsLike(bytes, signature)) return parseVersion2(bytes);
  return invalid('no PROXY header');
}

function startsLike(bytes: Buffer, prefix: Buffer): boolean {
  const length = Math.min(bytes.length, prefix.length);
  return bytes.compare(prefix, 0, length, 0, length) === 0;
}

function parseVersion1(bytes: Buffer): ProxyParse {
  const end = bytes.indexOf('\r\n');
  if (end < 0 && bytes.length < maxLine) return { kind: 'more' };
  if (end < 0 || end + 2 > maxLine) return invalid('PROXY line too long');
  const length = end + 2;
  const words = bytes.toString('latin1', 0, end).split(' ');
  if (words[1] === 'UNKNOWN') return { kind: 'done', length, header: { kind: 'local' } };
  const [, family, from, to, fromPort, toPort] = words;
  if (words.length !== 6 || (family !== 'TCP4' && family !== 'TCP6')) return invalid('PROXY line malformed');
  const wanted = family === 'TCP4' ? 4 : 6;
  if (isIP(from ?? '') !== wanted || isIP(to ?? '') !== wanted) return invalid('PROXY address malformed');
  const source = endpoint(from, fromPort);
  const destination = endpoint(to, toPort);
  if (!source || !destination) return invalid('PROXY port malformed');
  return { kind: 'done', length, header: { kind: 'proxied', source, destination } };
}

function endpoint(address = '', port = ''): Endpoint | undefined {
  if (!/^(?:0|[1-9]\d{0,4})$/.test(port) || Number(port) > 65_535) return undefined;
  return { address: unmapAddress(address), port: Number(port) };
}

function parseVersion2(bytes: Buffer): ProxyParse {
  if (bytes.length < 16) return { kind: 'more' };
  const command = bytes.readUInt8(12);
  const family = bytes.readUInt8(13);
  const body = bytes.readUInt16BE(14);
  if (command >> 4 !== 2) return invalid('PROXY version unknown');
  if (body > maxBody) return invalid('PROXY header too long');
  if (bytes.length < 16 + body) return { kind: 'more' };
  const length = 16 + body;
  const local: ProxyParse = { kind: 'done', length, header: { kind: 'local' } };
  if ((command & 15) === 0) return local;
  if ((command & 15) !== 1) return invalid('PROXY command unknown');
  const size = family === 0x11 ? 4 : family === 0x21 ? 16 : 0;
  // UNSPEC, Unix sockets and datagrams: no address for us; the specification lets a receiver use the real one.
  if (size === 0) return local;
  if (body < size * 2 + 4) return invalid('PROXY addresses cut short');
  const text = (at: number): string =>
    unmapAddress(
      size === 4
        ? bytes.subarray(at, at + 4).join('.')
        : (bytes.toString('hex', at, at + 16).match(/.{4}/g) ?? [])
            .map(group => group.replace(/^0{1,3}/, ''))
            .join(':'),
    );
  const ports = 16 + size * 2;
  return {
    kind: 'done',
    length,
    header: {
      kind: 'proxied',
      source: { address: text(16), port: bytes.readUInt16BE(ports) },
      destination: { address: text(16 + size), port: bytes.readUInt16BE(ports + 2) },
    },
  };
}

/**
 * Reads the header off a fresh socket. What follows it is left in the socket. Rejects when the header is malformed, does
 * not arrive in `timeoutMs`, or the peer leaves; the caller then destroys the socket.
 */
export function readProxyHeader(socket: Socket, timeoutMs: number, clock: Clock): Promise<ProxyHeader> {
  return new Promise((resolve, reject) => {
    let seen: Buffer = Buffer.alloc(0);
    const finish = (settle: () => void): void => {
      cancel();
      socket.removeListener('readable', onReadable);
      socket.removeListener('error', onGone);
      socket.removeListener('close', onGone);
      socket.removeListener('end', onGone);
      settle();
    };
    const onGone = (error?: unknown): void =>
      finish(() => reject(new Error('Connection ended before the PROXY header', { cause: error })));
    const onReadable = (): void => {
      for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
        seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
        const parsed = parseProxyHeader(seen);
        if (parsed.kind === 'more') continue;
        finish(() => {
          if (parsed.kind === 'invalid') return reject(new Error(`Refused a connection: ${parsed.why}`));
          const rest = seen.subarray(parsed.length);
          if (rest.length > 0) socket.unshift(rest);
          resolve(parsed.header);
        });
        return;
      }
    };
    const cancel = clock.after(timeoutMs, () =>
      finish(() => reject(new Error('Waited too long for the PROXY header'))),
    );
    socket.on('error', onGone);
    socket.on('close', onGone);
    socket.on('end', onGone);
    socket.on('readable', onReadable);
  });
}
