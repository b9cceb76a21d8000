// Next hops for faults that a real server does not show on demand, and what the tests of the relay share.
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { systemClock } from '../../../core/lib/clock.ts';
import type { Address } from '../../../core/mail/address.ts';
import type { Recipient } from '../../../core/mail/envelope.ts';
import type { Rope } from '../../../core/mail/rope.ts';
import { createDns } from '../../../core/net/dns.ts';
import type { RelayJob } from '../../../core/relay/envelope-lines.ts';
import type { RelayTarget } from '../../../core/relay/route.ts';
import { createRelay, type Relay, type RelayParts } from '../../../core/relay/smtp-transport.ts';

export interface Teardown {
  teardown(run: () => Promise<void> | void): unknown;
}

export const silent = pino({ level: 'silent' });

export function address(text: string): Address {
  const at = text.lastIndexOf('@');
  return { local: text.slice(0, at), domain: text.slice(at + 1), text };
}
export const rcpt = (text: string, more: Omit<Recipient, 'address'> = {}): Recipient => ({
  address: address(text),
  ...more,
});
export const ropeOf = (bytes: Buffer | string): Rope => {
  const buffer = Buffer.from(bytes);
  return { size: buffer.length, pieces: [buffer] };
};
export const message = 'From: a@example.org\r\nSubject: relay\r\n\r\nhello\r\n.dot\r\n..two\r\n';
export const jobOf = (id: string, body: Rope = ropeOf(message), more: Partial<RelayJob> = {}): RelayJob => ({
  id,
  sender: address('from@example.org'),
  envelope: { smtputf8: false, requireTls: false },
  form: body,
  ...more,
});

/** Nothing ends the attempt early. */
export const never = (): { readonly signal: AbortSignal } => new AbortController();

export function target(ports: readonly number[], more: Partial<RelayTarget> = {}): RelayTarget {
  return {
    kind: 'relay',
    protocol: 'smtp',
    hosts: ports.map(port => ({ host: '127.0.0.1', port, mx: false })),
    tls: { kind: 'opportunistic' },
    direct: true,
    ...more,
  };
}

export function relay(t: Teardown, more: Partial<RelayParts> = {}): Relay {
  const dns = createDns({ clock: systemClock, servers: ['127.0.0.1:9'] });
  const made = createRelay({ clock: systemClock, dns, log: silent, hostname: 'gateway.test', ...more });
  t.teardown(async () => {
    await made.close();
    dns.close();
  });
  return made;
}

/** What a peer does at a command: a reply, `drop` (the connection), `hang` (say nothing any more). */
export type Move = string | 'drop' | 'hang';
export interface Peer {
  readonly port: number;
  /** Command lines as they came. */
  readonly commands: string[];
  /** Bodies as they came, dots unstuffed. */
  readonly bodies: string[];
  connections: number;
  /** Connections that heard all that they will ever hear. */
  hung: number;
}
export interface PeerScript {
  readonly extensions?: readonly string[];
  readonly greeting?: Move;
  /** Answers for a verb (`MAIL`, `DATA`, `.` for the end of data …); undefined: as a good server does. */
  readonly on?: (verb: string, line: string, peer: Peer) => Move | undefined;
  /** Drop the connection after so many bytes of a body. */
  readonly dropInBody?: boolean;
}

const usual: Readonly<Record<string, string>> = {
  MAIL: '250 2.1.0 ok',
  RCPT: '250 2.1.5 ok',
  DATA: '354 go',
  '.': '250 2.0.0 taken',
  RSET: '250 2.0.0 ok',
  QUIT: '221 2.0.0 bye',
  XCLIENT: '220 peer.test again',
  XFORWARD: '250 2.0.0 ok',
};

export async function startPeer(t: Teardown, script: PeerScript = {}): Promise<Peer> {
  const sockets = new Set<Socket>();
  const peer: Peer = { port: 0, commands: [], bodies: [], connections: 0, hung: 0 };
  const server = net.createServer(socket => {
    peer.connections += 1;
    sockets.add(socket.once('close', () => sockets.delete(socket)));
    socket.on('error', () => undefined);
    talk(socket, script, peer);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  (peer as { port: number }).port = (server.address() as AddressInfo).port;
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>(resolve => server.close(() => resolve()));
  });
  return peer;
}

function talk(socket: Socket, script: PeerScript, peer: Peer): void {
  let hung = false;
  let body: string[] | undefined;
  let chunkLeft = 0;
  let accepted = 0;
  let inMail = false;
  const hang = (): void => {
    hung = true;
    peer.hung += 1;
  };
  const make = (verb: string, line: string): boolean => {
    const move = script.on?.(verb, line, peer) ?? usual[verb] ?? '502 5.5.2 what?';
    if (move === 'drop') socket.destroy();
    else if (move === 'hang') hang();
    else socket.write(`${move}\r\n`);
    if (verb === 'MAIL') {
      accepted = 0;
      inMail = move.startsWith('2');
    }
    if (verb === 'RCPT' && inMail && move.startsWith('2')) accepted += 1;
    return !['drop', 'hang'].includes(move);
  };
  const greet = script.greeting ?? '220 peer.test ESMTP';
  if (greet === 'drop') socket.destroy();
  else if (greet === 'hang') hang();
  else socket.write(`${greet}\r\n`);
  // Lines keep their bytes; the tests send ASCII.
  const lines = createInterface({ input: socket, crlfDelay: Number.POSITIVE_INFINITY });
  lines.on('error', () => undefined);
  lines.on('line', line => {
    if (hung) return;
    if (body) {
      if (chunkLeft > 0) {
        body.push(line);
        chunkLeft -= line.length + 2;
        if (chunkLeft > 0) return;
      } else if (line !== '.') {
        body.push(line.startsWith('.') ? line.slice(1) : line);
        if (script.dropInBody) socket.destroy();
        return;
      }
      if (accepted > 0) peer.bodies.push(`${body.join('\r\n')}\r\n`);
      body = undefined;
      if (accepted > 0) make('.', line);
      else socket.write('503 5.5.1 nobody to take it\r\n');
      return;
    }
    peer.commands.push(line);
    const [verb = ''] = line.toUpperCase().split(/[ :]/);
    if (verb === 'EHLO' || verb === 'LHLO') {
      const custom = script.on?.(verb, line, peer);
      if (custom !== undefined) make(verb, line);
      else
        socket.write(
          ['250-peer.test', ...(script.extensions ?? ['PIPELINING']).map(each => `250-${each}`), '250 HELP', ''].join(
            '\r\n',
          ),
        );
    } else if (verb === 'BDAT') {
      body = [];
      chunkLeft = Number(line.split(' ')[1]);
    } else if (make(verb, line) && verb === 'DATA' && (script.on?.('DATA', line, peer) ?? '354').startsWith('354'))
      body = [];
  });
}
